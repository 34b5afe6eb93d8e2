"""The times of the next bars by the calendar of an exchange. Called if `--calendar` or `data.calendar` sets one.

There are no bars on holidays, and fewer where trading ends early. How bars are stamped (at the start or end, on which
day of a week) no calendar knows: the history shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.data import calendars
from kronos_trainer.data.zones import local_times
from kronos_trainer.errors import ConfigError, DataError
from kronos_trainer.forecast.future import infer_future
from kronos_trainer.forecast.months import next_months

Int64 = npt.NDArray[np.int64]
Dates = calendars.Dates
Spans = tuple[Dates, Int64, Int64]  # the session, beginning and end of each span of trading
Made = Callable[[np.datetime64, np.datetime64], Int64]  # the times of all bars from one day to another

DAY = 86_400_000_000_000
WEEK = 7 * DAY
MONDAY = 4 * DAY  # 1970-01-05
RECENT = 250  # bars of days or weeks that vote: about a year of days has sessions that ended early
RECENT_MONTHS = 30  # more than `months` looks at
RECENT_DAYS = 14  # of intraday bars
FITS = 0.9  # of the bars lie on days of trading, or the calendar is another exchange's
ALIKE = 0.75  # F1 from which on a way of stamping is the history's


def scheduled_future(history: pd.DatetimeIndex, horizon: int, calendar: str, zone: str | None) -> pd.DatetimeIndex:
    """The `horizon` times that follow `history` (naive, ascending) on the days and in the hours of a calendar.

    `zone` is that of the history's clock; None: the exchange's own. Daily bars go on at the time of day that they had,
    or at the open or close of the session; weeks and months by the day that most bars had, weeks without a session left
    out; intraday bars at their start or end, counted from the opening or as they were. Times beyond the last year whose
    holidays are known follow the history.

    Raises DataError for fewer than two bars, or for a history that the calendar does not reach; ConfigError for a
    calendar that is unknown or does not fit the history.
    """
    if len(history) < 2:
        raise DataError(f"future timestamps cannot be inferred from {len(history)} bar(s); pass --future")
    given = history.to_numpy().astype("datetime64[ns]").view(np.int64)
    own = calendars.zone(calendar)
    # midnights are dates, and the same in every zone
    moved = zone not in (None, own) and bool((given % DAY != 0).any())
    times = _moved(given, str(zone), own) if moved else given

    spacings, counts = np.unique(np.diff(times), return_counts=True)
    spacing = int(spacings[counts.argmax()])
    if spacing < DAY:
        future = _intraday(calendar, times, horizon, spacing)
    elif spacing < WEEK:
        future = _daily(calendar, times, horizon)
    elif spacing == WEEK:
        future = _weekly(calendar, times, horizon)
    else:
        future = _monthly(calendar, times, horizon)
    future = _moved(future[:horizon], own, str(zone)) if moved else future[:horizon]
    if len(future) < horizon:
        past = pd.DatetimeIndex(np.concatenate([given, future]).view("M8[ns]"))
        rest = infer_future(past, horizon - len(future)).to_numpy().astype("M8[ns]").view(np.int64)
        future = np.concatenate([future, rest])
    return pd.DatetimeIndex(future.view("M8[ns]"), name=history.name)


def _daily(calendar: str, times: Int64, horizon: int) -> Int64:
    """At the close or open of the session, or at the same time of day; the first of these that most bars were at."""
    recent = times[-RECENT:]
    dates = _dates(recent)
    _require_fit(calendar, dates)
    clock = times[-1] % DAY
    rules: tuple[Callable[[Spans], Int64], ...] = (
        lambda spans: spans[2][np.flatnonzero(np.diff(_nanoseconds(spans[0]), append=-1))],
        lambda spans: spans[1][np.flatnonzero(np.diff(_nanoseconds(spans[0]), prepend=-1))],
        lambda spans: _nanoseconds(np.unique(spans[0])) + clock,
    )
    known = _spans(calendar, dates[0], dates[-1])
    rule = max(rules, key=lambda rule: np.isin(recent, rule(known)).sum())
    return _enough(calendar, dates[-1], horizon, lambda first, last: rule(_spans(calendar, first, last)))


def _weekly(calendar: str, times: Int64, horizon: int) -> Int64:
    """On the same day of the week, or on its first or last session; none in a week without a session."""
    dates = _dates(times)[-RECENT:]
    day, clock = (_nanoseconds(dates[-1:]) - MONDAY) % WEEK, times[-1] % DAY

    def same(sessions: Dates) -> Int64:
        return np.unique((_nanoseconds(sessions) - MONDAY) // WEEK) * WEEK + MONDAY + day

    def first_session(sessions: Dates) -> Int64:
        weeks = (_nanoseconds(sessions) - MONDAY) // WEEK
        return _nanoseconds(sessions[np.diff(weeks, prepend=weeks[0] - 1) > 0])

    def last_session(sessions: Dates) -> Int64:
        weeks = (_nanoseconds(sessions) - MONDAY) // WEEK
        return _nanoseconds(sessions[np.diff(weeks, append=weeks[-1] + 1) > 0])

    known = calendars.sessions(calendar, dates[0] - 7, _reached(calendar, dates[-1] + 7))
    rule = max((same, first_session, last_session), key=lambda rule: np.isin(_nanoseconds(dates), rule(known)).sum())

    def made(_first: np.datetime64, last: np.datetime64) -> Int64:
        found = rule(calendars.sessions(calendar, dates[-1] - 7, last))
        # the bar of the last week may differ once the week is complete
        weeks = (found - MONDAY) // WEEK
        here, end = ((_nanoseconds(np.array([dates[-1], last])) - MONDAY) // WEEK).tolist()
        return np.asarray(found[(weeks > here) & (weeks < end)] + clock)

    return _enough(calendar, dates[-1], 7 * horizon, made)


def _monthly(calendar: str, times: Int64, horizon: int) -> Int64:
    """By the rule of `months`, to which the sessions are the business days."""
    times = times[-RECENT_MONTHS:]
    first, last = _dates(times[[0, -1]])
    apart = max(31, -(-int(times[-1] - times[-2]) // DAY))
    every = np.arange(first - 31, last + (horizon + 2) * apart)
    known = every[every <= _reached(calendar, every[-1])]
    closed = known[~np.isin(known, calendars.sessions(calendar, known[0], known[-1]))]
    weekends = every[len(known) :][~np.is_busday(every[len(known) :])]
    business = np.busdaycalendar("1111111", np.concatenate([closed, weekends]))
    found = next_months(times.view("M8[ns]"), horizon, business)
    return np.empty(0, np.int64) if found is None else np.asarray(found.astype("M8[ns]").view(np.int64))


def _intraday(calendar: str, times: Int64, horizon: int, step: int) -> Int64:
    """The start or end of each bar, counted from the beginning of each span of trading or as the history's are.

    Where the history is stamped in none of these ways, as with bars outside of the session, the inferred times are
    taken, without those on holidays.
    """
    recent = times[times > times[-1] - RECENT_DAYS * DAY]
    first, last = _dates(recent[[0, -1]])
    ways = [
        partial(_grid, calendar, step, anchor, at_end)
        for anchor in (None, int(times[-1] % step))
        for at_end in (False, True)
    ]

    def alike(way: Made) -> float:
        made = way(first - 1, _reached(calendar, last + 1))
        made = made[(made >= recent[0]) & (made <= recent[-1])]
        return float(2 * np.isin(made, recent).sum() / (len(made) + len(recent)))

    best = max(ways, key=alike)
    if alike(best) >= ALIKE:
        return _enough(calendar, last - 1, horizon, lambda start, end: _after(best(start, end), times[-1]))
    _require_fit(calendar, _dates(recent))
    inferred = infer_future(pd.DatetimeIndex(times.view("M8[ns]")), 3 * horizon + 100).to_numpy().view(np.int64)
    days = _dates(inferred)
    return inferred[np.isin(days, calendars.sessions(calendar, days[0], _reached(calendar, days[-1])))]


def _grid(
    calendar: str, step: int, anchor: int | None, at_end: bool, first: np.datetime64, last: np.datetime64
) -> Int64:
    """The stamps of all bars of `step` ns; `anchor`: what they leave when divided by it, None: what an opening does."""
    stamps = []
    for _, opens, closes in zip(*_spans(calendar, first, last), strict=True):
        start = opens if anchor is None else (opens - anchor) // step * step + anchor
        starts = np.arange(start, closes, step)
        # the last bar ends with the trading
        stamps.append(np.minimum(starts + step, closes) if at_end and anchor is None else starts + step * at_end)
    return np.unique(np.concatenate([np.empty(0, np.int64), *stamps]))


def _spans(calendar: str, first: np.datetime64, last: np.datetime64) -> Spans:
    """By the exchange's clock."""
    hours, own = calendars.hours(calendar, first, last), calendars.zone(calendar)
    return hours.dates, local_times(hours.opens, own), local_times(hours.closes, own)


