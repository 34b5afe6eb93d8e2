"""Makes contradictory sampled bars consistent, path by path. Pure; called by the forecaster.

The model samples open, high, low, close, volume and amount of a bar separately, so a high may be below its close. Open
and close form the path and are kept; high and low are widened to contain all four prices, and neither volume
nor amount stays below 0. Each path is corrected before paths are averaged or sorted into quantiles: the average of
consistent bars is consistent, and so are their quantiles, since no high is below its open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

OPEN, HIGH, LOW, CLOSE, VOLUME, AMOUNT = range(6)
PRICES = slice(OPEN, VOLUME)
LEAST = 0.01  # of the lowest price of the history: where a price goes that would be 0 or less


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """How many sampled bars there were, and in how many of them something was changed."""

    bars: int = 0
    high: int = 0
    low: int = 0
    price: int = 0
    volume: int = 0
    amount: int = 0

    def note(self) -> str | None:
        """What was changed, as text for the user; None if nothing was."""
        said = [
            f"{name} of {count} {what}"
            for name, count, what in (
                ("price", self.price, f"raised to {LEAST:.0%} of the history's lowest"),
                ("high", self.high, "raised to the bar's highest price"),
                ("low", self.low, "lowered to the bar's lowest price"),
                ("volume", self.volume, "raised to 0"),
                ("amount", self.amount, "raised to 0"),
            )
            if count
        ]
        if not said:
            return None
        return f"of {self.bars} sampled bars {', '.join(said)}; --raw (raw=True) keeps them unchanged"


def total(repairs: Iterable[Repairs]) -> Repairs:
    """The sum of the repairs of several series."""
    every = list(repairs)
    return Repairs(**{field.name: sum(getattr(one, field.name) for one in every) for field in fields(Repairs)})


def consistent(bars: Float64, history: Float64) -> tuple[Float64, Repairs]:
    """The corrected bars [..., 6], and the corrections; `history` [T, 6] are the bars that they continue.

    A price may be 0 or less only where one of the history is.
    """
    fixed = bars.copy()
    prices = fixed[..., PRICES]
    lowest = history[:, PRICES].min()
    price = 0
    if lowest > 0:
        price = _count((prices <= 0).any(axis=-1))
        np.maximum(prices, LEAST * lowest, out=prices)
    # with prices below 0, an amount may be as well
    sizes = [column for column in (VOLUME, AMOUNT) if history[:, column].min() >= 0]
    high, low = prices.max(axis=-1), prices.min(axis=-1)
    repairs = Repairs(
        bars=bars[..., 0].size,
        price=price,
        high=_count(high > fixed[..., HIGH]),
        low=_count(low < fixed[..., LOW]),
        # of a market without volume the model draws noise around 0, which is not worth a note
        volume=_count(bars[..., VOLUME] < 0) if history[:, VOLUME].any() and VOLUME in sizes else 0,
        amount=_count(bars[..., AMOUNT] < 0) if history[:, AMOUNT].any() and AMOUNT in sizes else 0,
    )
    fixed[..., HIGH], fixed[..., LOW] = high, low
    for column in sizes:
        np.maximum(fixed[..., column], 0, out=fixed[..., column])
    return fixed, repairs


def _count(mask: npt.NDArray[np.bool_] | np.bool_) -> int:
    return int(np.count_nonzero(mask))
