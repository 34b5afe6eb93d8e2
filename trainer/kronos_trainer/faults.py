"""Prices that cannot be, row by row; called by the readers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kronos_trainer.columns import FEATURES

Float64 = npt.NDArray[np.float64]
Fault = tuple[npt.NDArray[np.bool_], str, str]  # which rows, in which column, and what is wrong with {value}

ROUNDING = 1e-6  # of a price; what lies within it is no contradiction


def impossible_prices(values: Float64) -> Iterator[Fault]:
    """Rows of values [N, 6], in the order of FEATURES, whose prices cannot be: one rule for training and forecast."""
    yield from _no_price(values)
    yield from _outside(values)


def _no_price(values: Float64) -> Iterator[Fault]:
    """Rows with a price that is 0, as feeds write a suspended day; beside prices below 0, of a spread, it is one."""
    if (values[:, :4] < 0).any():
        return
    for index, name in enumerate(FEATURES[:4]):
        yield values[:, index] == 0, name, "{value} is no price"


def _outside(values: Float64) -> Iterator[Fault]:
    """Rows whose high, open or close contradicts the range from low to high."""
    high, low = values[:, 1], values[:, 2]
    yield high < low, "high", "{value} is below the low"
    # prices that were adjusted for dividends and splits column by column differ in their last digits
    slack = ROUNDING * np.abs(high)
    for index, name in ((0, "open"), (3, "close")):
        yield values[:, index] > high + slack, name, "{value} is above the high"
        yield values[:, index] < low - slack, name, "{value} is below the low"
