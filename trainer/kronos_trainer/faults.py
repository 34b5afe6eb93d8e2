"""What is wrong with the numbers of a row: the one rule for training and forecast.

A row that has no meaning (no number, infinity, a volume below 0) is a bad row of its file: the readers refuse it. A bar
that contradicts itself can be read: it stays unless `badRows: drop` leaves it out, but it is found and said.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kronos_trainer.columns import FEATURES

Float64 = npt.NDArray[np.float64]
Fault = tuple[npt.NDArray[np.bool_], str, str]  # which rows, in which column, and what is wrong with {value}

ROUNDING = 1e-6  # of a price; what lies within it is no contradiction


def negative_sizes(values: Float64) -> Iterator[Fault]:
    """Rows of values [N, 6] with a volume below 0, or an amount below 0 though no price is: bad rows."""
    yield values[:, 4] < 0, "volume", "{value} is negative"
    if (values[:, 5] < 0).any():
        yield (values[:, 5] < 0) & ~(values[:, :4] < 0).any(axis=1), "amount", "{value} is negative"


def zero_prices(values: Float64) -> Iterator[Fault]:
    """Rows of one symbol, [N, 6] in the order of FEATURES, with a price of 0, as feeds write a suspended day.

    Beside prices below 0, as of a spread, 0 is a price like any other.
    """
    if values[:, :4].min(initial=1) < 0:
        return
    for index, name in enumerate(FEATURES[:4]):
        yield values[:, index] == 0, name, "{value} is no price"


def outside_prices(values: Float64) -> Iterator[Fault]:
    """Rows of one symbol, [N, 6], whose high, open or close contradicts the range from low to high."""
    high, low = values[:, 1], values[:, 2]
    yield high < low, "high", "{value} is below the low"
    # prices that were adjusted for dividends and splits column by column differ in their last digits
    slack = ROUNDING * np.abs(high)
    for index, name in ((0, "open"), (3, "close")):
        yield values[:, index] > high + slack, name, "{value} is above the high"
        yield values[:, index] < low - slack, name, "{value} is below the low"
