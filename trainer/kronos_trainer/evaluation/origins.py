"""From which bars forecasts are made: dates that all symbols and all forecasters share, chosen before any is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kronos_trainer.config import Window
from kronos_trainer.data.bars import Bars
from kronos_trainer.evaluation.cells import Int64

MOST_DATES = 250  # more narrow no interval by much, and each costs a forecast of every symbol


@dataclass(frozen=True, kw_only=True)
class Dates:
    """D dates, one horizon apart, and the row of each symbol's origin there."""

    times: Int64  # [D], ascending: wall-clock ns of the origins
    rows: Int64  # [D, N]: row of the origin in Bars; -1: the symbol has too few bars around it
    stride: int  # bars of the common calendar between two dates

    def __len__(self) -> int:
        return len(self.times)

    def texts(self) -> tuple[str, ...]:
        """The dates as ISO 8601, without a time where all are at midnight."""
        return tuple(instant_texts(self.times))


def dates_of(bars: Bars, span: tuple[int, int], window: Window, *, embargo: int = 0, most: int = MOST_DATES) -> Dates:
    """The dates in a span [start, end) of wall-clock ns.

    The common calendar has the instants of the span at which at least half as many symbols have a bar as at the
    busiest. Origins are one horizon apart on it, and no forecast reaches into its first `embargo` bars or past its end;
    the lookback may be older. If they are more than `most`, as many are taken, evenly spaced.
    """
    calendar = _calendar(bars, span)
    first = max(0, embargo - 1, int(np.searchsorted(calendar, _earliest(bars, window.lookback))))
    origins = calendar[first : max(first, len(calendar) - window.horizon) : window.horizon]
    times = origins[evenly(len(origins), most)]
    rows = np.full((len(times), len(bars.symbols)), -1, np.int64)
    for symbol in range(len(bars.symbols)):
        own = bars.ordered_times(symbol)
        at = np.searchsorted(own, times)
        there = at < len(own)
        there[there] = own[at[there]] == times[there]
        last = at + window.horizon
        usable = there & (at + 1 >= window.lookback) & (last < len(own))
        usable[usable] = own[last[usable]] < span[1]
        rows[usable, symbol] = bars.offsets[symbol] + at[usable]
    used = (rows >= 0).any(axis=1)
    return Dates(times=times[used], rows=rows[used], stride=window.horizon)


def spread_order(count: int) -> list[int]:
    """The numbers 0..count-1 so that those of any beginning are spread over all (van der Corput's sequence, base 2).

    An evaluation that is cut short has then seen all of the span.
    """
    bits = max(1, (count - 1).bit_length())
    turned = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits))
    return [number for number in turned if number < count]


def evenly(count: int, most: int) -> Int64:
    """At most so many of the numbers 0..count-1, evenly spaced, ascending."""
    if count <= most:
        return np.arange(count)
    return np.round(np.linspace(0, count - 1, most)).astype(np.int64)


def instant_texts(times: npt.NDArray[np.int64]) -> list[str]:
    """Wall-clock ns as ISO 8601 to the minute, as dates where all are at midnight."""
    minutes = times.astype("datetime64[ns]").astype("datetime64[m]")
    days = minutes.astype("datetime64[D]")
    return [str(instant).replace("T", " ") for instant in (days if (days == minutes).all() else minutes)]


def _earliest(bars: Bars, lookback: int) -> int:
    """The first instant at which any symbol has its lookback."""
    full = bars.offsets[:-1][np.diff(bars.offsets) >= lookback] + lookback - 1
    return int(bars.times[full].min(initial=np.iinfo(np.int64).max))


def _calendar(bars: Bars, span: tuple[int, int]) -> Int64:
    inside = bars.times[(bars.times >= span[0]) & (bars.times < span[1])]
    instants, counts = np.unique(inside, return_counts=True)
    return np.asarray(instants[2 * counts >= counts.max(initial=0)])
