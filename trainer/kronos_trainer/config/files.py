"""Which files below a directory hold bars, by their names alone: the operator's side and the trainer must agree."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

PACKED = ("", ".gz", ".bz2", ".xz", ".zst", ".zip")
CSV_SUFFIXES = tuple(kind + packed for kind in (".csv", ".tsv") for packed in PACKED)
PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".feather", ".arrow")
LINES_SUFFIXES = tuple(kind + packed for kind in (".jsonl", ".ndjson") for packed in PACKED)
# Kinds that often hold other things than bars. In a directory they count only if none of the kinds above exists.
MAYBE_SUFFIXES = (*(kind + packed for kind in (".txt", ".json", ".prn") for packed in PACKED), ".zip")

BAR_SUFFIXES = (*CSV_SUFFIXES, *PARQUET_SUFFIXES, *ARROW_SUFFIXES, *LINES_SUFFIXES)
_LONGEST_FIRST = sorted((*BAR_SUFFIXES, *MAYBE_SUFFIXES), key=len, reverse=True)
KINDS = ".csv, .tsv, .txt, .json, .jsonl (also packed: .gz, .bz2, .xz, .zst, .zip), .parquet, .feather"  # for messages

_ABOUT = re.compile(
    r"(readme|licen[cs]e|notice|notes|changelog|requirements|metadata|package|config)\b.*", re.IGNORECASE
)
# Qlib's binary store: calendars/day.txt and features/sh600000/close.day.bin.
_STORE = re.compile(r"(?:.*/)?(?:calendars/[^/]+\.txt|features/[^/]+/[^/]+\.bin)")


def bars_among(names: Iterable[pathlib.PurePath]) -> list[pathlib.PurePath]:
    """Those of the files of a directory, named relative to it, that are files of bars, in the order given."""
    seen = [name for name in names if not any(part.startswith((".", "_")) for part in name.parts)]
    store = [name for name in seen if _STORE.fullmatch(name.as_posix())]
    if any(name.suffix == ".bin" for name in store):
        return store
    sure = [name for name in seen if name.name.lower().endswith(BAR_SUFFIXES)]
    return sure or [name for name in seen if name.name.lower().endswith(MAYBE_SUFFIXES) and not _ABOUT.match(name.name)]


def holds_bars(name: pathlib.PurePath) -> bool:
    """Whether a file of a directory may be one of bars, by its own name alone."""
    return bool(bars_among([name]))


def stem(name: str) -> str:
    """The name of a file of bars without the suffixes of its kind."""
    for suffix in _LONGEST_FIRST:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def files_below(directory: pathlib.Path) -> list[pathlib.Path]:
    """Every file at any depth, sorted; a link to a directory counts as the directory, unless it leads back up."""

    def below(folder: str, above: frozenset[str]) -> Iterator[pathlib.Path]:
        real = os.path.realpath(folder)
        if real in above:
            return
        with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from below(entry.path, above | {real})
                elif entry.is_file():
                    yield pathlib.Path(entry.path)

    return sorted(below(str(directory), frozenset()))


def bytes_below(directory: pathlib.Path) -> int:
    """The size of all files at any depth; one that goes meanwhile, as checkpoints do, counts nothing."""

    def size(file: pathlib.Path) -> int:
        try:
            return file.stat().st_size
        except FileNotFoundError:
            return 0

    return sum(map(size, files_below(directory)))


def bar_files_below(directory: pathlib.Path) -> list[pathlib.Path]:
    """Every file of bars at any depth below a directory, sorted."""
    return [directory / name for name in bars_among(file.relative_to(directory) for file in files_below(directory))]
