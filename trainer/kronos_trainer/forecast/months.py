"""The times of the next bars of months, quarters or years. Pure; called where future times are inferred."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.datetime64]
Dates = npt.NDArray[np.datetime64]  # by the day

DAY = np.timedelta64(1, "D")
SHORTEST = np.timedelta64(28, "D")  # a month
RECENT = 24  # bars, enough to outvote a displaced one
MOST = 0.75  # of them must agree


def next_months(times: Times, horizon: int, business: np.busdaycalendar | None = None) -> Times | None:
    """The `horizon` times after `times` (naive, ascending, two or more), at the time of day of the last one.

    None if the bars don't step by months. The day is the one that most bars have: the last of the month, its last or
    first business day, or the same number. `business` gives these days; None: Monday to Friday.
    """
    business = business or np.busdaycalendar()
    times = times[-RECENT:]
    spacings = np.diff(times)
    if np.median(spacings) < SHORTEST:
        return None
    dates = times.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    steps, counts = np.unique(np.diff(months).astype(np.int64), return_counts=True)
    step = int(steps[counts.argmax()])
    numbers = _number(dates)
    weeks = (spacings == spacings[0]).all() and spacings[0] % (7 * DAY) == np.timedelta64(0)
    if step < 1 or counts.max() < MOST * counts.sum() or (weeks and (numbers != numbers[0]).any()):
        return None

    ahead = months[-1] + step * np.arange(1, horizon + 1)
    same = np.minimum(_first(ahead) + (numbers[-1] - 1) * DAY, _last(ahead))
    rules = (  # days that the bars had by each rule, and will have
        (_last(months), _last(ahead)),
        (_first(months) + (numbers[-1] - 1) * DAY, same),
        (_last_business(months, business), _last_business(ahead, business)),
        (_first_business(months, business), _first_business(ahead, business)),
    )
    votes = [(dates == had).mean() for had, _ in rules]
    days = rules[int(np.argmax(votes))][1] if max(votes) >= MOST else same
    return np.asarray(days.astype("datetime64[ns]") + (times[-1] - dates[-1]))


def _number(dates: Dates) -> npt.NDArray[np.int64]:
    """Day of the month, from 1."""
    return np.asarray((dates - dates.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1)


def _first(months: Dates) -> Dates:
    return months.astype("datetime64[D]")


def _last(months: Dates) -> Dates:
    return np.asarray((months + 1).astype("datetime64[D]") - DAY, "datetime64[D]")


def _first_business(months: Dates, business: np.busdaycalendar) -> Dates:
    return np.asarray(np.busday_offset(_first(months), 0, roll="forward", busdaycal=business))


def _last_business(months: Dates, business: np.busdaycalendar) -> Dates:
    return np.asarray(np.busday_offset(_last(months), 0, roll="backward", busdaycal=business))
