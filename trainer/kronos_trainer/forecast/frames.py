"""Frames of bars in any common form -> checked series, and forecasts in the same form. Called for notebooks.

Columns, notations of time and errors are those of the readers. A frame is never modified.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.config import Timeframe
from kronos_trainer.data.labels import starts
from kronos_trainer.data.quality.findings import Findings
from kronos_trainer.data.quality.trading_hours import spacing
from kronos_trainer.data.reading.columns import ALIASES, FEATURES, find, normalised, problem
from kronos_trainer.data.reading.faults import negative_sizes
from kronos_trainer.data.reading.readers import symbol_frame
from kronos_trainer.data.reading.table_reader import LARGEST
from kronos_trainer.data.reading.timestamps import MISSING, StampReader
from kronos_trainer.data.resample import resampled_frame
from kronos_trainer.data.rows import BadRows, Rows
from kronos_trainer.data.series import Adjust, Label
from kronos_trainer.data.zones import local_times
from kronos_trainer.errors import DataError

FRAME = Path("the frame")  # what messages call it, where others name a file
Bars = pd.DataFrame | Mapping[Any, pd.DataFrame]


@dataclass(frozen=True)
class Series:
    """The bars of one symbol."""

    symbol: Hashable
    bars: pd.DataFrame
    """As `readers.read_frame` returns them: naive, by the clock that the model knows."""
    own: pd.DatetimeIndex
    """The stamps of the same bars, ascending, as the caller's frame gives them: naive, or in its zone."""
    index: pd.Index | None
    """The caller's index, if it has the stamps."""

    def local(self) -> tuple[pd.DatetimeIndex, str | None]:
        """The stamps by the clock of their zone, and its name; None where they name none."""
        if self.own.tz is None:
            return self.own, None
        name = getattr(self.own.tz, "key", None) or getattr(self.own.tz, "zone", None)
        # an offset such as +02:00 is no zone: its clock does not change
        return self.own.tz_convert(name or "UTC").tz_localize(None), name or "UTC"

    def as_own(self, local: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Times by the clock of `local()` as the stamps of the series are."""
        _, name = self.local()
        if name is None:
            return local
        summer = np.zeros(len(local), bool)  # of an hour that comes twice, the second
        return local.tz_localize(name, ambiguous=summer, nonexistent="shift_forward").tz_convert(self.own.tz)

    def by_clock(self, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Times given as the series' own stamps are, by the clock of its bars."""
        if times.tz is None:
            return times
        clock = local_times(times.as_unit("ns").asi8, self.bars.attrs["zone"])
        return pd.DatetimeIndex(clock.view("datetime64[ns]"))


def series_of(
    bars: Bars, time_zone: str | None, bad_rows: BadRows, label: Label = "left", adjust: Adjust = "none"
) -> tuple[list[Series], list[str]]:
    """Every symbol of a frame, or of frames by symbol, and notes.

    Symbols are the keys, a column (symbol, ticker, ...), a level of the index, or a level of the columns, as yfinance
    writes them; else there is one, None. Stamps are the index, or a column. Raises DataError naming row and column.
    """
    findings = Findings()
    found = [
        _series(symbol, frame, time_zone, bad_rows, findings, label, adjust)
        for symbol, frame in frames_of(bars).items()
    ]
    return found, findings.notes()


def frames_of(bars: Bars) -> dict[Hashable, pd.DataFrame]:
    """The frame of each symbol, with columns of one level and the stamps as index or column."""
    if isinstance(bars, Mapping):
        return {symbol: _flat(frame) for symbol, frame in bars.items()}
    if not isinstance(bars, pd.DataFrame):
        raise DataError(f"bars are a DataFrame, or a dict of them by symbol; found {type(bars).__name__}")
    if isinstance(bars.columns, pd.MultiIndex):
        return {symbol: _flat(frame) for symbol, frame in _by_columns(bars).items()}
    if isinstance(bars.index, pd.MultiIndex):
        symbols = symbol_level(bars.index)
        return {symbol: part.droplevel(symbols) for symbol, part in bars.groupby(level=symbols, sort=False)}
    column = symbol_column(bars)
    if column is None:
        return {None: bars}
    return {symbol: part.drop(columns=column) for symbol, part in bars.groupby(column, sort=False)}


def symbol_column(bars: pd.DataFrame) -> str | None:
    """The column with the symbol of each row."""
    names = {normalised(name): name for name in reversed(bars.columns) if isinstance(name, str)}
    return next((names[alias] for alias in ALIASES["symbol"] if alias in names), None)


def symbol_level(index: pd.MultiIndex) -> int:
    """The level with the symbol of each row: of two, the one without timestamps. Raises DataError."""
    if index.nlevels == 2:
        stamps = [_is_stamps(index.levels[level], index.names[level]) for level in (0, 1)]
        if stamps[0] != stamps[1]:
            return stamps.index(False)
    names = ", ".join(map(repr, index.names))
    raise DataError(f"{FRAME}: its index has levels {names}; give it one of timestamps and one of symbols")


def symbols_on_top(columns: pd.MultiIndex) -> bool:
    """Whether the first of two levels of columns has the symbols, and not the fields. Raises DataError."""
    fields = {alias for name in FEATURES for alias in ALIASES[name]}
    known = [sum(normalised(str(name)) in fields for name in columns.levels[level]) for level in range(columns.nlevels)]
    if columns.nlevels != 2 or known[0] == known[1]:
        raise DataError(f"{FRAME}: its columns have {columns.nlevels} levels; give one of fields and one of symbols")
    return known[1] > known[0]


def _by_columns(bars: pd.DataFrame) -> dict[Hashable, pd.DataFrame]:
    assert isinstance(bars.columns, pd.MultiIndex)
    level = 0 if symbols_on_top(bars.columns) else 1
    symbols = [name for name in dict.fromkeys(bars.columns.get_level_values(level)) if name != ""]
    # a symbol that does not trade on a day of the others has an empty row there
    return {symbol: pd.DataFrame(bars.xs(symbol, axis=1, level=level)).dropna(how="all") for symbol in symbols}


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"bars of a symbol are a DataFrame; found {type(frame).__name__}")
    if isinstance(frame.columns, pd.MultiIndex):
        parts = _by_columns(frame)
        if len(parts) != 1:
            raise DataError(f"{FRAME}: its columns name {len(parts)} symbols; give one frame a symbol")
        return next(iter(parts.values()))
    return frame