def _enough(calendar: str, after: np.datetime64, horizon: int, made: Made) -> Int64:
    """The times of the days after one, `horizon` or more unless the calendar ends before."""
    days = horizon + 30
    while True:
        last = _reached(calendar, after + days)
        found = made(after + 1, last) if last > after else np.empty(0, np.int64)
        if len(found) >= horizon or last < after + days:
            return found
        days *= 2


def _reached(calendar: str, day: np.datetime64) -> np.datetime64:
    """A day, or the last one whose holidays are known."""
    end = calendars.known_until(calendar)
    return day if end is None else min(day, end)


def _require_fit(calendar: str, dates: Dates) -> None:
    """Raises ConfigError if too many bars lie on days without trading."""
    closed = dates[~np.isin(dates, calendars.sessions(calendar, dates[0], dates[-1]))]
    if len(closed) > (1 - FITS) * len(dates):
        raise ConfigError(
            f"calendar {calendar} does not match these bars: {len(closed)} of the last {len(dates)} are on days "
            f"without trading, such as {closed[-1]}; use another calendar, or none"
        )


def _moved(times: Int64, zone: str, to: str) -> Int64:
    """Wall-clock times of one zone by the clock of another."""
    index = pd.DatetimeIndex(times.view("M8[ns]"))
    aware = index.tz_localize(zone, ambiguous=np.zeros(len(index), bool), nonexistent="shift_forward")
    return local_times(aware.tz_convert("UTC").tz_localize(None).as_unit("ns").asi8, to)


def _after(times: Int64, last: int) -> Int64:
    return times[times > last]


def _dates(times: Int64) -> Dates:
    return times.view("M8[ns]").astype("M8[D]")


def _nanoseconds(dates: Dates) -> Int64:
    return dates.astype("M8[ns]").view(np.int64)
