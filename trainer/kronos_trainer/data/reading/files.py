"""Which files hold bars; called by the readers and for the digest of what was read."""

from __future__ import annotations

from pathlib import Path

from kronos_trainer.config import KINDS, bar_files_below, files_below
from kronos_trainer.data.quality.findings import some
from kronos_trainer.errors import DataError, InputMissing


def bar_files(path: Path) -> list[Path]:
    """Every file of bars at or under `path`, sorted; names that begin with a dot or underscore are left out.

    A file that is given itself is used whatever its name. Raises InputMissing when the path is absent, DataError when
    a directory holds no such file.
    """
    if path.is_file():
        if path.suffix == ".bin":
            raise DataError(f"{path}: one field of a Qlib store; pass the store, the directory that contains calendars")
        return [path]
    if not path.is_dir():
        raise InputMissing(f"{path}: no such file or directory of bars")
    files = bar_files_below(path)
    if not files:
        seen = files_below(path)
        found = f"; found only {some([file.name for file in seen])}" if seen else "; it is empty"
        raise DataError(f"{path}: no bars here: a directory needs files of bars ({KINDS}){found}")
    return files
