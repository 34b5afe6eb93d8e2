"""What is forecast, by whom, and what came: cells of one symbol at one date. Every module of this package shares it.

B cells, S sampled paths, H steps of the horizon. Closes are 100 x log(close / close of the origin), roughly percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a baseline may see of one cell: bars up to and including the origin, and nothing after it."""

    symbol: str
    bars: npt.NDArray[np.float32]  # [T, 6]: open, high, low, close, volume, amount; all that there are
    times: Int64  # [T], wall clock, ns
    fitted: int  # bars before the test span begins: what is fitted once for a symbol may read these only
    lookback: int
    horizon: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came after the origins of B cells."""

    close: Floats  # [B, H]
    scale: Floats  # [B]: mean |one-step change| of 100 log close over the lookback, the scale of MASE
    variance: Floats  # [B]: Garman-Klass variance of the log price (x 100 squared), summed over the horizon


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one forecaster says of B cells. None: it does not forecast that; NaN in a cell: it could not there."""

    close: Floats | None = None  # [B, S, H]: sampled paths
    variance: Floats | None = None  # [B]: expected Garman-Klass variance over the horizon, in the units of Outcome
    rank: Floats | None = None  # [B]: rises with the return that is expected over the horizon
    shares: Mapping[str, Floats] | None = None  # [B] each: shares of implausible bars, by name


class Baseline(Protocol):
    """A rival that needs no net."""

    name: str
    label: str  # for people

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Of each origin, the same whatever else is asked for, and from its bars alone."""