def _is_stamps(index: pd.Index, name: Hashable) -> bool:
    return isinstance(index, pd.DatetimeIndex | pd.PeriodIndex) or normalised(str(name)) in ALIASES["timestamps"]


def _series(
    symbol: Hashable,
    frame: pd.DataFrame,
    time_zone: str | None,
    bad_rows: BadRows,
    findings: Findings,
    label: Label,
    adjust: Adjust,
) -> Series:
    place = FRAME if symbol is None else Path(f"the frame of {symbol}")
    if not len(frame):
        raise DataError(f"{place}: has no rows")
    columns: dict[str, pd.Series] = {
        str(name): frame[name] for name in frame.columns if not _several(frame, name, place)
    }
    index = frame.index if _stamped(frame) else None
    if index is not None:
        stamps = index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index
        columns = {"timestamps": stamps.to_series(index=frame.index)} | {
            name: column for name, column in columns.items() if normalised(name) not in ALIASES["timestamps"]
        }
    header = list(columns)
    found = find(header)
    if not found.complete:
        raise DataError(f"{place}: {problem(header, found)}")
    names = {field: header[at] for field, at in found.places.items()}
    for field, others in found.rivals.items():
        rivals = (names[field], *(header[at] for at in others))
        names[field] = next((one for one in rivals if _filled(columns[one])), names[field])
    clock = next((name for name in header if normalised(name) == "time"), None)
    if normalised(names["timestamps"]) == "date" and clock is not None:
        names["clock"] = clock  # MetaTrader
    rows, own = _rows(
        place, frame.index, {field: columns[name] for field, name in names.items()}, names, bad_rows, findings
    )
    for field, missing in (("volume", findings.without_volume), ("amount", findings.without_amount)):
        if field not in names:
            missing.append(str(place))
    name = str(FRAME) if symbol is None else str(symbol)
    bars = symbol_frame(name, [rows], time_zone, bad_rows, findings, label, adjust)
    if label == "right" or len(bars) != len(own):
        own = _by_zone(bars, own.tz)
    return Series(symbol, bars, own, index)


def _several(frame: pd.DataFrame, name: Hashable, place: Path) -> bool:
    if isinstance(frame[name], pd.DataFrame):
        raise DataError(f"{place}: two columns are called {name!r}; keep one")
    return False


def _stamped(frame: pd.DataFrame) -> bool:
    """Whether the index has the stamps: it is one of times, is called so, or no column is."""
    if _is_stamps(frame.index, frame.index.name):
        return True
    named = any(normalised(str(name)) in ALIASES["timestamps"] for name in frame.columns)
    return (not named and frame.index.dtype == object) or (not named and str(frame.index.dtype).startswith("str"))


def _filled(column: pd.Series) -> bool:
    return bool((pd.to_numeric(column, errors="coerce").fillna(0) != 0).any())


