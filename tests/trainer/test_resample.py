"""Coarser bars: every value comes from the source, and only whole bars are kept."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronos_trainer.config import Timeframe
from kronos_trainer.data.resample import resampled
from kronos_trainer.errors import DataError

HOUR = 3_600_000_000_000
DAY = 24 * HOUR


def times_of(start: str, hours: list[int] | np.ndarray) -> np.ndarray:
    return np.datetime64(start, "ns").astype(np.int64) + np.asarray(hours, np.int64) * HOUR


def values_of(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.uniform(1, 2, count)
    high = low + rng.uniform(0, 1, count)
    inside = rng.uniform(low, high, (2, count))
    return np.column_stack([inside[0], high, low, inside[1], rng.integers(0, 99, count), rng.integers(0, 99, count)])


def labels(times: np.ndarray) -> list[str]:
    return [str(stamp)[:16] for stamp in times.view("datetime64[ns]")]


@given(
    hours=st.sets(st.integers(0, 400), min_size=40, max_size=200),
    timeframe=st.sampled_from([Timeframe.H2, Timeframe.H4, Timeframe.H6, Timeframe.H12, Timeframe.D1, Timeframe.W1]),
    start=st.integers(0, 200),
)
def test_each_bar_is_made_of_the_source_bars_in_its_span(hours: set[int], timeframe: Timeframe, start: int) -> None:
    hours |= {100, 101}  # so that the source is hourly
    times = times_of("2024-01-01", sorted(hour + start for hour in hours))
    values = values_of(len(times))
    found_times, found = resampled(times, values, timeframe, "A")

    size = timeframe.seconds * 1_000_000_000
    monday = times_of("2024-01-01", [0])[0]  # a Monday, so days and weeks both start here
    spans = defaultdict(list)
    for row, time in enumerate(times):
        spans[monday + (time - monday) // size * size].append(row)
    expected = sorted(spans)
    if (timeframe.seconds == 7200) and (np.diff(times) == 2 * HOUR).mean() > 0.5:
        return  # mostly two hours apart already
    assert list(found_times) in (expected, expected[:-1])
    whole = times[spans[expected[-1]][-1]] + HOUR >= expected[-1] + size
    assert len(found_times) == len(expected) or not whole
    for label, bar in zip(found_times, found, strict=True):
        rows = values[spans[label]]
        assert bar.tolist() == [
            rows[0, 0], rows[:, 1].max(), rows[:, 2].min(), rows[-1, 3], rows[:, 4].sum(), rows[:, 5].sum()
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "kept"),
    [(6, "2024-01-02 00:00"), (7, "2024-01-02 04:00")],
    ids=["three of four hours", "four of four hours"],
)
def test_an_incomplete_last_bar_is_dropped(last: int, kept: str) -> None:
    times = times_of("2024-01-01", np.arange(24 + last + 1))
    found, _ = resampled(times, values_of(len(times)), Timeframe.H4, "A")
    assert labels(found)[-1] == kept.replace(" ", "T")


def test_a_market_that_closes_early_fills_its_day() -> None:
    sessions = np.concatenate([day * 24 + np.arange(10, 16) for day in range(10)])
    times = times_of("2024-01-01", sessions)
    days, bars = resampled(times, values_of(len(times)), Timeframe.D1, "A")
    assert len(days) == 10
    days, _ = resampled(times[:-1], values_of(len(times) - 1), Timeframe.D1, "A")
    assert len(days) == 9
    weeks, _ = resampled(days, bars[:9], Timeframe.W1, "A")
    assert labels(weeks) == ["2024-01-01T00:00"]


def test_bars_that_are_right_already_are_left_alone() -> None:
    for hours in (
        [9, 13, 33, 37, 57, 61],  # 4h sessions, not on the 4h grid
        [1, 5, 9, 13, 16, 20, 24, 28, 32],  # the clock went back by an hour
        [0, 4, 12, 36, 40, 60],  # gaps
    ):
        times, values = times_of("2024-01-01", hours), values_of(len(hours))
        found_times, found = resampled(times, values, Timeframe.H4, "A")
        assert found_times is times
        assert found is values


def test_bars_that_cannot_become_the_timeframe_are_refused() -> None:
    daily = times_of("2024-01-01", np.arange(20) * 24)
    with pytest.raises(DataError, match="symbol A: bars are 1d apart or more, coarser than timeframe 4h"):
        resampled(daily, values_of(20), Timeframe.H4, "A")
    with pytest.raises(DataError, match=r"symbol A: timeframe 30m is not a multiple of the file's 20m bars"):
        resampled(daily // 72, values_of(20), Timeframe.M30, "A")
    assert len(resampled(daily[:3], values_of(3), Timeframe.H4, "A")[0]) == 3  # too few to tell


@pytest.mark.parametrize(
    ("last", "months"),
    [
        ("2024-05-31", 5),  # Friday
        ("2024-06-27", 5),  # a Friday is left
        ("2024-06-28", 6),  # only a weekend is left
    ],
)
@pytest.mark.parametrize("hours", [[0], [9, 12, 15]])
def test_months_are_those_of_the_calendar_and_only_whole_ones(last: str, months: int, hours: list[int]) -> None:
    days = np.arange("2024-01-01", np.datetime64(last) + 1, dtype="datetime64[D]")
    days = days[np.is_busday(days)]
    times = (days[:, None].astype("datetime64[ns]") + np.array(hours, "timedelta64[h]")).ravel().astype(np.int64)
    values = values_of(len(times))
    found_times, found = resampled(times, values, Timeframe.MO1, "A")
    assert labels(found_times) == [f"2024-{month:02}-01T00:00" for month in range(1, months + 1)]
    month = times.view("datetime64[ns]").astype("datetime64[M]")
    for label, bar in zip(found_times.view("datetime64[ns]").astype("datetime64[M]"), found, strict=True):
        rows = values[month == label]
        expected = [rows[0, 0], rows[:, 1].max(), rows[:, 2].min(), rows[-1, 3], rows[:, 4].sum(), rows[:, 5].sum()]
        np.testing.assert_allclose(bar, expected)
    if hours[-1] == 15:  # the last afternoon is missing
        assert len(resampled(times[:-1], values[:-1], Timeframe.MO1, "A")[0]) <= months - (
            months != 5 or last[5:] == "05-31"
        )


def test_bars_of_months_are_months_already_and_weeks_or_quarters_are_none() -> None:
    for freq in ("M", "D"):
        months = np.arange("2020-02", "2024-01", dtype="datetime64[M]").astype("datetime64[D]")
        times = (months - (freq == "D")).astype("datetime64[ns]").astype(np.int64)  # first or last day
        assert resampled(times, values_of(len(times)), Timeframe.MO1, "A")[0] is times
    quarters = np.ascontiguousarray(times[::3])
    with pytest.raises(DataError, match="bars are 3 months apart or more, coarser than timeframe 1mo"):
        resampled(quarters, values_of(len(quarters)), Timeframe.MO1, "A")
    weeks = times_of("2024-01-01", np.arange(60) * 168)
    with pytest.raises(DataError, match="a month is not a multiple of the file's 7d bars"):
        resampled(weeks, values_of(60), Timeframe.MO1, "A")
    with pytest.raises(DataError, match="coarser than timeframe 1w"):
        resampled(times, values_of(len(times)), Timeframe.W1, "A")
