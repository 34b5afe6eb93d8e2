"""Forecasts of a pair of nets at origins, and what came after these. Called by the evaluation stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kronos_trainer.data.bars import Bars
from kronos_trainer.evaluation.cells import Floats, Int64, Origin, Outcome
from kronos_trainer.evaluation.garman_klass import garman_klass
from kronos_trainer.forecast.consistency import CLOSE
from kronos_trainer.forecast.drawing import Drawer
from kronos_trainer.forecast.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class NetForecaster:
    """A tokenizer and a predictor, and how they were trained."""

    drawer: Drawer
    lookback: int
    horizon: int

    def bars(self, bars: Bars, rows: Int64, sampling: Sampling, beat: Callable[[], None] = lambda: None) -> Floats:
        """Sampled bars [B, S, H, 6] after the origins in these rows [B], as the nets drew them.

        A series' random numbers depend on its seed and history alone, so that nets with one lookback share them (common
        random numbers). The nets are told the times of the bars to come, and nothing else of these. NaN where a symbol
        has fewer bars than the lookback.
        """
        symbols = np.searchsorted(bars.offsets, rows, side="right") - 1
        enough = rows + 1 - self.lookback >= bars.offsets[symbols]
        if not enough.all():
            found = np.full((len(rows), sampling.samples, self.horizon, 6), np.nan)
            if enough.any():
                found[enough] = self.bars(bars, rows[enough], sampling, beat)
            return found
        values = np.stack([bars.values[row + 1 - self.lookback : row + 1] for row in rows])
        stamps = np.stack([bars.stamps[row + 1 - self.lookback : row + 1 + self.horizon] for row in rows])
        return np.concatenate(list(self.drawer.draw_rows(values, stamps, sampling, beat=beat)))


def outcome_of(bars: Bars, rows: Int64, *, lookback: int, horizon: int) -> Outcome:
    """What came after the origins in these rows [B]."""
    future = np.stack([bars.values[row + 1 : row + 1 + horizon] for row in rows]).astype(np.float64)
    return Outcome(
        close=relative_close(bars, rows, future[..., CLOSE]),
        scale=np.abs(lookback_changes(bars, rows, lookback)).mean(axis=1),
        variance=garman_klass(future).sum(axis=-1),
    )


def lookback_changes(bars: Bars, rows: Int64, lookback: int) -> Floats:
    """One-step changes [B, T-1] of 100 x log close over the lookbacks ending at these rows [B]; NaN at prices <= 0."""
    closes = np.stack([bars.values[row + 1 - lookback : row + 1, CLOSE] for row in rows]).astype(np.float64)
    return np.asarray(np.diff(100 * np.log(closes, out=np.full(closes.shape, np.nan), where=closes > 0), axis=1))


def relative_close(bars: Bars, rows: Int64, closes: Floats) -> Floats:
    """100 x log(close / close of the origin) of closes [B, ..., H]; NaN where one of both is not above 0."""
    origin = bars.values[rows, CLOSE].astype(np.float64).reshape(-1, *[1] * (closes.ndim - 1))
    ratio = np.divide(closes, origin, out=np.full(closes.shape, np.nan), where=(origin > 0) & (closes > 0))
    return np.asarray(100 * np.log(ratio))


def origins_of(bars: Bars, rows: Int64, *, start: int, lookback: int, horizon: int) -> list[Origin]:
    """What baselines may see at the origins in these rows [B]; what they fit once, they fit before `start` (ns)."""
    symbols = np.searchsorted(bars.offsets, rows, side="right") - 1
    every = {int(symbol): bars.ordered_times(symbol) for symbol in np.unique(symbols)}
    found = []
    for row, symbol in zip(rows.tolist(), symbols.tolist(), strict=True):
        begin, times = bars.offsets[symbol], every[symbol]
        found.append(
            Origin(
                symbol=bars.symbols[symbol],
                bars=bars.values[begin : row + 1],
                times=times[: row + 1 - begin],
                fitted=int(np.searchsorted(times, start)),
                lookback=lookback,
                horizon=horizon,
            )
        )
    return found
