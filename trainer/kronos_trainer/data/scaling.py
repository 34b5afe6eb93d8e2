"""Prices so small that the 1e-5 added to their deviation would swamp it; called by the windows and the forecaster."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

EPSILON = np.float32(1e-5)  # added to the standard deviation, as upstream does
ORDINARY = 1e-2  # prices from here on are normalised exactly as upstream does
PRICES = 4  # the first of FEATURES; volume and amount keep their size


def price_scale(
    means: npt.NDArray[np.floating[Any]], deviations: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    """The power of ten [B] that brings the prices of each series to 1..10 if they are tiny; 1 for ordinary ones.

    `means` and `deviations` [B, F] are those of the lookback. Series that hover around 0 are judged by how far.
    """
    level = np.maximum(np.abs(means[:, :PRICES]), deviations[:, :PRICES]).max(axis=1).astype(np.float64)
    scale = np.ones(len(level))
    tiny = (level > 0) & (level < ORDINARY)
    scale[tiny] = 10.0 ** -np.floor(np.log10(level[tiny]))
    return scale
