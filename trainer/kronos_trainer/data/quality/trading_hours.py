"""A series' own trading calendar, and the bars missing from it; called when a series is surveyed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

HOUR = 3_600_000_000_000
DAY = 24 * HOUR
WEEK = 7 * DAY
MONDAY = 4 * DAY  # 1970-01-05, the first Monday after the epoch
SATURDAY, SUNDAY = 5, 6
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

FEW = 20  # bars; too few to learn a calendar from
USUAL = 0.5  # of the bars of a well filled hour of the week: what has fewer is not traded
MANY = 10  # gaps; so many of one kind may belong to the calendar
OFTEN = 0.7  # of which come on the next trading day
LEARNT = 3  # weeks; in fewer, no hour of the week occurs often enough
LONGEST_HOLIDAY = 8  # trading days; a Chinese new year takes seven


@dataclass(frozen=True)
class Gap:
    """A run of bars that are missing."""

    after: int  # wall-clock ns of the bar before it
    until: int  # and of the bar after it
    missing: int  # bars, by the series' own calendar


@dataclass(frozen=True)
class Hours:
    """When a series trades, and what is missing from it."""

    text: str  # for people: "Mon-Fri 09:30-16:00"
    gaps: tuple[Gap, ...]  # the longest first
    missing: int  # bars in all gaps
    holidays: int  # trading days without a bar, a few at a time


def spacing(times: Int64) -> int:
    """The step from bar to bar, in ns, that the series keeps: the shortest that is common; 0 for a single bar."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    if not len(steps):
        return 0
    shortest = int(steps.min())
    if np.count_nonzero(steps == shortest) * 10 >= len(steps):
        return shortest
    return int(np.partition(steps, (len(steps) - 1) // 2)[(len(steps) - 1) // 2])


def trading_hours(times: Int64, step: int) -> Hours:
    """What is inferred from ascending wall-clock ns [N] that are `step` ns apart.

    A market's nights, weekends and lunch hours are not gaps, nor are days that begin late or end early. A few trading
    days in a row without a bar are holidays; where every hour of every day is traded, each missing bar is a gap.
    """
    if step >= 27 * DAY:
        return _months(times, step)
    if len(times) < FEW or step <= 0:
        return Hours("unknown: too few bars", (), 0, 0)
    step = min(step, WEEK)
    phase = int(times[len(times) // 2] - MONDAY) % step
    slots = (times - MONDAY - phase) // step
    traded = _traded(slots, step)
    always = bool(traded.all())
    pauses = np.flatnonzero(np.diff(slots) > 1)
    before, after = slots[pauses], slots[pauses + 1]
    missing = _count(traded, after) - _count(traded, before + 1)
    pauses, missing = pauses[missing > 0], missing[missing > 0]
    left, right = times[pauses], times[pauses + 1]

    days = np.logical_or.reduce(traded.reshape(7, -1), axis=1) if len(traded) % 7 == 0 else np.ones(7, np.bool_)
    first, last = (left - MONDAY) // DAY, (right - MONDAY) // DAY
    whole = np.maximum(_count(days, last) - _count(days, first + 1), 0) if step < WEEK else missing
    holiday = (whole > 0) & (whole <= (LONGEST_HOLIDAY if step < WEEK else 1)) & (not always or step == WEEK)
    short = (whole == 0) & (first != last) & (not always)  # a day that ended early, or began late
    clock = (missing * step == HOUR) & (last % 7 == SUNDAY) & (right % DAY <= 4 * HOUR)  # summer time begins
    closed = ~np.bool_(always) & (first == last) & _feast(first)
    is_gap = ~(holiday | short | clock | closed)
    is_gap[is_gap] = ~_daily(left[is_gap], missing[is_gap])
    order = np.argsort(-missing[is_gap], kind="stable")
    gaps = tuple(Gap(int(left[is_gap][at]), int(right[is_gap][at]), int(missing[is_gap][at])) for at in order)
    return Hours(_text(traded, step, phase), gaps, int(missing[is_gap].sum()), int(whole[holiday].sum()))


def _daily(after: Int64, missing: Int64) -> Bool:
    """Which gaps come day by day at the same time, as a market's pause that moves when its summer time ends."""
    if len(after) < MANY:
        return np.zeros(len(after), np.bool_)
    _, kinds = np.unique(np.stack([after % DAY, missing]), axis=1, return_inverse=True)
    order = np.argsort(kinds, kind="stable")  # each kind by time
    follows = (np.diff(kinds[order]) == 0) & (np.diff(after[order] // DAY) <= 3)
    counts = np.bincount(kinds)
    again = np.bincount(kinds[order[1:]], weights=follows, minlength=len(counts))
    daily: Bool = ((counts >= MANY) & (again >= OFTEN * counts))[kinds]
    return daily


def _feast(days: Int64) -> Bool:
    """Which days, counted from the first Monday, are Christmas or New Year, when even currencies stop."""
    dates = (days + MONDAY // DAY).astype("datetime64[D]")
    in_year = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    left = ((dates.astype("datetime64[Y]") + 1).astype("datetime64[D]") - dates).astype(np.int64)
    feast: Bool = (in_year == 0) | (left == 7)
    return feast


def _months(times: Int64, step: int) -> Hours:
    months = (times // DAY).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    each = max(1, round(step / (30.4 * DAY)))
    missing = np.diff(months) // each - 1
    found = sorted(np.flatnonzero(missing > 0), key=lambda row: -missing[row])
    gaps = tuple(Gap(int(times[row]), int(times[row + 1]), int(missing[row])) for row in found)
    return Hours("every month" if each == 1 else f"every {each} months", gaps, sum(gap.missing for gap in gaps), 0)


def _traded(slots: Int64, step: int) -> Bool:
    """Which steps of the week [K] have bars as a rule; slots are counted from a Monday."""
    week = WEEK // step
    counts = np.bincount(slots % week, minlength=week)
    if (slots[-1] - slots[0]) >= LEARNT * week or week < 14:
        return counts >= USUAL * np.percentile(counts[counts > 0], 75)
    # too short to know each hour of the week: the hours of the day and the days of the week
    grid = counts[: week // 7 * 7].reshape(7, -1)
    in_day = grid.sum(axis=0)
    hours = in_day >= USUAL * np.percentile(in_day[in_day > 0], 75)
    on_day = np.count_nonzero(grid, axis=1)
    if hours.all() and on_day[SATURDAY] and on_day[SUNDAY]:
        return np.ones(week, np.bool_)
    return np.resize(np.outer(on_day >= USUAL * on_day.max(), hours).ravel(), week)


def _count(traded: Bool, slots: Int64) -> Int64:
    """How many traded steps there are before each slot, counted from the first Monday."""
    before = np.concatenate([[0], np.cumsum(traded)])
    weeks, inside = np.divmod(slots, len(traded))
    counted: Int64 = weeks * before[-1] + before[inside]
    return counted


def _text(traded: Bool, step: int, phase: int) -> str:
    if len(traded) < 7:
        return f"every week ({WEEKDAYS[phase // DAY % 7]})" if step == WEEK else "every few days"
    grid = traded[: len(traded) // 7 * 7].reshape(7, -1)
    days: Bool = np.logical_or.reduce(grid, axis=1)
    first, last = _open(days)
    if days.all():
        text = "every day"
    elif np.count_nonzero(days) == (last - first) % 7 + 1:
        text = WEEKDAYS[first] if first == last else f"{WEEKDAYS[first]}-{WEEKDAYS[last]}"
    else:
        text = ", ".join(WEEKDAYS[day] for day in np.flatnonzero(days))
    if step >= DAY:
        return text
    hours: Bool = np.greater_equal(grid.sum(axis=0), USUAL * np.count_nonzero(days))
    if hours.all():
        return f"{text} 24h"
    first, last = _open(hours)
    return f"{text} {_clock(first * step + phase)}-{_clock((last + 1) * step + phase)}"


def _open(traded: Bool) -> tuple[int, int]:
    """First and last step of a round of steps, of which the longest pause lies between the last and the first."""
    on = np.flatnonzero(traded)
    if not len(on):
        return 0, len(traded) - 1
    pauses = np.diff(on, append=on[0] + len(traded))
    longest = int(pauses.argmax())
    return int(on[(longest + 1) % len(on)]), int(on[longest])


def _clock(in_day: int) -> str:
    minutes = int(in_day) // 60_000_000_000 % 1440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
