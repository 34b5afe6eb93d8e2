"""Files that are replaced in one step and survive a power cut. Each side turns an OSError into an error of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

ASIDE = ".aside-"  # prefix of what is not in place yet; a killed writer leaves it behind


def replace_file(path: Path, fill: Callable[[Path], object]) -> None:
    """Replaces a file by the one that `fill` writes at the path it is given: readers see the old one or the new.

    Raises OSError, and leaves the old one then.
    """
    make_directory(path.parent)
    aside = path.with_name(f"{ASIDE}{path.name}")
    try:
        fill(aside)
        sync(aside)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def make_directory(directory: Path) -> None:
    """Creates a directory and its parents so that they survive a power cut. Raises OSError."""
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync(place.parent)


def sync(path: Path) -> None:
    """Returns once a file's content, or a directory's names, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
