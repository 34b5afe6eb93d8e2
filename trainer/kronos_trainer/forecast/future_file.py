"""Reads the times of the bars to come from a file. Called by the forecast command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from kronos_trainer.columns import ALIASES, normalised
from kronos_trainer.errors import DataError
from kronos_trainer.timestamps import MISSING, StampReader
from kronos_trainer.zones import DAY, local_times


def read_future(
    path: Path, horizon: int, *, after: pd.Timestamp, history: Path, zone: str | None, time_zone: str | None
) -> pd.DatetimeIndex:
    """The first `horizon` times of a CSV file with a column `timestamps`; they must ascend from `after`.

    `history` is the file of the bars before, `zone` that of its clock (None where it names none), and `time_zone` that
    of the model. Stamps with a zone are turned to the history's clock. Raises DataError naming file and line, or both
    files where one gives a zone, the other none, and the model none either.
    """
    try:
        frame = pd.read_csv(path, dtype="str", skip_blank_lines=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not readable as CSV: {error}") from None
    column = next((name for name in frame.columns if normalised(name) in ALIASES["timestamps"]), None)
    if column is None:
        raise DataError(
            f"{path}: no column timestamps; the header has {', '.join(map(repr, frame.columns)) or 'nothing'}"
        )
    if len(frame) < horizon:
        raise DataError(f"{path}: {len(frame)} timestamp(s) for a horizon of {horizon}; add rows or lower --horizon")

    reader = StampReader(path, column)
    instants = reader.read(frame[column])[:horizon]
    missing = np.flatnonzero(instants == MISSING)
    if len(missing):
        row = missing[0]
        raise DataError(f"{path}: line {row + 2}, column {column}: {frame[column].iloc[row]!r} is no valid timestamp")
    clock = zone or time_zone
    if reader.aware and clock is None:
        raise DataError(
            f"{path}: column {column}: its stamps carry a time zone, and those of {history} none; write both in one way"
        )
    dates = after == after.normalize() and (instants % DAY == 0).all()
    if not reader.aware and zone == "UTC" and time_zone is None and not dates:
        raise DataError(
            f"{path}: column {column}: its stamps carry no time zone, and those of {history} do; write both in one way"
        )
    times = local_times(instants, clock) if reader.aware else instants
    future = pd.DatetimeIndex(times.view("datetime64[ns]"))
    backwards = np.flatnonzero(np.diff(times, prepend=after.value) <= 0)
    if len(backwards):
        row = backwards[0]
        before = f"the last bar, {after}" if row == 0 else f"line {row + 1}"
        raise DataError(f"{path}: line {row + 2}, column {column}: {future[row]} does not come after {before}")
    return future
