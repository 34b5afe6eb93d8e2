"""What was drawn -> a frame in the form of the caller's. Called by the forecaster."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from kronos_trainer.forecast.drawing import Drawn
from kronos_trainer.forecast.frames import Bars, Series, symbol_column, symbol_level, symbols_on_top
from kronos_trainer.forecast.kind import Kind
from kronos_trainer.forecast.outcome import PATH, columns_of

NOTES = "notes"  # in the attributes of a result


def in_form_of(
    bars: Bars,
    every: Sequence[Series],
    futures: Sequence[pd.DatetimeIndex],
    drawn: Sequence[Drawn],
    kind: Kind,
    notes: list[str],
) -> Any:
    """A dict of frames where `bars` is one, else a frame with the same index and the same structure of symbols."""
    frames = {
        series.symbol: _frame(series, future, one, kind)
        for series, future, one in zip(every, futures, drawn, strict=True)
    }
    if isinstance(bars, Mapping):
        for frame in frames.values():
            frame.attrs[NOTES] = notes
        return frames
    result = _joined(bars, frames, kind)
    result.attrs[NOTES] = notes
    return result


def _frame(series: Series, future: pd.DatetimeIndex, drawn: Drawn, kind: Kind) -> pd.DataFrame:
    rows, bar = columns_of(drawn, kind)
    index = series.index
    if index is None:
        rows.insert(0, "timestamps", future[bar])
        return rows
    stamps: pd.Index = future[bar]
    if isinstance(index, pd.PeriodIndex):
        stamps = future[bar].to_period(index.freqstr)
    elif isinstance(index, pd.DatetimeIndex):
        stamps = future[bar].as_unit(index.unit)
    return rows.set_index(stamps.rename(index.name))


def _joined(bars: pd.DataFrame, frames: Mapping[Hashable, pd.DataFrame], kind: Kind) -> pd.DataFrame:
    if isinstance(bars.columns, pd.MultiIndex):
        parts = {name: frame.set_index(PATH, append=True) if kind.paths else frame for name, frame in frames.items()}
        wide = pd.concat(parts, axis=1, names=list(bars.columns.names))
        if not symbols_on_top(bars.columns):
            wide = wide.swaplevel(axis=1)
        wide.columns.names = bars.columns.names
        return wide
    if isinstance(bars.index, pd.MultiIndex):
        level = symbol_level(bars.index)
        long = pd.concat(frames)
        if level == 1:
            long = long.swaplevel()
        long.index.names = bars.index.names
        return long
    column = symbol_column(bars)
    if column is None:
        return next(iter(frames.values()))
    for name, frame in frames.items():
        frame.insert(0, column, [name] * len(frame))
    index = next(iter(frames.values())).index
    return pd.concat(frames.values(), ignore_index=isinstance(index, pd.RangeIndex))
