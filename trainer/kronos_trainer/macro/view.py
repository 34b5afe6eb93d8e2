"""The macro view of a run: seasons and trend of its market, and its errors by season and regime.

Computed by the evaluation stage for bars of a day or longer, from bars and losses that are there already; it decides
nothing, and the model is told nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kronos_trainer.config import Timeframe
from kronos_trainer.data.bars import Bars
from kronos_trainer.evaluation.cells import Floats
from kronos_trainer.evaluation.document import MODEL, NAIVE, Evaluation
from kronos_trainer.macro.covariates import Known, lead_lag, terciles
from kronos_trainer.macro.document import Macro, Row, Table
from kronos_trainer.macro.market import Market, Mask, market_of
from kronos_trainer.macro.regimes import states
from kronos_trainer.macro.seasons import seasons, state_row

SLOW = (Timeframe.D1, Timeframe.W1, Timeframe.MO1)
QUARTERS = ("January to March", "April to June", "July to September", "October to December")


def is_slow(timeframe: Timeframe) -> bool:
    """Whether bars are long enough for a macro view."""
    return timeframe in SLOW


def macro_view(
    bars: Bars, timeframe: Timeframe, found: Evaluation, *, start: int, known: Sequence[Known] = ()
) -> Macro:
    """Of a run whose evaluation is `found`; `start` (ns) is where its test span begins, `known` are its covariates."""
    market = market_of(bars)
    if len(market.times) < 2:
        return Macro(notes=("the bars have no returns",))
    tables, notes = seasons(market, daily=timeframe is Timeframe.D1, seed=found.seed)
    tables += [_trend(market), *(lead_lag(market, one, found.horizon) for one in known)]
    return Macro(tables=(*tables, *_errors(market, found, start, known)), notes=tuple(notes))


def _trend(market: Market) -> Table:
    years = pd.Series(market.returns, index=market.dates).groupby(market.dates.year)
    rows = [
        Row(label=str(year), count=len(values), value=float(100 * np.expm1(values.sum() / 100)))
        for year, values in years
    ]
    about = "Return of the market in each calendar year; the first and the last may be parts of one."
    return Table(name="years", title="By year", about=about, unit="%", observations="bars", rows=tuple(rows))


def _errors(market: Market, found: Evaluation, start: int, known: Sequence[Known]) -> list[Table]:
    """The loss of the model and its distance from the naive forecast's, by what was known at the date."""
    dates = pd.DatetimeIndex(pd.to_datetime(list(found.dates), format="ISO8601"))
    losses = {name: _losses(found, name) for name in (MODEL, NAIVE)}
    if not len(dates) or any(len(values) != len(dates) for values in losses.values()):
        return []
    quarters = [(label, np.asarray(dates.quarter == number)) for number, label in enumerate(QUARTERS, start=1)]
    parts: list[tuple[str, str, list[tuple[str, Mask]]]] = [("quarter", "by quarter", quarters)]
    at = dates.as_unit("ns").asi8
    for one in (*states(market, at, start), *(terciles(series, market, at, start) for series in known)):
        parts.append((one.name, one.title[:1].lower() + one.title[1:], one.masks()))
    gained = losses[MODEL] - losses[NAIVE]
    metric = found.metric.upper()
    tables = []
    for name, title, masks in parts:
        tables += [
            Table(
                name=f"{name}Loss",
                title=f"Error {title}",
                about=f"{metric} of the model, mean over the dates of the test span.",
                unit="% of the close",
                observations="dates",
                rows=tuple(state_row(label, losses[MODEL][mask]) for label, mask in masks),
            ),
            Table(
                name=f"{name}OverNaive",
                title=f"Error over the naive forecast's, {title}",
                about=f"{metric} of the model less that of the naive forecast: below 0 the model is better.",
                unit="% of the close",
                observations="dates",
                neutral=0.0,
                rows=tuple(state_row(label, gained[mask]) for label, mask in masks),
            ),
        ]
    return tables


def _losses(found: Evaluation, name: str) -> Floats:
    forecaster = found.forecasters.get(name)
    values = () if forecaster is None else forecaster.losses.get(found.metric, ())
    return np.array([np.nan if one is None else one for one in values], np.float64)