def _rows(
    place: Path,
    labels: pd.Index,
    columns: Mapping[str, pd.Series],
    names: Mapping[str, str],
    bad_rows: BadRows,
    findings: Findings,
) -> tuple[Rows, pd.DatetimeIndex]:
    """Checked rows in the order of the frame, and the stamps as they are given, ascending."""
    reader = StampReader(place, names["timestamps"])
    stamps = columns["timestamps"]
    given = reader.joined(stamps, columns["clock"]) if "clock" in columns else stamps
    instants = reader.read(given.reset_index(drop=True))
    values = np.zeros((len(labels), len(FEATURES)))
    faults = [(instants == MISSING, names["timestamps"], "{value} is not a valid timestamp", given)]
    for index, name in enumerate(FEATURES):
        if name in columns:
            values[:, index] = pd.to_numeric(columns[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
            wrong = ~(np.abs(values[:, index]) <= LARGEST)
            faults.append((wrong, names[name], f"{{value}} is not a number between ±{LARGEST:g}", columns[name]))
    if "amount" not in columns:
        values[:, 5] = values[:, 4] * values[:, :4].mean(axis=1)
    faults += [
        (mask, names[name], what, columns[name]) for mask, name, what in negative_sizes(values) if name in columns
    ]
    bad: npt.NDArray[np.bool_] = np.logical_or.reduce([mask for mask, *_ in faults])
    if bad.any():
        row = int(bad.argmax())
        name, what, column = next(fault[1:] for fault in faults if fault[0][row])
        value = column.iloc[row]
        shown = repr(value) if isinstance(value, str) else str(value)
        problem = f"{place}: row {labels[row]}, column {name}: {what.format(value=shown)}"
        if bad_rows == "refuse":
            raise DataError(f"{problem}; correct it, or skip it with bad_rows='drop'")
        findings.drop(int(bad.sum()), problem, str(place))
    kept, values, numbers = instants[~bad], values[~bad], np.flatnonzero(~bad)
    if not len(kept):
        raise DataError(f"{place}: no usable row")
    rows = Rows(place, "row", str(place), kept, numbers, values, bool(reader.aware), reader.midnights)
    return rows, _own(kept, given, bool(reader.aware))


def _own(instants: npt.NDArray[np.int64], given: pd.Series, aware: bool) -> pd.DatetimeIndex:
    """The stamps, ascending, in the zone that the frame gives them in (UTC for text with an offset)."""
    index = pd.DatetimeIndex(np.unique(instants).view("datetime64[ns]"))
    if not aware:
        return index
    zone = given.dt.tz if isinstance(given.dtype, pd.DatetimeTZDtype) else "UTC"
    return index.tz_localize("UTC").tz_convert(zone)


def stamps_of(future: Sequence[Any] | pd.Index | pd.Series, series: Series, label: Label) -> pd.DatetimeIndex:
    """The starts of bars whose times a caller names, as the series' stamps are: naive, or in its zone.

    Raises DataError.
    """
    place = Path("the future")
    reader = StampReader(place, "future")
    given = (
        pd.Series(list(future))
        if not isinstance(future, pd.Index | pd.Series)
        else pd.Series(future).reset_index(drop=True)
    )
    instants = reader.read(given) if len(given) else np.empty(0, np.int64)
    if (instants == MISSING).any():
        raise DataError(f"{place}: {given[int((instants == MISSING).argmax())]!r} is not a valid timestamp")
    times = pd.DatetimeIndex(instants.view("datetime64[ns]"))
    own = series.own
    if reader.aware and own.tz is None:
        raise DataError(f"{place}: its timestamps have a time zone, but those of the bars have none; use one form")
    if own.tz is not None and reader.aware:
        times = times.tz_localize("UTC").tz_convert(own.tz)
    elif own.tz is not None:
        times = series.as_own(times)
    if label == "right":
        ends = times.tz_localize(None).as_unit("ns").asi8
        begun = starts(ends, spacing(own.tz_localize(None).as_unit("ns").asi8))
        times = times + pd.TimedeltaIndex(begun - ends)
    before = own[-1:].append(times[:-1])
    for time, last in zip(times, before, strict=True):
        if time <= last:
            raise DataError(f"{place}: {time} does not come after {last}")
    return times


def resampled_series(series: Series, timeframe: Timeframe) -> Series:
    """The series in bars of the model's timeframe, if it has finer ones. Raises DataError for coarser ones."""
    bars = resampled_frame(series.bars, timeframe, str(series.symbol))
    if bars is series.bars:
        return series
    bars.attrs["zone"] = series.bars.attrs["zone"]
    return Series(series.symbol, bars, _by_zone(bars, series.own.tz), series.index)


def _by_zone(bars: pd.DataFrame, zone: Any) -> pd.DatetimeIndex:
    """The stamps of bars, in the zone of the caller's; None: naive."""
    times = pd.DatetimeIndex(bars["timestamps"])
    if zone is None:
        return times
    twice = np.zeros(len(times), bool)
    return times.tz_localize(bars.attrs["zone"], ambiguous=twice, nonexistent="shift_forward").tz_convert(zone)
