"""From which bars an evaluation forecasts: dates common to all symbols, one horizon apart, inside the test span."""

from __future__ import annotations

import numpy as np
import pytest

from kronos_trainer.config import Window
from kronos_trainer.data.bars import Bars
from kronos_trainer.evaluation.origins import dates_of, spread_order

DAY = 86_400 * 10**9
WINDOW = Window(lookback=4, horizon=3)


def market(*symbols: list[int]) -> Bars:
    """Symbols that trade on these days."""
    times = np.concatenate([np.array(days, np.int64) * DAY for days in symbols])
    rows = len(times)
    return Bars(
        symbols=tuple("ABCDEFG"[: len(symbols)]),
        offsets=np.cumsum([0, *map(len, symbols)]).astype(np.int64),
        values=np.ones((rows, 6), np.float32),
        times=times,
        stamps=np.zeros((rows, 5), np.uint8),
        digest="d",
        notes=(),
    )


def days(found: np.ndarray) -> list[int]:
    return (found // DAY).tolist()


def test_dates_are_a_horizon_apart_and_no_forecast_leaves_the_span() -> None:
    bars = market(list(range(30)))
    dates = dates_of(bars, (10 * DAY, 22 * DAY), WINDOW)
    assert days(dates.times) == [10, 13, 16] and dates.rows[:, 0].tolist() == [10, 13, 16]
    # From 19 on, the third bar would be day 22, which is after the span: 18 would be the last.
    assert days(dates_of(bars, (10 * DAY, 23 * DAY), WINDOW).times) == [10, 13, 16, 19]
    # With an embargo of a horizon the first bar that is forecast is the fourth of the span.
    assert days(dates_of(bars, (10 * DAY, 22 * DAY), WINDOW, embargo=3).times) == [12, 15, 18]
    assert dates_of(bars, (10 * DAY, 22 * DAY), WINDOW).texts() == ("1970-01-11", "1970-01-14", "1970-01-17")


def test_a_symbol_without_its_lookback_or_its_horizon_has_no_cell_and_takes_none_from_its_neighbour() -> None:
    bars = market(list(range(20)), list(range(8, 20)), [*range(12), *range(13, 15)])
    dates = dates_of(bars, (10 * DAY, 18 * DAY), WINDOW)
    assert days(dates.times) == [10, 13]
    # B has its fourth bar on day 11; C stops two bars after day 13, and has no bar on day 12.
    assert dates.rows.tolist() == [[10, -1, 20 + 12 + 10], [13, 20 + 5, -1]]


def test_the_common_calendar_has_the_days_on_which_at_least_half_trade() -> None:
    weekdays = [day for day in range(40) if day % 7 < 5]
    dates = dates_of(market(weekdays, weekdays, weekdays, list(range(40))), (14 * DAY, 40 * DAY), WINDOW)
    assert all(day % 7 < 5 for day in days(dates.times)) and len(dates) == 6
    assert (dates.rows >= 0).all()


def test_at_most_so_many_dates_evenly_spaced() -> None:
    every = dates_of(market(list(range(1000))), (0, 1000 * DAY), WINDOW, most=10**6)
    some = dates_of(market(list(range(1000))), (0, 1000 * DAY), WINDOW, most=10)
    assert len(some) == 10 and set(some.times) <= set(every.times)
    assert {some.times[0], some.times[-1]} == {every.times[0], every.times[-1]}
    assert np.ptp(np.diff(some.times)) <= 3 * DAY


def test_a_span_without_room_has_no_date() -> None:
    assert len(dates_of(market(list(range(30))), (10 * DAY, 13 * DAY), WINDOW)) == 0
    assert len(dates_of(market(list(range(30))), (0, 0), WINDOW)) == 0


@pytest.mark.parametrize("count", [0, 1, 2, 21, 250])
def test_any_beginning_of_the_order_is_spread_over_all(count: int) -> None:
    order = spread_order(count)
    assert sorted(order) == list(range(count))
    for beginning in (4, 10, 100):
        gaps = np.diff(np.sort([0, *order[:beginning], count]))
        assert count <= beginning or gaps.max() <= 2.1 * count / min(beginning, count) + 1
