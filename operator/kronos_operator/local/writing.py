"""Writing on the operator's side so that nothing half-written is read, and a full disk is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kronos_operator.local.settings import LocalError
from kronos_trainer.config import ExitCode, not_written


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns an operating system error inside into a LocalError (74) that names `path` and the free space."""
    try:
        yield
    except OSError as error:
        raise LocalError(ExitCode.STORAGE, not_written(path, error)) from error


def write(text: str, path: Path) -> None:
    """Replaces a file's content in one step. Raises LocalError (74)."""
    aside = path.with_name(f".{path.name}.aside")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(path)
        except OSError:
            with suppress(OSError):
                aside.unlink()
            raise
