"""Future times by an exchange's calendar, held against what the exchange did in the days that followed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kronos_trainer.data import calendars
from kronos_trainer.errors import ConfigError, DataError
from kronos_trainer.forecast.scheduled import scheduled_future


def trading(calendar: str, first: str, last: str, step: str, *, right: bool = False) -> pd.DatetimeIndex:
    """Intraday bars of an exchange, counted from each opening, by its clock."""
    hours = calendars.hours(calendar, first, last)
    stamps: list[pd.Timestamp] = []
    for start, end in zip(map(pd.Timestamp, hours.opens), map(pd.Timestamp, hours.closes), strict=True):
        for stamp in pd.date_range(start, end, freq=step, inclusive="left"):
            stamps.append(min(stamp + pd.Timedelta(step), end) if right else stamp)
    joined = pd.DatetimeIndex(stamps)
    return joined.tz_localize("UTC").tz_convert(calendars.zone(calendar)).tz_localize(None)


def days(*dates: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(dates)


def sessions(calendar: str, first: str, last: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(calendars.sessions(calendar, first, last))


NEW_YORK = sessions("XNYS", "2024-10-01", "2025-01-31")


def test_daily_bars_skip_holidays_at_the_time_of_day_they_had() -> None:
    past = NEW_YORK[NEW_YORK < "2024-12-24"]
    expected = days("2024-12-24", "2024-12-26", "2024-12-27", "2024-12-30", "2024-12-31", "2025-01-02")
    assert scheduled_future(past, 6, "XNYS", None).equals(expected)
    evening = pd.Timedelta(hours=18)
    assert scheduled_future(past + evening, 6, "XNYS", None).equals(expected + evening)


def test_daily_bars_at_the_close_follow_early_closes_and_the_clock_change() -> None:
    hours = calendars.hours("XNYS", "2024-09-01", "2024-12-31")
    closes = pd.DatetimeIndex(hours.closes)  # UTC: at 20:00 in summer, 21:00 in winter, 18:00 on the day after a feast
    cut = int(closes.searchsorted(pd.Timestamp("2024-11-01")))
    assert scheduled_future(closes[:cut], 40, "XNYS", "UTC").equals(closes[cut : cut + 40])


@pytest.mark.parametrize("right", [False, True], ids=["starts", "ends"])
@pytest.mark.parametrize(
    ("calendar", "step", "cut", "until"),
    [
        ("XNYS", "30min", "2024-11-27", "2024-12-05"),  # a feast, and half a day after it
        ("XNYS", "1h", "2024-11-27", "2024-12-05"),  # the last bar of a day is half an hour
        ("XSHG", "5min", "2024-09-30", "2024-10-12"),  # a week of holidays, a break at noon
        ("XHKG", "15min", "2024-12-23", "2024-12-31"),  # no afternoon on the day before a feast
        ("CMES", "4h", "2024-11-26", "2024-12-05"),  # opens in the evening before
    ],
)
def test_intraday_bars_follow_the_hours_of_trading(calendar: str, step: str, cut: str, until: str, right: bool) -> None:
    every = trading(calendar, "2024-08-01", until, step, right=right)
    at = int(every.searchsorted(pd.Timestamp(cut))) + 1  # in the middle of a day
    found = scheduled_future(every[:at], len(every) - at, calendar, None)
    assert found.equals(every[at:])


def test_intraday_bars_of_a_clock_in_another_zone_and_of_whole_hours() -> None:
    new_york = trading("XNYS", "2024-10-01", "2024-11-29", "30min")
    utc = new_york.tz_localize("America/New_York").tz_convert("UTC").tz_localize(None)
    cut = int(utc.searchsorted(pd.Timestamp("2024-11-01 15:00")))  # the clocks change on the 3rd
    assert scheduled_future(utc[:cut], 100, "XNYS", "UTC").equals(utc[cut : cut + 100])
    hours = new_york.floor("h").unique()  # as resampling labels them: the bar of 9:00 begins at 9:30
    cut = int(hours.searchsorted(pd.Timestamp("2024-11-26 12:00")))
    assert scheduled_future(hours[:cut], len(hours) - cut, "XNYS", None).equals(hours[cut:])


def test_bars_outside_of_the_session_keep_their_times_on_its_days() -> None:
    open_days = NEW_YORK[NEW_YORK < "2024-12-06"]
    minutes = pd.timedelta_range("4:00:00", "19:30:00", freq="30min")
    every = pd.DatetimeIndex([day + clock for day in open_days for clock in minutes])
    cut = int(every.searchsorted(pd.Timestamp("2024-11-27 15:00")))
    assert scheduled_future(every[:cut], 60, "XNYS", None).equals(every[cut : cut + 60])


@pytest.mark.parametrize("label", ["same", "first", "last"])
def test_weeks_are_stamped_as_before_and_have_none_without_a_session(label: str) -> None:
    shanghai = sessions("XSHG", "2023-07-03", "2024-04-12").to_series()
    week = shanghai.index.to_period("W")
    grouped = shanghai.groupby(week)
    mondays = pd.DatetimeIndex(grouped.first().index.start_time)
    every = {"same": mondays, "first": pd.DatetimeIndex(grouped.first()), "last": pd.DatetimeIndex(grouped.last())}[
        label
    ]
    cut = int(every.searchsorted(pd.Timestamp("2024-01-20")))
    assert not ((every > "2024-02-10") & (every < "2024-02-19")).any()  # the week of the new year has no session
    assert scheduled_future(every[:cut], 10, "XSHG", None).equals(every[cut : cut + 10])


def test_months_end_on_their_last_session() -> None:
    last = sessions("XNYS", "2020-01-01", "2024-12-31").to_series()
    ends = pd.DatetimeIndex(last.groupby(last.index.to_period("M")).last())
    assert scheduled_future(ends[:50], 10, "XNYS", None).equals(ends[50:])
    assert pd.Timestamp("2024-03-28") in ends[50:]  # Good Friday is the 29th


def test_beyond_the_holidays_that_are_known_times_are_inferred() -> None:
    end = calendars.known_until("XSHG")
    assert end is not None
    days = sessions("XSHG", str(end - 90), str(end))
    hours = trading("XSHG", str(end - 30), str(end), "30min")
    for every in (days, days[days.day_of_week == 0], hours):
        for past in (every, every[:-3]):
            found = scheduled_future(past, 15, "XSHG", None)
            assert len(found) == 15 and found.is_monotonic_increasing and found[0] > past[-1]
            assert found[-1] > pd.Timestamp(end) or every is hours
            assert found[found <= every[-1]].equals(every[len(past) :])


def test_another_exchanges_calendar_is_refused() -> None:
    everyday = pd.date_range("2024-01-01", periods=60, freq="D")
    with pytest.raises(ConfigError, match=r"XNYS does not match these bars: \d+ of the last 60 .* 2024-02-25"):
        scheduled_future(everyday, 5, "XNYS", None)
    around_the_clock = pd.date_range("2024-01-01", periods=600, freq="h")
    with pytest.raises(ConfigError, match="XNYS does not match these bars"):
        scheduled_future(around_the_clock, 5, "XNYS", None)
    with pytest.raises(DataError, match="--future"):
        scheduled_future(everyday[:1], 5, "XNYS", None)
    assert np.all(scheduled_future(everyday, 5, "24/7", None) == pd.date_range("2024-03-01", periods=5, freq="D"))
