"""Future timestamps: regular calendars are continued exactly, real ones where no holiday or clock change is near."""

from __future__ import annotations

import csv
import importlib.util
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kronos_trainer.errors import DataError
from kronos_trainer.forecast.future import infer_future

SPAN = pd.date_range("2024-01-01", "2024-07-01", freq="D")


def session_bars(days: pd.DatetimeIndex, sessions: list[tuple[str, str]], step: str) -> pd.DatetimeIndex:
    """Bars of every session on each of the days, both ends included."""
    clock = [t for first, last in sessions for t in pd.timedelta_range(first, last, freq=step)]
    return pd.DatetimeIndex([day + t for day in days for t in clock])


BUSINESS = SPAN[SPAN.day_of_week < 5]
HOURLY = pd.date_range(SPAN[0], SPAN[-1], freq="h")
WEEK_HOUR = HOURLY.day_of_week * 24 + HOURLY.hour
CALENDARS = {
    "Shanghai 5m": session_bars(BUSINESS, [("9:35:00", "11:30:00"), ("13:05:00", "15:00:00")], "5min"),
    "New York 30m": session_bars(BUSINESS, [("9:30:00", "15:30:00")], "30min"),
    "EURUSD 1h": HOURLY[(WEEK_HOUR >= 6 * 24 + 22) | (WEEK_HOUR < 4 * 24 + 22)],
    "crypto 4h": pd.date_range(SPAN[0], SPAN[-1], freq="4h"),
    "crypto 1m": pd.date_range(SPAN[0], periods=20_000, freq="min"),
    "US daily": BUSINESS,
    "Riyadh daily": SPAN[~SPAN.day_of_week.isin([4, 5])],
    "weekly": SPAN[SPAN.day_of_week == 0],
}


@pytest.mark.parametrize("name", CALENDARS)
@settings(deadline=None, max_examples=30)
@given(st.data())
def test_a_regular_calendar_is_continued_exactly(name: str, data: st.DataObject) -> None:
    calendar = CALENDARS[name]
    enough = int(np.searchsorted(calendar, calendar[0] + pd.Timedelta(days=8)))
    cut = data.draw(st.integers(enough, len(calendar) - 1), label="cut")
    start = data.draw(st.integers(0, cut - enough), label="start")
    horizon = data.draw(st.integers(1, min(120, len(calendar) - cut)), label="horizon")
    assert infer_future(calendar[start:cut], horizon).equals(calendar[cut : cut + horizon])


@pytest.mark.parametrize("name", ["Shanghai 5m", "US daily", "EURUSD 1h"])
@settings(deadline=None, max_examples=30)
@given(st.data())
def test_holidays_and_gaps_in_the_history_are_outvoted(name: str, data: st.DataObject) -> None:
    calendar = CALENDARS[name]
    cut = int(np.searchsorted(calendar, pd.Timestamp("2024-05-01")))
    history = calendar[:cut]
    first_holiday = data.draw(st.integers(1, 40), label="days before the cut")
    closed = pd.date_range(end=history[-1].normalize() - pd.Timedelta(days=first_holiday), periods=5, freq="D")
    missing = data.draw(st.sets(st.integers(0, cut - 2), max_size=1), label="missing bars")
    kept = ~history.normalize().isin(closed) & ~np.isin(np.arange(cut), list(missing))
    # the last bar says where the future starts
    kept[-1] = True
    assert infer_future(history[kept], 40).equals(calendar[cut : cut + 40])


def test_one_displaced_weekly_bar_does_not_move_the_week() -> None:
    mondays = CALENDARS["weekly"]
    displaced = mondays[:-3].append(mondays[-3:-2] + pd.Timedelta(days=1))
    assert infer_future(displaced, 2).equals(mondays[-2:])


def test_one_special_session_is_not_repeated() -> None:
    days = CALENDARS["US daily"]
    saturday = pd.DatetimeIndex(["2024-04-20"])
    history = days[days < "2024-04-20"].append(saturday).append(days[(days > "2024-04-20") & (days < "2024-05-01")])
    assert infer_future(history, 20).equals(days[days >= "2024-05-01"][:20])


def test_a_clock_change_does_not_double_the_bars() -> None:
    winter = BUSINESS[BUSINESS < "2024-03-10"] + pd.Timedelta(hours=5)
    summer = BUSINESS[(BUSINESS > "2024-03-10") & (BUSINESS < "2024-03-23")] + pd.Timedelta(hours=4)
    future = infer_future(winter.append(summer), 20)
    assert future.normalize().equals(BUSINESS[BUSINESS > "2024-03-23"][:20])


