"""The variance of each bar from its four prices; called for outcomes and by the baselines that forecast volatility."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PERCENT = 100.0  # closes and variances are of 100 x log price
OPEN_TO_CLOSE = 2 * np.log(2.0) - 1


def garman_klass(bars: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Variance of the log price over each bar: [..., 6] -> [...], in (100 log points) squared.

    Garman and Klass (1980): 0.5 ln(high / low)^2 - (2 ln 2 - 1) ln(close / open)^2. Never negative, which only bars
    whose body leaves their range would make it; NaN where a price is not positive. Jumps between bars are not in it.
    """
    prices = np.asarray(bars[..., :4], np.float64)
    usable = (prices > 0) & np.isfinite(prices)
    opens, highs, lows, closes = np.moveaxis(np.log(prices, out=np.full(prices.shape, np.nan), where=usable), -1, 0)
    variance = 0.5 * (highs - lows) ** 2 - OPEN_TO_CLOSE * (closes - opens) ** 2
    return np.asarray(np.maximum(variance, 0.0) * PERCENT**2)
