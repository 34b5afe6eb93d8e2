"""Ranks of symbols by their latest return, in its direction or against it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kronos_trainer.evaluation.baselines.returns import CLOSE, log_returns
from kronos_trainer.evaluation.cells import Forecast, Origin


class Momentum:
    """What has risen most over some bars is expected to rise most."""

    def __init__(self, bars: int) -> None:
        self.name = f"momentum{bars}"
        self.label = f"momentum: return of the last {bars} bars"
        self._bars = bars

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Ranks; NaN with fewer bars."""
        return Forecast(rank=np.array([_last_return(origin, self._bars) for origin in origins], np.float64))


class Reversal:
    """What has fallen most over some bars is expected to rise most."""

    def __init__(self, bars: int) -> None:
        self.name = f"reversal{bars}"
        self.label = f"reversal: minus the return of the last {bars} bars"
        self._bars = bars

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Ranks; NaN with fewer bars."""
        return Forecast(rank=np.array([-_last_return(origin, self._bars) for origin in origins], np.float64))


def _last_return(origin: Origin, bars: int) -> float:
    if len(origin.bars) <= bars:
        return np.nan
    return float(log_returns(origin.bars[[-1 - bars, -1], CLOSE])[0])
