from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from kronos_operator.api import Run, Schedule, ScheduleState, Status, Tracking
from kronos_operator.reconcile.schedule import Trigger, next_after, schedule_state, trigger_of

SATURDAY = datetime(2026, 11, 28, 6, tzinfo=UTC).timestamp()
WEEKLY = Schedule(cron="0 6 * * 6")


def status(next_time: float | None = None, trigger: str = "", answered: str | None = None) -> Status:
    state = None if next_time is None else ScheduleState(next_time=next_time)
    return Status(run=Run(id="r", trigger=trigger), tracking=Tracking(last_trigger=answered), schedule=state)


def at(moment: datetime) -> float:
    return moment.timestamp()


@pytest.mark.parametrize(
    ("cron", "zone", "now", "expected"),
    [
        ("0 6 * * 6", "UTC", datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 11, 28, 6, tzinfo=UTC)),
        ("0 6 * * 6", "America/New_York", datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 11, 28, 11, tzinfo=UTC)),
        # The night in which 2:30 does not exist, and the one in which 1:30 exists twice.
        ("30 2 * * *", "America/New_York", datetime(2026, 3, 8, 6, tzinfo=UTC), datetime(2026, 3, 8, 7, tzinfo=UTC)),
        (
            "30 1 * * *",
            "America/New_York",
            datetime(2026, 11, 1, 4, tzinfo=UTC),
            datetime(2026, 11, 1, 5, 30, tzinfo=UTC),
        ),
    ],
)
def test_ticks_are_meant_in_their_zone(cron: str, zone: str, now: datetime, expected: datetime) -> None:
    assert next_after(Schedule(cron=cron, time_zone=zone), at(now)) == at(expected)


@pytest.mark.parametrize(
    ("cron", "zone", "day"),
    [
        ("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25)),
        ("30 1 * * *", "America/New_York", datetime(2026, 11, 1)),
    ],
)
def test_an_hour_that_comes_twice_is_meant_once(cron: str, zone: str, day: datetime) -> None:
    schedule = Schedule(cron=cron, time_zone=zone)
    first = next_after(schedule, at(day.replace(tzinfo=ZoneInfo(zone))))
    assert first is not None
    assert next_after(schedule, first) == first + 25 * 3600


def test_an_hour_that_comes_twice_has_a_tick_each_time_where_every_hour_has_one() -> None:
    schedule = Schedule(cron="0 * * * *", time_zone="Europe/Berlin")
    began = moment = at(datetime(2026, 10, 25, tzinfo=UTC))  # 2:00, and so it will be in an hour
    ticks = [moment := next_after(schedule, moment) or 0.0 for _ in range(3)]
    assert ticks == [began + 3600, began + 7200, began + 10800]


def test_a_tick_that_never_comes_is_none() -> None:
    assert next_after(Schedule(cron="0 0 30 2 *"), SATURDAY) is None


def test_a_schedule_that_is_added_has_no_past() -> None:
    now = SATURDAY + 3600
    trigger = trigger_of(WEEKLY, "", "", status(), now)
    assert trigger == Trigger(text="", next_tick=SATURDAY + 7 * 86400)


def test_a_due_tick_asks_until_it_is_answered_and_no_longer() -> None:
    now = SATURDAY + 14 * 86400 + 5
    due = trigger_of(WEEKLY, "", "", status(SATURDAY), now)
    assert (due.tick, due.text) == (SATURDAY, "schedule 2026-11-28T06:00:00+00:00")
    waiting = schedule_state(WEEKLY, ScheduleState(next_time=SATURDAY), due, now, began=False)
    assert waiting == ScheduleState(next_time=SATURDAY)
    answered = schedule_state(WEEKLY, waiting, due, now, began=True)
    assert answered is not None
    assert answered.last_time == SATURDAY
    assert answered.next_time is not None
    assert answered.next_time == SATURDAY + 21 * 86400  # the ticks in between count as one
    after = trigger_of(WEEKLY, "", "", status(answered.next_time, trigger=due.text), now)
    assert (after.text, after.tick) == (due.text, None)


def test_a_changed_schedule_forgets_the_tick_of_the_old_one() -> None:
    daily = Schedule(cron="0 7 * * *")
    now = SATURDAY + 60
    assert trigger_of(daily, "", "", status(SATURDAY), now) == Trigger(text="", next_tick=SATURDAY + 3600)
    more_often = Schedule(cron="0 6 * * *")
    before = SATURDAY - 2 * 86400
    assert trigger_of(more_often, "", "", status(SATURDAY), before + 60).next_tick == before + 86400


def test_a_request_comes_before_a_tick_and_is_answered_once() -> None:
    now = SATURDAY + 60
    both = trigger_of(WEEKLY, "monday", "", status(SATURDAY), now)
    assert (both.text, both.tick) == ("monday", SATURDAY)
    assert trigger_of(None, "monday", "", status(trigger="monday", answered="monday"), now).text == "monday"
    # A later run by schedule does not bring the old request back.
    assert trigger_of(None, "monday", "", status(trigger="schedule x", answered="monday"), now).text == "schedule x"
    assert schedule_state(None, ScheduleState(next_time=SATURDAY), both, now, began=True) is None


@pytest.mark.parametrize(
    ("asked", "cancel", "text"),
    [
        ("2026-11-28T08:00:00Z", "2026-11-28T09:00:00Z", "held"),
        ("2026-11-28T09:00:00Z", "2026-11-28T09:00:00Z", "2026-11-28T09:00:00Z"),
        ("2026-11-28T08:30:00.500-01:00", "2026-11-28T09:00:00Z", "2026-11-28T08:30:00.500-01:00"),
        ("monday", "2026-11-28T09:00:00Z", "monday"),
        ("2026-11-28T08:00:00Z", "stop", "2026-11-28T08:00:00Z"),
    ],
)
def test_a_cancel_request_takes_back_what_was_asked_for_before_it(asked: str, cancel: str, text: str) -> None:
    found = trigger_of(None, asked, cancel, status(trigger="held"), SATURDAY + 4 * 3600)
    assert (found.text, found.taken_back) == (text, text == "held")


def test_a_cancel_request_takes_back_the_tick_that_waits_and_no_later_one() -> None:
    cancel = "2026-11-28T09:00:00Z"
    now = SATURDAY + 4 * 3600
    taken_back = trigger_of(WEEKLY, "", cancel, status(SATURDAY), now)
    assert (taken_back.tick, taken_back.text) == (None, "")
    state = schedule_state(WEEKLY, ScheduleState(next_time=SATURDAY), taken_back, now, began=False)
    assert state is not None
    assert state.last_time is None
    assert state.next_time is not None
    later = SATURDAY + 7 * 86400
    assert trigger_of(WEEKLY, "", cancel, status(state.next_time), later).tick == later
