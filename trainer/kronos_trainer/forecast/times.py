"""The times of future bars: by an exchange's calendar if one is set, else by the pattern of the history."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kronos_trainer.data import calendars
from kronos_trainer.forecast.future import infer_future
from kronos_trainer.forecast.scheduled import scheduled_future

INFERRED = (
    "future timestamps are inferred from the history; holidays are unknown: set an exchange calendar (--calendar, "
    "calendar=) or the times (--future, future=)"
)


def next_times(
    history: pd.DatetimeIndex, horizon: int, calendar: str | None, zone: str | None
) -> tuple[pd.DatetimeIndex, str | None]:
    """The `horizon` times after `history` (naive, ascending), and a note to the user on how they came about.

    `zone` is that of the history's clock, None where it names none. Raises DataError, and ConfigError for a calendar
    that is unknown or another exchange's.
    """
    if calendar is None:
        return infer_future(history, horizon), INFERRED
    times = scheduled_future(history, horizon, calendar, zone)
    end = calendars.known_until(calendar)
    if end is not None and times[-1] >= np.datetime64(end + 1):
        return times, f"calendar {calendar} has holidays up to {end}; later times are inferred from the history"
    return times, None
