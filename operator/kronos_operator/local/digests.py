"""Digests of what a local run reads, by bytes: bars and initial weights. Neither needs torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from kronos_operator.hashing import Digests
from kronos_operator.local.refusals import WEIGHT_FILES, weights_path
from kronos_operator.local.settings import LocalSettings
from kronos_trainer.config import StageName, bar_files_below

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded


def digests_of(loaded: Loaded, settings: LocalSettings) -> Digests:
    """Digests of the bars, unless a revision or a URI names them, and of initial weights given by path."""
    data = loaded.model.spec.data
    by_name = data.source.uri is not None or data.revision is not None
    directories = {stage: weights_path(loaded, stage) for stage in StageName}
    weights = {stage: weights_digest(path) for stage, path in directories.items() if path is not None}
    return Digests(bars=None if by_name else files_digest(Path(settings.bars(loaded))), weights=weights)


def files_digest(path: Path) -> str:
    """SHA-256 over the relative names and the bytes of a file, or of all files of bars below a directory."""
    if path.is_file():
        files = [(path.name, path)]
    else:
        files = [(file.relative_to(path).as_posix(), file) for file in bar_files_below(path)]
    digest = hashlib.sha256()
    for name, file in files:
        # Names and contents of fixed length: no two sets of files run together to the same bytes.
        digest.update(hashlib.sha256(name.encode()).digest())
        digest.update(_file_digest(file))
    return digest.hexdigest()


def _file_digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def weights_digest(directory: Path) -> str:
    """SHA-256, in hex, of the weights in a directory, as the trainer computes it. Raises OSError."""
    return hashlib.sha256(b"".join(_file_digest(directory / name) for name in WEIGHT_FILES)).hexdigest()
