"""The files of a directory of weights; checked without torch, to report a missing one before torch is imported."""

from __future__ import annotations

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
