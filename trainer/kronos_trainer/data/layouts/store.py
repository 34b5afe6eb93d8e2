"""Qlib's binary store: calendars/day.txt, and features/<instrument>/<field>.day.bin for each field.

A file of a field holds little-endian float32: the place of its first value in the calendar, then the values. Prices are
adjusted there (price = price as traded * factor, volume = volume as traded / factor), and they are read as they are.
Source: qlib/data/storage/file_storage.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.data.layouts.tables import FrameTable
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.errors import DataError


def stores(files: Sequence[Path]) -> list[Path]:
    """The stores that a list of files belongs to."""
    return sorted({file.parents[2] for file in files if file.suffix == ".bin" and len(file.parents) > 2})


def instruments(store: Path, files: Sequence[Path]) -> Iterator[tuple[str, FrameTable]]:
    """Each instrument of a store and its bars. Raises DataError."""
    bins = [file for file in files if file.suffix == ".bin" and file.parents[2] == store]
    spacings = sorted({file.name.split(".")[-2] for file in bins if file.name.count(".") >= 2})
    if len(spacings) != 1:
        raise DataError(f"{store}: holds bars of {' and '.join(spacings) or 'no spacing'}; keep one spacing")
    spacing = spacings[0]
    calendar_file = store / "calendars" / f"{spacing}.txt"
    if not calendar_file.is_file():
        raise DataError(f"{store}: a Qlib store without {calendar_file.relative_to(store)}")
    calendar = np.array([line.strip() for line in calendar_file.read_text().splitlines() if line.strip()])
    names = _names(store)
    for folder in sorted({file.parent for file in bins}):
        fields = {name: folder / f"{name}.{spacing}.bin" for name in FEATURES}
        series = {name: _values(file, len(calendar)) for name, file in fields.items() if file.is_file()}
        absent = [name for name in FEATURES[:4] if name not in series]
        if absent:
            raise DataError(f"{folder}: no file {', '.join(f'{name}.{spacing}.bin' for name in absent)}")
        first = min(start for start, _ in series.values())
        last = max(start + len(values) for start, values in series.values())
        frame = pd.DataFrame({"timestamps": calendar[first:last]})
        for name, (start, values) in series.items():
            column = np.full(last - first, np.nan)
            column[start - first : start - first + len(values)] = values
            frame[name] = column
        facts = ["prices are adjusted, as Qlib stores them"] if (folder / f"factor.{spacing}.bin").is_file() else []
        yield (
            names.get(folder.name.lower(), folder.name),
            FrameTable(folder, frame, kind="Qlib's binary store", facts=facts),
        )


def _names(store: Path) -> dict[str, str]:
    """Instruments as the store's lists write them, by their folder."""
    lists = sorted((store / "instruments").glob("*.txt"))
    names = [line.split("\t")[0].strip() for file in lists for line in file.read_text().splitlines() if line.strip()]
    return {name.lower(): name for name in names}


def _values(file: Path, length: int) -> tuple[int, npt.NDArray[np.float64]]:
    if file.stat().st_size % 4 or file.stat().st_size < 4:
        raise DataError(f"{file}: truncated: its size is not a multiple of 4 bytes")
    content = np.fromfile(file, "<f4")
    start = int(content[0]) if np.isfinite(content[0]) else -1
    if start < 0 or start + len(content) - 1 > length:
        raise DataError(f"{file}: has {len(content) - 1} values from day {start} on of a calendar of {length}")
    return start, content[1:].astype(np.float64)
