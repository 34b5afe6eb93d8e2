"""Bars behind a URI: a local copy of their current version."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from kronos_trainer.config import KINDS, bars_among
from kronos_trainer.data.quality.findings import some
from kronos_trainer.errors import DataError
from kronos_trainer.storage import durable
from kronos_trainer.storage.stores import open_reader


def fetch_bars(uri: str, cache: Path, beat: Callable[[], None] = lambda: None) -> Path:
    """Local copy of a file or of the files of bars below a URI, downloaded unless the cache has this version of them.

    `beat` is called while data arrives. Raises InputMissing if nothing readable is found, DataError if nothing is a
    file of bars, StorageError if the transfer fails or the bars change under it.
    """
    store = open_reader(uri)
    found = store.find()
    single = [item.name for item in found] == [""]
    bars = {name.as_posix() for name in bars_among(PurePosixPath(item.name) for item in found)}
    wanted = found if single else [item for item in found if item.name in bars]
    if not wanted:
        raise DataError(
            f"{uri}: no bars here: a directory needs files of bars ({KINDS}); found only "
            f"{some([item.name for item in found])}"
        )
    # Versions enter the name of the copy, so that bars that changed are downloaded again.
    versions = [(item.name, item.version) for item in wanted]
    copy = cache / hashlib.sha256(repr((uri, versions)).encode()).hexdigest()[:16]
    alone = PurePosixPath(uri).name  # a single file keeps its name, which is its symbol

    def fill(aside: Path) -> None:
        files = [(item, aside / (item.name or alone)) for item in wanted]
        for directory in {path.parent for _, path in files}:
            directory.mkdir(parents=True, exist_ok=True)
        store.download(files, beat)

    if not copy.exists():
        durable.write_directory(copy, fill)
    return copy / alone if single else copy
