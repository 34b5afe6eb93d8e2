"""Seasons of a market's returns: by weekday, by month, around the turn of the month, and of the year by STL."""

from __future__ import annotations

import calendar
from collections.abc import Iterator

import numpy as np
import pandas as pd
from statsmodels.tsa.seasonal import STL

from kronos_trainer.evaluation.cells import Floats
from kronos_trainer.evaluation.inference import mean_interval
from kronos_trainer.macro.document import Row, Table
from kronos_trainer.macro.market import Market, Mask

LEAST_YEARS = 5  # of monthly values, for a season of the year
WALKS = 200  # without a season, to compare its strength with
TURN = (1, 3)  # trading days before and after the month's end (Lakonishok and Smidt 1988)


def seasons(market: Market, *, daily: bool, seed: int) -> tuple[list[Table], list[str]]:
    """Tables of a market, and notes on what was left out. `daily`: bars are of days, so weekdays mean something."""
    tables = []
    if daily:
        tables.append(_table(market, "weekday", "By weekday", list(_weekdays(market.dates))))
    tables.append(_table(market, "month", "By month", list(_months(market.dates))))
    if daily:
        tables.append(_table(market, "turn", "Around the turn of the month", list(_turn(market.dates))))
    yearly, note = _yearly(market, seed)
    return [*tables, *([yearly] if yearly else [])], [note] if note else []


def state_row(label: str, values: Floats) -> Row:
    """The mean of values [n] and its 95 % interval by the t distribution."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Row(label=label, count=len(values))
    interval = mean_interval(values)
    low, high = interval or (None, None)
    return Row(label=label, count=len(values), value=float(values.mean()), low=low, high=high)


def strength(monthly: pd.Series) -> float:
    """Share of what moves around the trend that repeats by month, 0 to 1 (Wang, Smith and Hyndman 2006)."""
    found = STL(monthly, period=12, robust=False).fit()
    around = np.var(found.seasonal + found.resid)
    return float(max(0.0, 1 - np.var(found.resid) / around)) if around > 0 else 0.0


def _table(market: Market, name: str, title: str, parts: list[tuple[str, Mask]]) -> Table:
    return Table(
        name=name,
        title=title,
        about="Mean return of the market, an index of equal weights of all symbols, over all bars of the run.",
        unit="% a bar",
        observations="bars",
        neutral=0.0,
        rows=tuple(state_row(label, market.returns[chosen]) for label, chosen in parts if chosen.any()),
    )


def _weekdays(dates: pd.DatetimeIndex) -> Iterator[tuple[str, Mask]]:
    for day, label in enumerate(calendar.day_name):
        yield label, np.asarray(dates.day_of_week == day)


def _months(dates: pd.DatetimeIndex) -> Iterator[tuple[str, Mask]]:
    for month, label in enumerate(list(calendar.month_name)[1:], start=1):
        yield label, np.asarray(dates.month == month)


def _turn(dates: pd.DatetimeIndex) -> Iterator[tuple[str, Mask]]:
    """The last trading day of each month and the first three of the next, and all others."""
    months = pd.Series(dates.year * 12 + dates.month, index=np.arange(len(dates)))
    groups = months.groupby(months)
    from_start, from_end = groups.cumcount().to_numpy(), groups.cumcount(ascending=False).to_numpy()
    # How the first and the last month go on before and after the bars is not known.
    known = (months != months.iloc[0]).to_numpy(), (months != months.iloc[-1]).to_numpy()
    turn = ((from_start < TURN[1]) & known[0]) | ((from_end < TURN[0]) & known[1])
    yield f"last {TURN[0]} and first {TURN[1]} days of a month", turn
    yield "other days", ~turn


def _yearly(market: Market, seed: int) -> tuple[Table | None, str]:
    """How much of the movement repeats by the year, beside what random walks of the same length seem to repeat."""
    monthly = pd.Series(market.level, index=market.dates).resample("ME").last().interpolate()
    if len(monthly) < 12 * LEAST_YEARS:
        return None, f"season of the year: {len(monthly)} months of bars, {12 * LEAST_YEARS} are needed"
    found = strength(monthly)
    random = np.random.default_rng(seed)
    steps = monthly.diff().dropna().to_numpy()
    by_chance = [_walk_strength(random.permutation(steps), monthly.index[1:]) for _ in range(WALKS)]
    return (
        Table(
            name="year",
            title="Season of the year",
            about="Strength of the season by STL of the monthly index: 0 none, 1 nothing else moves it. The interval "
            "is what 95 of 100 shuffles of the same monthly returns show, which have no season: a value inside it says "
            "nothing.",
            unit="strength",
            observations="months",
            rows=(
                Row(
                    label="the market",
                    count=len(monthly),
                    value=found,
                    low=float(np.quantile(by_chance, 0.025)),
                    high=float(np.quantile(by_chance, 0.975)),
                ),
            ),
        ),
        "",
    )


def _walk_strength(steps: Floats, index: pd.Index) -> float:
    return strength(pd.Series(steps.cumsum(), index=index))
