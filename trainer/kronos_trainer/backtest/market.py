"""At which prices a backtest trades: the bars from its first date to the end of its last forecast, on one time axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kronos_trainer.data.bars import Bars
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.errors import DataError, InputMissing
from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.evaluation.signals import Signals

_OPEN, _CLOSE = FEATURES.index("open"), FEATURES.index("close")


@dataclass(frozen=True, kw_only=True)
class Market:
    """T bars of N symbols, and D dates. Row 0 is the bar of the first date; everything is sold in the last row."""

    symbols: tuple[str, ...]
    times: Int64  # [T]: every instant at which any symbol has a bar, wall-clock ns
    opens: Floats  # [T, N]: NaN where a symbol has no bar, or none with a price: it cannot be traded there
    prices: Floats  # [T, N]: what a position is worth: the open or, without one, the last close; NaN before the first
    ends: Int64  # [N]: the row in which a symbol has no more bars, now or later; T for one that goes on
    rows: Int64  # [D]: the row in which what was decided at a date is traded: the first bar after it
    there: npt.NDArray[np.bool_]  # [D, N]: whether a symbol has a bar at a date
    unforeseen: int  # pairs of a date and a symbol that has a bar there but no signal

    @property
    def last(self) -> int:
        """The row in which everything is sold."""
        return len(self.times) - 1


def market_of(bars: Bars, signals: Signals) -> Market:
    """The prices around signals that were made from these very bars.

    Raises InputMissing where the bars are others, DataError where no signal can be traded.
    """
    if bars.digest != signals.digest:
        raise InputMissing(
            "the bars are not those that the run was evaluated on: give the old ones with --bars, or run the model "
            "again, which evaluates it on the new ones"
        )
    if not len(signals.times) or not np.isfinite(signals.expected).any():
        raise DataError("the evaluation has made no forecast to trade on: its test span has no date with enough bars")
    own = [bars.ordered_times(symbol) for symbol in range(len(bars.symbols))]
    times = _axis(own, signals)
    shape = len(times), len(own)
    opens, closes = np.full(shape, np.nan), np.full(shape, np.nan)
    ends = np.full(len(own), len(times), np.int64)
    for symbol, instants in enumerate(own):
        first = int(np.searchsorted(instants, times[0]))
        after = int(np.searchsorted(instants, times[-1], side="right"))
        at = np.searchsorted(times, instants[first:after])
        values = bars.values[bars.offsets[symbol] + first : bars.offsets[symbol] + after].astype(np.float64)
        opens[at[::-1], symbol] = values[::-1, _OPEN]  # of two bars with one time, the open of the first
        closes[at, symbol] = values[:, _CLOSE]  # and the close of the second
        if len(instants) and instants[-1] < times[-1]:
            ends[symbol] = np.searchsorted(times, instants[-1], side="right")
    opens[~(opens > 0)] = np.nan
    closes[~(closes > 0)] = np.nan
    at_dates = np.searchsorted(times, signals.times)
    there = np.isfinite(closes[at_dates])
    return Market(
        symbols=bars.symbols,
        times=times,
        opens=opens,
        prices=np.where(np.isfinite(opens), opens, _last_known(closes)),
        ends=ends,
        rows=at_dates + 1,
        there=there,
        unforeseen=int((there & ~np.isfinite(signals.expected)).sum()),
    )


def _axis(own: list[Int64], signals: Signals) -> Int64:
    """From the first date to the first bar after all horizons of the last one, or the last bar that there is."""
    first, last = signals.times[0], signals.times[-1]
    reached = int(last)
    for symbol in np.flatnonzero(np.isfinite(signals.expected[-1])):
        at = int(np.searchsorted(own[symbol], last)) + signals.horizon
        reached = max(reached, int(own[symbol][min(at, len(own[symbol]) - 1)]))
    later = [
        int(instants[at])
        for instants in own
        if (at := int(np.searchsorted(instants, reached, "right"))) < len(instants)
    ]
    end = min(later, default=reached)
    return np.unique(np.concatenate([instants[(instants >= first) & (instants <= end)] for instants in own]))


def _last_known(closes: Floats) -> Floats:
    """The last close before each row [T, N]; NaN before the first."""
    known = np.where(np.isfinite(closes), np.arange(len(closes))[:, None], -1)
    latest = np.vstack([np.full(closes.shape[1], -1), np.maximum.accumulate(known, axis=0)[:-1]])
    return np.where(latest >= 0, np.take_along_axis(closes, np.maximum(latest, 0), axis=0), np.nan)
