"""Reads the times of the bars to come from a file. Called by the forecast command."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from kronos_trainer.config import PARQUET_SUFFIXES
from kronos_trainer.data.labels import starts
from kronos_trainer.data.reading.columns import ALIASES, normalised
from kronos_trainer.data.reading.timestamps import MISSING, StampReader
from kronos_trainer.data.zones import DAY, local_times
from kronos_trainer.errors import DataError

_UNREADABLE = (ValueError, OSError, EOFError, csv.Error, pa.ArrowException)


class FutureFile:
    """A CSV or Parquet file with a column of timestamps, or one of days and one of times of day (MetaTrader's)."""

    def __init__(self, path: Path) -> None:
        """Raises DataError naming file and line."""
        self.path = path
        self._parquet = path.name.lower().endswith(PARQUET_SUFFIXES)
        frame = self._frame()
        filled = np.flatnonzero(frame.notna().any(axis=1))
        frame = frame[: filled[-1] + 1 if len(filled) else 0]  # without empty lines at the end
        names = {normalised(str(name)): name for name in reversed(frame.columns)}
        stamps = next((names[alias] for alias in ALIASES["timestamps"] if alias in names), None)
        if stamps is None:
            raise DataError(
                f"{path}: no column timestamps; the header has {', '.join(map(repr, frame.columns)) or 'nothing'}"
            )
        self.column = str(stamps)
        reader = StampReader(path, self.column)
        self._given = frame[stamps]
        if normalised(self.column) == "date" and "time" in names:
            self._given = reader.joined(self._given, frame[names["time"]])
        self._instants = reader.read(self._given) if len(frame) else np.empty(0, np.int64)
        self._aware = bool(reader.aware)

    def __len__(self) -> int:
        return len(self._instants)

    def times(
        self,
        horizon: int,
        *,
        after: pd.Timestamp,
        history: Path,
        zone: str | None,
        time_zone: str | None,
        step: int | None = None,
    ) -> pd.DatetimeIndex:
        """The first `horizon` times; they must ascend from `after`.

        `history` is the file of the bars before, `zone` that of its clock (None where it names none), and `time_zone`
        that of the model. `step` (ns): the stamps are the ends of bars so long, as the history's were; None: they are
        the starts, which are returned. Stamps with a zone are turned to the history's clock.

        Raises DataError naming file and line, or both files where one gives a zone, the other none, and the model none
        either.
        """
        if len(self) < horizon:
            raise DataError(
                f"{self.path}: {len(self)} timestamp(s) for a horizon of {horizon}; add rows or lower --horizon"
            )
        instants = self._instants[:horizon]
        missing = np.flatnonzero(instants == MISSING)
        if len(missing):
            raise DataError(f"{self._place(missing[0])}: {self._given.iloc[missing[0]]!r} is not a valid timestamp")
        clock = zone or time_zone
        if self._aware and clock is None:
            raise DataError(
                f"{self.path}: column {self.column}: its timestamps have a time zone, but those of {history} have "
                "none; use one form"
            )
        dates = after == after.normalize() and (instants % DAY == 0).all()
        if not self._aware and zone == "UTC" and time_zone is None and not dates:
            raise DataError(
                f"{self.path}: column {self.column}: its timestamps have no time zone, but those of {history} have "
                "one; use one form"
            )
        times = local_times(instants, clock) if self._aware else instants
        times = times if step is None else starts(times, step)
        future = pd.DatetimeIndex(times.view("datetime64[ns]"))
        backwards = np.flatnonzero(np.diff(times, prepend=after.value) <= 0)
        if len(backwards):
            row = backwards[0]
            before = f"the last bar, {after}" if row == 0 else f"{self._unit} {row + self._first - 1}"
            raise DataError(f"{self._place(row)}: {future[row]} does not come after {before}")
        return future

    @property
    def _unit(self) -> str:
        return "row" if self._parquet else "line"

    @property
    def _first(self) -> int:
        return 1 if self._parquet else 2

    def _place(self, row: int) -> str:
        return f"{self.path}: {self._unit} {row + self._first}, column {self.column}"

    def _frame(self) -> pd.DataFrame:
        kind = "Parquet" if self._parquet else "CSV"
        try:
            if self._parquet:
                frame = pd.read_parquet(self.path)
                named = any(normalised(str(name)) in ALIASES["timestamps"] for name in frame.columns)
                return frame if named else frame.reset_index()
            with self.path.open(encoding="utf-8-sig", newline="") as stream:
                line = stream.readline()
            return pd.read_csv(
                self.path,
                sep=max(",;\t|", key=line.count),
                dtype="str",
                skip_blank_lines=False,
                encoding="utf-8-sig",
            )
        except _UNREADABLE as error:
            raise DataError(f"{self.path}: not readable as {kind}: {error}") from None
