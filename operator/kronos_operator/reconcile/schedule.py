"""When a model asks to be retrained, by its schedule or by its annotation, each time exactly once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import croniter

from kronos_operator.api import Schedule, ScheduleState, Status
from kronos_operator.reconcile.times import seconds_of


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """What asks for a run at this moment. `text` stays the run's own until something new asks."""

    text: str
    scheduled: bool = False  # `text` is a tick's
    taken_back: bool = False  # the retrain request is older than a cancel request
    tick: float | None = None  # the scheduled time that is due
    next_tick: float | None = None  # the scheduled time to wait for; the due one while it waits for a run


def trigger_of(schedule: Schedule | None, annotation: str, cancel: str, status: Status, now: float) -> Trigger:
    """The newest request. Ticks that passed while nobody looked count as one.

    A cancel request takes back what was asked for before it. The times that they name decide, for both may be seen at
    once; a text that is no time takes nothing back and is not taken back.

    The next tick is written in status when the schedule is first seen, so that a schedule has no past: what lies before
    it was added never fires.
    """
    held = "" if status.run is None else status.run.trigger
    asked_at, cancelled_at = seconds_of(annotation), seconds_of(cancel)
    taken_back = asked_at is not None and cancelled_at is not None and asked_at < cancelled_at
    tick, next_tick = _ticks(schedule, status.schedule, cancelled_at or 0.0, now)
    if annotation and annotation != (status.tracking.last_trigger or "") and not taken_back:
        return Trigger(text=annotation, tick=tick, next_tick=next_tick)
    if tick is not None:
        text = f"schedule {datetime.fromtimestamp(tick, UTC).isoformat()}"
        return Trigger(text=text, scheduled=True, taken_back=taken_back, tick=tick, next_tick=next_tick)
    return Trigger(text=held, taken_back=taken_back, next_tick=next_tick)


def schedule_state(
    schedule: Schedule | None, before: ScheduleState | None, trigger: Trigger, now: float, *, began: bool
) -> ScheduleState | None:
    """status.schedule. When a run began, whatever asked for it, the due tick is answered."""
    if schedule is None:
        return None
    last = None if before is None else before.last_time
    following = trigger.next_tick
    if began and trigger.tick is not None:
        last, following = trigger.tick, next_after(schedule, now)
    return ScheduleState(last_time=last, next_time=following)


def next_after(schedule: Schedule, now: float) -> float | None:
    """The first scheduled time after `now`; None for one that never comes, such as 30 February."""
    zone = ZoneInfo(schedule.time_zone)
    every_hour = schedule.cron.split()[1].startswith("*")
    try:
        ticks = croniter(schedule.cron, datetime.fromtimestamp(now, zone))
        tick = ticks.get_next(datetime)
        # When clocks go back, an hour comes twice: one that is named is meant once.
        while tick.astimezone(zone).fold and not every_hour:
            tick = ticks.get_next(datetime)
    except ValueError:
        return None
    return float(tick.timestamp())


def _ticks(
    schedule: Schedule | None, state: ScheduleState | None, cancelled_at: float, now: float
) -> tuple[float | None, float | None]:
    """The tick that is due and the one to wait for."""
    if schedule is None:
        return None, None
    following = next_after(schedule, now)
    if state is None or state.next_time is None:
        return None, following
    stored = state.next_time
    # One that the schedule as it is now does not name belongs to an earlier one.
    if not croniter.match(schedule.cron, datetime.fromtimestamp(stored, ZoneInfo(schedule.time_zone))):
        return None, following
    if now >= stored:
        return (stored, stored) if stored > cancelled_at else (None, following)
    return None, stored if following is None else min(stored, following)
