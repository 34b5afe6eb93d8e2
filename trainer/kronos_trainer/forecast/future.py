"""Infers the times of the next bars from those of past ones. Pure; called by the forecast command.

Exchange holidays and half days are unknown: a calendar of the past cannot contain them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.errors import DataError
from kronos_trainer.forecast.months import next_months

# Long enough to outvote holidays, short enough to forget daylight saving and old trading hours soon.
RECENT = np.timedelta64(4 * 7, "D")
DAY = np.timedelta64(1, "D")
SATURDAY = 5


def infer_future(history: pd.DatetimeIndex, horizon: int) -> pd.DatetimeIndex:
    """The `horizon` local timestamps that follow `history` (naive, ascending).

    The last four weeks vote on every slot of the week, a slot being a weekday and a time of day. This covers trading
    sessions with a lunch break, 24x5 and 24x7 markets, daily and weekly bars. Bars of months, quarters and years go on
    by the calendar; where nothing repeats, the most frequent spacing is continued. Raises DataError for fewer than two
    bars.
    """
    if len(history) < 2:
        raise DataError(f"future timestamps cannot be inferred from {len(history)} bar(s); pass --future")
    times = history.to_numpy().astype("datetime64[ns]")
    by_month = next_months(times, horizon)
    if by_month is not None:
        return pd.DatetimeIndex(by_month, name=history.name)
    spacings, counts = np.unique(np.diff(times), return_counts=True)
    spacing = spacings[counts.argmax()]

    recent = times[times >= times[-1] - RECENT]
    clock, slots = _open_slots(recent, spacing)
    future: list[np.datetime64] = []
    last = times[-1]
    day = last.astype("datetime64[D]")
    while len(future) < horizon and slots.any():
        for moment in day.astype("datetime64[ns]") + clock[slots[_weekday(day)]]:
            # a clock shifted by daylight saving leaves two slots where there is one bar
            if moment - last >= spacing / 2:
                future.append(moment)
                last = moment
        day += DAY
    if not slots.any():
        future = [last + spacing * (step + 1) for step in range(horizon)]
    return pd.DatetimeIndex(np.array(future[:horizon], dtype="datetime64[ns]"), name=history.name)


def _open_slots(
    times: npt.NDArray[np.datetime64], spacing: np.timedelta64
) -> tuple[npt.NDArray[np.timedelta64], npt.NDArray[np.bool_]]:
    """Times of day, ascending [C], and whether a bar is expected at each of them on each weekday, bool [7, C].

    A slot is expected if it had a bar at least half as often as the slots of a typical bar had. A slot that the history
    has not lived through follows the other days, and is closed at weekends unless there are bars on Saturdays.
    """
    dates = times.astype("datetime64[D]")
    observed = times - dates
    clock = np.unique(np.concatenate([observed, _grid(observed[-1], spacing)]))
    calendar = np.arange(dates[0], dates[-1] + DAY)
    moments = calendar[:, None].astype("datetime64[ns]") + clock
    lived = (moments >= times[0]) & (moments <= times[-1])
    chances = np.zeros((7, len(clock)))
    np.add.at(chances, _weekday(calendar), lived)
    bars = np.zeros_like(chances)
    slot_of_bar = (_weekday(dates), np.searchsorted(clock, observed))
    np.add.at(bars, slot_of_bar, 1)

    typical = np.median(bars[slot_of_bar] / chances[slot_of_bar])
    if typical < 0.5 and spacing >= 7 * DAY:
        return clock, np.zeros_like(lived, shape=bars.shape)
    return clock, _expected(bars, chances, typical)


def _expected(bars: npt.NDArray[np.float64], chances: npt.NDArray[np.float64], typical: float) -> npt.NDArray[np.bool_]:
    """The vote on each slot [7, C], given the bars it had, the chances it had, and the share of a typical slot."""

    def vote(bars: npt.NDArray[np.float64], chances: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        return bars >= np.maximum(chances * typical / 2, 1e-9)

    business_bars, business_chances = bars[:SATURDAY].sum(axis=0), chances[:SATURDAY].sum(axis=0)
    all_bars, all_chances = bars.sum(axis=0), chances.sum(axis=0)
    elsewhere = np.where(all_chances > 0, vote(all_bars, all_chances), True)
    business = np.where(business_chances > 0, vote(business_bars, business_chances), elsewhere)
    weekend = elsewhere & bars[SATURDAY].any()
    unseen = np.stack([business] * SATURDAY + [weekend] * 2)
    return np.where(chances > 0, vote(bars, chances), unseen)


def _grid(anchor: np.timedelta64, spacing: np.timedelta64) -> npt.NDArray[np.timedelta64]:
    """Every time of day that is a whole number of spacings from `anchor`; just `anchor` for daily and longer bars."""
    if spacing >= DAY:
        return np.array([anchor])
    return np.arange(anchor % spacing, DAY.astype("timedelta64[ns]"), spacing)


def _weekday(dates: npt.NDArray[np.datetime64] | np.datetime64) -> npt.NDArray[np.int64]:
    """Monday 0 .. Sunday 6."""
    return np.asarray((dates.astype("datetime64[D]").astype(np.int64) + 3) % 7)