@given(st.integers(2, 300), st.integers(1, 300))
@settings(deadline=None, max_examples=50)
def test_less_than_a_day_of_history_goes_on_without_a_pause(length: int, horizon: int) -> None:
    minutes = pd.date_range("2024-03-05 09:00", periods=length + horizon, freq="min")
    assert infer_future(minutes[:length], horizon).equals(minutes[length:])


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50), st.integers(1, 100))
@settings(deadline=None, max_examples=200)
def test_any_history_gets_ascending_times_after_it(gaps: list[int], horizon: int) -> None:
    history = pd.DatetimeIndex(np.datetime64("2024-02-28T23:59") + np.cumsum(gaps).astype("timedelta64[s]"))
    assume(history.is_unique)
    future = infer_future(history, horizon) if len(history) > 1 else history[:0]
    assert len(future) in (0, horizon)
    assert history.append(future).is_monotonic_increasing
    assert history.append(future).is_unique


def test_real_hourly_euro_bars_are_continued_through_weekends() -> None:
    bars = _euro_hours()
    # spring and autumn: the clocks have changed weeks ago, or are not about to
    for first, last in (("2017-05-01", "2017-10-20"), ("2017-02-01", "2017-02-24")):
        for cut in np.flatnonzero((bars > first) & (bars < last))[::37]:
            assert infer_future(bars[:cut], 24).equals(bars[cut : cut + 24]), bars[cut]


def test_real_daily_stock_bars_are_continued_where_no_holiday_follows() -> None:
    stocks = pytest.importorskip("bokeh_sampledata.stocks")
    days = pd.DatetimeIndex(stocks.AAPL["date"])
    exact = [infer_future(days[:cut], 5).equals(days[cut : cut + 5]) for cut in range(100, len(days) - 5, 50)]
    # nine holidays a year: about one working week in six has one
    assert np.mean(exact) > 0.75


def test_one_bar_is_no_calendar() -> None:
    with pytest.raises(DataError, match="--future"):
        infer_future(SPAN[:1], 3)


def _euro_hours() -> pd.DatetimeIndex:
    spec = importlib.util.find_spec("gym_anytrading")
    assert spec is not None and spec.origin is not None
    (path,) = Path(spec.origin).parent.rglob("*EURUSD_1H*.csv")
    with path.open() as file:
        return pd.DatetimeIndex(
            [datetime.strptime(row["Time"], "%d.%m.%Y %H:%M:%S.%f") for row in csv.DictReader(file)]
        )


@pytest.mark.parametrize("freq", ["MS", "ME", "BMS", "BME", "QS", "QE", "BQE", "YS", "YE", "2MS"])
@given(st.data())
@settings(deadline=None, max_examples=20)
def test_bars_of_months_quarters_and_years_go_on_by_the_calendar(freq: str, data: st.DataObject) -> None:
    calendar = pd.date_range("1990-01-01 16:00", "2040-01-01", freq=freq)
    cut = data.draw(st.integers(12, len(calendar) - 1), label="cut")
    start = data.draw(st.integers(0, cut - 12), label="start")
    horizon = data.draw(st.integers(1, min(40, len(calendar) - cut)), label="horizon")
    # Business days and calendar days are the same for years at times, and then nobody can tell which they were.
    other = pd.date_range("1990-01-01 16:00", "2040-01-01", freq=freq.removeprefix("B"))
    assume(freq[0] != "B" or not calendar[start:cut].equals(other[start:cut]))
    assert infer_future(calendar[start:cut], horizon).equals(calendar[cut : cut + horizon])


def test_a_month_starts_on_the_same_day_and_a_displaced_bar_is_outvoted() -> None:
    days = [pd.Timestamp(2023, month, 15) for month in range(1, 13)]
    days[4] += pd.Timedelta(days=1)
    assert infer_future(pd.DatetimeIndex(days), 2).tolist() == [pd.Timestamp(2024, 1, 15), pd.Timestamp(2024, 2, 15)]
    assert infer_future(pd.DatetimeIndex(["2024-01-01", "2024-02-01"]), 1).tolist() == [pd.Timestamp("2024-03-01")]


def test_bars_every_four_weeks_are_no_months() -> None:
    weeks = pd.date_range("2023-01-02", periods=30, freq="28D")
    assert infer_future(weeks[:20], 10).equals(weeks[20:])
