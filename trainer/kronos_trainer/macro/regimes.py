"""States of a market that are known at a date: calm or stormy, near its high or far below it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.macro.market import Market, Mask

RECENT = 20  # bars that the volatility is measured on
FALLS = (5.0, 15.0)  # percent below the highest level so far


@dataclass(frozen=True)
class States:
    """Which state held at each of some dates; -1: not known."""

    name: str
    title: str
    labels: tuple[str, ...]
    at: Int64  # [D]

    def masks(self) -> list[tuple[str, Mask]]:
        """Label and dates of each state."""
        return [(label, self.at == number) for number, label in enumerate(self.labels)]


def states(market: Market, dates: Int64, start: int) -> list[States]:
    """Of dates [D] (ns), from bars up to and including each date alone. Thresholds are measured before `start` (ns)."""
    place = np.searchsorted(market.times, dates, side="right") - 1
    return [_volatility(market, place, start), _drawdown(market, place)]


def _volatility(market: Market, place: Int64, start: int) -> States:
    volatility = _rolling_deviation(market.returns)
    low, high, number = thirds(volatility[: int(np.searchsorted(market.times, start))], _picked(volatility, place))
    return States(
        name="volatility",
        title=f"By volatility of the last {RECENT} bars",
        labels=(f"calm, up to {low:.2f} % a bar", f"usual, up to {high:.2f} %", "stormy, above"),
        at=number,
    )


def thirds(before: Floats, at: Floats) -> tuple[float, float, Int64]:
    """The values that cut those `before` [T] into thirds, and in which of these each `at` [D] lies; -1: not known."""
    known = before[np.isfinite(before)]
    low, high = np.quantile(known, (1 / 3, 2 / 3)) if len(known) else (np.nan, np.nan)
    number = np.where(at <= low, 0, np.where(at <= high, 1, 2))
    return float(low), float(high), np.where(np.isfinite(at) & np.isfinite(low), number, -1)


def _drawdown(market: Market, place: Int64) -> States:
    below = 100 * (1 - np.exp((market.level - np.maximum.accumulate(np.maximum(market.level, 0.0))) / 100))
    at = _picked(below, place)
    number = np.digitize(at, FALLS)
    labels = (
        f"less than {FALLS[0]:g} % below its high",
        f"{FALLS[0]:g} to {FALLS[1]:g} % below",
        f"over {FALLS[1]:g} %",
    )
    return States(name="drawdown", title="By drawdown", labels=labels, at=np.where(np.isfinite(at), number, -1))


def _rolling_deviation(returns: Floats) -> Floats:
    """Root mean square of the last RECENT returns at each bar [T]; NaN where there are fewer."""
    squares = np.concatenate([[0.0], np.square(returns).cumsum()])
    found = np.full(len(returns), np.nan)
    if len(returns) >= RECENT:
        found[RECENT - 1 :] = np.sqrt((squares[RECENT:] - squares[:-RECENT]) / RECENT)
    return found


def _picked(values: Floats, place: Int64) -> Floats:
    return np.array([values[one] if one >= 0 else np.nan for one in place], np.float64)
