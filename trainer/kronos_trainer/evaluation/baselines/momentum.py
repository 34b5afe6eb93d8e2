"""Ranks of symbols by their latest return, in its direction or against it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kronos_trainer.evaluation.baselines.returns import log_returns
from kronos_trainer.evaluation.cells import Forecast, Origin
from kronos_trainer.forecast.consistency import CLOSE


class Momentum:
    """What has risen most over some bars is expected to rise most, or, as a reversal, least."""

    def __init__(self, bars: int, *, reversal: bool = False) -> None:
        kind, what = ("reversal", "minus the return") if reversal else ("momentum", "return")
        self.name = f"{kind}{bars}"
        self.label = f"{kind}: {what} of the last {bars} bars"
        self._bars = bars
        self._sign = -1.0 if reversal else 1.0

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Ranks; NaN with fewer bars."""
        returns = np.array([_last_return(origin, self._bars) for origin in origins], np.float64)
        return Forecast(rank=self._sign * returns)


def _last_return(origin: Origin, bars: int) -> float:
    if len(origin.bars) <= bars:
        return np.nan
    return float(log_returns(origin.bars[[-1 - bars, -1], CLOSE])[0])
