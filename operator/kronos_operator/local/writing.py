"""Writes of local runs: nothing half-written is ever read, and a full disk is a LocalError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kronos_operator.local.settings import LocalError
from kronos_trainer.config import ExitCode, not_written, replace_file


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns an operating system error inside into a LocalError (74) that names `path` and the free space."""
    try:
        yield
    except OSError as error:
        raise LocalError(ExitCode.STORAGE, not_written(path, error)) from error


def write(text: str, path: Path) -> None:
    """Replaces a file's content in one step. Raises LocalError (74)."""
    with storing(path):
        replace_file(path, lambda aside: aside.write_text(text))
