"""Digests of what a local run reads, by bytes: bars and initial weights. Neither needs torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kronos_operator.api import Spec
from kronos_operator.hashing import Digests
from kronos_operator.local.settings import LocalError, LocalSettings
from kronos_operator.names import DATA_PATH_ENV
from kronos_trainer.config import ExitCode, StageName, bar_files_below

_WEIGHT_FILES = ("config.json", "model.safetensors")


def digests_of(spec: Spec, settings: LocalSettings) -> Digests:
    """Digests of the bars, unless a revision or a URI names them, and of initial weights given by path.

    Raises LocalError (66) naming what is not there.
    """
    bars = settings.bars(spec)
    if spec.data.source.uri is None:
        _must_exist(Path(bars), spec)
    by_name = spec.data.source.uri is not None or spec.data.revision is not None
    weights = {}
    for stage in StageName:
        path = getattr(spec, stage).init.path
        if path is not None:
            _must_hold_weights(stage, Path(path))
            weights[stage] = weights_digest(Path(path))
    return Digests(bars=None if by_name else files_digest(Path(bars)), weights=weights)


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
    return hashlib.sha256(b"".join(_file_digest(directory / name) for name in _WEIGHT_FILES)).hexdigest()


def _must_hold_weights(stage: StageName, directory: Path) -> None:
    missing = [name for name in _WEIGHT_FILES if not (directory / name).is_file()]
    if missing:
        raise LocalError(
            ExitCode.INPUT_MISSING,
            f"spec.{stage}.init.path: {directory} has no {' and no '.join(missing)}; name a directory that a run or "
            "`hf download` has written",
        )


def _must_exist(bars: Path, spec: Spec) -> None:
    if bars.exists():
        return
    claim = spec.data.source.claim
    named = f"claim {claim.name} is the directory {bars} on this machine" if claim else f"the bars {bars}"
    raise LocalError(
        ExitCode.INPUT_MISSING,
        f"spec.data.source: {named}, which is not there; put the bars there, set {DATA_PATH_ENV} to the directory that "
        "holds them, or write sample bars with `kronos data sample`",
    )
