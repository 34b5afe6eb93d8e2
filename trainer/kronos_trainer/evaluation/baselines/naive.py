"""The two simplest forecasts: the price stays, and the price moves on as it did on average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kronos_trainer.evaluation.baselines.returns import (
    FEWEST,
    bootstrapped,
    finite,
    log_returns,
    stacked,
)
from kronos_trainer.evaluation.cells import Floats, Forecast, Origin
from kronos_trainer.forecast.consistency import CLOSE


class Naive:
    """The median is the last close; the band is a bootstrap of the one-step returns of the lookback."""

    name = "naive"
    label = "naive: last close, band from past returns"

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Paths of closes; NaN without two returns in the lookback."""
        paths = [bootstrapped(lookback_returns(origin), origin, samples=samples, seed=seed) for origin in origins]
        return Forecast(close=stacked(paths, samples=samples))


class Drift:
    """The paths of `Naive`, each step moved by the mean return of the lookback."""

    name = "drift"
    label = "drift: past mean return, band from past returns"

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Paths of closes; NaN without two returns in the lookback."""
        paths = []
        for origin in origins:
            returns = lookback_returns(origin)
            mean = returns.mean() if len(returns) >= FEWEST else np.nan
            moved = mean * np.arange(1, origin.horizon + 1)
            paths.append(bootstrapped(returns, origin, samples=samples, seed=seed) + moved)
        return Forecast(close=stacked(paths, samples=samples))


def lookback_returns(origin: Origin) -> Floats:
    """One-step returns between the bars of the lookback, without those that do not exist: at most lookback - 1."""
    return finite(log_returns(origin.bars[-origin.lookback :, CLOSE]))
