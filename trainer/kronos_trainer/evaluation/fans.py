"""Forecasts to look at: each shown symbol's best, median and worst date by CRPS, which nobody has picked by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from kronos_trainer.data.bars import Bars
from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.evaluation.document import Fan
from kronos_trainer.evaluation.origins import Dates, evenly, instant_texts
from kronos_trainer.forecast.consistency import CLOSE

MOST_SYMBOLS = 6
BEFORE = 60  # most bars shown before an origin
LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)  # the median, and bands of 50, 80 and 95 %

Closes = Callable[[Int64], Floats]  # rows [B] -> sampled closes [B, S, H], 100 x log relative to the origin's


def fans(
    bars: Bars,
    dates: Dates,
    crps: npt.NDArray[np.floating],
    *,
    horizon: int,
    lookback: int,
    kinds: Mapping[str, Closes],
) -> tuple[Fan, ...]:
    """The fans of some symbols, evenly spaced in their order; `crps` [D, N] is NaN where nothing was scored.

    `kinds` are functions by the name of their field in a Fan: `sampled`, and perhaps `calibrated`.
    """
    scored = np.flatnonzero(np.isfinite(crps).any(axis=0))
    shown = scored[evenly(len(scored), MOST_SYMBOLS)]
    picked = [(symbol, which, date) for symbol in shown for which, date in _extremes(crps[:, symbol])]
    if not picked:
        return ()
    rows = np.array([dates.rows[date, symbol] for symbol, _, date in picked])
    closes = bars.values[rows, CLOSE].astype(np.float64)
    quantiles = {
        name: closes[:, None, None] * np.exp(np.quantile(draw(rows), LEVELS, axis=1).transpose(1, 0, 2) / 100)
        for name, draw in kinds.items()
    }
    return tuple(
        _fan(bars, int(rows[i]), symbol, which, float(crps[date, symbol]), horizon, min(lookback, BEFORE)).model_copy(
            update={name: _nested(found[i]) for name, found in quantiles.items()}
        )
        for i, (symbol, which, date) in enumerate(picked)
    )


def _extremes(crps: npt.NDArray[np.floating]) -> list[tuple[str, int]]:
    dates = np.flatnonzero(np.isfinite(crps))
    order = dates[np.argsort(crps[dates], kind="stable")]
    picked = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return [(which, int(date)) for which, date in picked.items()]


def _fan(bars: Bars, row: int, symbol: int, which: str, crps: float, horizon: int, before: int) -> Fan:
    shown = slice(max(int(bars.offsets[symbol]), row + 1 - before), row + 1 + horizon)
    return Fan(
        symbol=bars.symbols[symbol],
        which=which,
        date=instant_texts(bars.times[row : row + 1])[0],
        crps=crps,
        times=tuple(instant_texts(bars.times[shown])),
        bars=_nested(bars.values[shown, : CLOSE + 1]),
        levels=LEVELS,
    )


def _nested(numbers: npt.NDArray[np.floating]) -> tuple[tuple[float, ...], ...]:
    """Prices with seven significant digits, as many as float32 has."""
    return tuple(tuple(float(f"{number:.7g}") for number in row) for row in numbers)
