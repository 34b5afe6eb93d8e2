"""Writing so that nothing half-written is ever read: aside, fsync, rename. Used by everything that leaves files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from kronos_trainer.config import ASIDE, StorageCause, atomic, free_space, not_written, storage_cause
from kronos_trainer.errors import StorageError
from kronos_trainer.storage import strict_json


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns an operating system error inside into a StorageError that names `path` and the free space."""
    try:
        yield
    except OSError as error:
        raise StorageError(not_written(path, error), storage_cause(error)) from error


@contextmanager
def storing_anywhere(output: Path) -> Iterator[None]:
    """Turns a full disk inside into a StorageError, whoever wrote: libraries write to places of their own."""
    try:
        yield
    except OSError as error:
        if storage_cause(error) is not StorageCause.NO_ROOM:
            raise
        named = isinstance(error.filename, str)
        places = [Path(error.filename)] if named else [output, Path(os.environ.get("TMPDIR", "/tmp"))]
        free = "; ".join(f"{place}: {free_space(place)}" for place in places)
        raise StorageError(
            f"a disk is full: {error.strerror} ({free}); free disk space", StorageCause.NO_ROOM
        ) from error


def make_directory(directory: Path) -> None:
    """Creates a directory and its parents so that they survive a power cut. Raises StorageError."""
    with storing(directory):
        atomic.make_directory(directory)


def write_text(path: Path, text: str) -> None:
    """Replaces a file's content in one step: readers get the old text or the new. Raises StorageError."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """`write_text` for what is not text. Raises StorageError."""
    write_file(path, lambda aside: aside.write_bytes(content))


def write_file(path: Path, fill: Callable[[Path], object]) -> None:
    """Replaces a file in one step by the one that `fill` writes at the path it is given. Raises StorageError."""
    make_directory(path.parent)
    with storing(path):
        atomic.replace_file(path, fill)


def write_json(path: Path, value: object) -> None:
    """Replaces a file by `value` as indented JSON in one step. Raises StorageError."""
    write_text(path, strict_json.document(value))


def write_directory(final: Path, fill: Callable[[Path], object]) -> None:
    """Makes a directory whose files `fill` writes, and puts it in place complete. Raises StorageError.

    A directory already there is removed first: nothing may reference it yet.
    """
    make_directory(final.parent)
    aside = final.with_name(f"{ASIDE}{final.name}")
    with storing(final):
        remove(aside)
        try:
            aside.mkdir()
            fill(aside)
            # At once: a disk confirms many files together almost as fast as one.
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(atomic.sync, aside.rglob("*")))
            atomic.sync(aside)
            remove(final)
            aside.rename(final)
        except BaseException:
            # Half a directory would keep the space that a later, smaller write could use.
            shutil.rmtree(aside, ignore_errors=True)
            raise
        atomic.sync(final.parent)


def move(source: Path, final: Path) -> None:
    """Puts a complete file or directory in its final place, on the same disk, in one step. Raises StorageError."""
    with storing(final):
        source.replace(final)
        atomic.sync(final.parent)


def remove(directory: Path) -> None:
    """Removes a directory with everything in it, if it exists."""
    if directory.exists():
        shutil.rmtree(directory)
