"""The files of a directory of weights; checked without torch, to report a missing one before torch is imported."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kronos_trainer.errors import InputMissing

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def present(directory: Path, name: str) -> Path:
    """The file of this name in a directory of weights. Raises InputMissing if either is missing."""
    path = directory / name
    if not directory.is_dir():
        raise InputMissing(f"{directory}: no such directory; it should contain {CONFIG} and {WEIGHTS}")
    if not path.is_file():
        raise InputMissing(f"{path}: no such file; a model is a directory with {CONFIG} and {WEIGHTS}")
    return path


def weights_digest(directory: Path) -> str:
    """SHA-256, in hex, over config.json and model.safetensors. Raises InputMissing when one is absent."""
    total = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with present(directory, name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
