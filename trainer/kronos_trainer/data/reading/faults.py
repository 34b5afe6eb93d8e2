"""What is wrong with the numbers of a row: the same rules for training and forecast.

A meaningless row (no number, infinity, a volume below 0) is a bad row of its file: the readers refuse it. A
contradictory bar can be read: it is kept unless `badRows: drop` skips it, but it is reported.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kronos_trainer.data.quality.findings import EXAMPLES
from kronos_trainer.data.reading.columns import FEATURES

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Fault = tuple[Bool, str, str]  # which rows, in which column, and what is wrong with {value}

ROUNDING = 1e-6  # of a price; what lies within it is no contradiction


def negative_sizes(values: Float64) -> Iterator[Fault]:
    """Rows of values [N, 6] with a volume below 0, or an amount below 0 though no price is: bad rows."""
    yield values[:, 4] < 0, "volume", "{value} is negative"
    if (values[:, 5] < 0).any():
        yield (values[:, 5] < 0) & ~(values[:, :4] < 0).any(axis=1), "amount", "{value} is negative"


def contradictions(values: Float64) -> Iterator[tuple[str, Bool, list[tuple[int, str]]]]:
    """Kinds of bars of one symbol, [N, 6] in the order of FEATURES, that contradict themselves.

    Each with the rows and, for a few of them, the row and what is wrong in which column. A row has one kind.
    """
    seen: Bool = np.zeros(len(values), np.bool_)
    for kind, faults in (("zeroPrice", _zero(values)), ("contradiction", _outside(values))):
        wrong: Bool = np.zeros(len(values), np.bool_)
        first: list[tuple[int, str]] = []
        for rows, column, what in faults:
            rows &= ~(seen | wrong)
            if rows.any():
                row = int(rows.argmax())
                value = f"{values[row, FEATURES.index(column)]:.10g}"
                first.append((row, f"column {column}: {what.format(value=value)}"))
                wrong |= rows
        if first:
            seen |= wrong
            yield kind, wrong, sorted(first)[:EXAMPLES]


def _zero(values: Float64) -> Iterator[Fault]:
    """A price of 0, as feeds write a suspended day; beside prices below 0, as of a spread, it is one like any other."""
    if min(values[:, column].min(initial=1) for column in range(4)) < 0:
        return
    for index, name in enumerate(FEATURES[:4]):
        yield values[:, index] == 0, name, "{value} is not a price"


def _outside(values: Float64) -> Iterator[Fault]:
    """High, open or close contradicts the range from low to high."""
    high, low = values[:, 1], values[:, 2]
    yield high < low, "high", "{value} is below the low"
    # prices that were adjusted for dividends and splits column by column differ in their last digits
    slack = ROUNDING * np.abs(high)
    for index, name in ((0, "open"), (3, "close")):
        yield values[:, index] > high + slack, name, "{value} is above the high"
        yield values[:, index] < low - slack, name, "{value} is below the low"
