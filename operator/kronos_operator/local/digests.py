"""Digests of what a local run reads, by bytes: bars and initial weights. Neither needs torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from kronos_operator.hashing import Digests
from kronos_operator.local.bars_record import BarsRecord, record_bars
from kronos_operator.local.refusals import WEIGHT_FILES, weights_path
from kronos_operator.local.settings import LocalSettings
from kronos_trainer.config import StageName

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded


def digests_of(loaded: Loaded, settings: LocalSettings) -> tuple[Digests, BarsRecord | None]:
    """Digests of the bars, unless a revision or a URI names them, and of initial weights given by path.

    Those of `init.published` are left to `warm_start`. Returned with what the bars' was taken of.
    """
    data = loaded.model.spec.data
    by_name = data.source.uri is not None or data.revision is not None
    directories = {stage: weights_path(loaded, stage) for stage in StageName}
    weights = {stage: weights_digest(path) for stage, path in directories.items() if path is not None}
    record = None if by_name else record_bars(Path(settings.bars(loaded)))
    return Digests(bars=None if record is None else record.digest, weights=weights), record


def _file_digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def weights_digest(directory: Path) -> str:
    """SHA-256, in hex, of the weights in a directory, as the trainer computes it. Raises OSError."""
    return hashlib.sha256(b"".join(_file_digest(directory / name) for name in WEIGHT_FILES)).hexdigest()
