"""When an exchange trades, from the library exchange_calendars. Called where future times and gaps are computed.

The library is imported on first use: it imports pandas, and takes half a second.
"""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kronos_trainer.errors import BadEnvironment, ConfigError, DataError

if TYPE_CHECKING:
    from types import ModuleType

Dates = npt.NDArray[np.datetime64]  # by the day
Int64 = npt.NDArray[np.int64]
Day = np.datetime64 | str


@dataclass(frozen=True)
class Hours:
    """The spans in which an exchange trades, ascending; a session with a break at noon has two."""

    dates: Dates  # [N], the session that each span belongs to
    opens: Int64  # [N], nanoseconds since 1970, UTC
    closes: Int64  # [N], the end of each span, outside


def check_calendar(name: str | None) -> None:
    """Raises ConfigError unless `name` is None or a calendar's; BadEnvironment where the library is missing."""
    if name is None:
        return
    known = _library().get_calendar_names()
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "an exchange's MIC is expected, such as XNYS or XSHG"
        raise ConfigError(f"data.calendar: exchange_calendars has no calendar {name!r}; {hint}")


def zone(name: str) -> str:
    """IANA zone of an exchange. Raises as `check_calendar` does."""
    return str(_any_year(name).tz)


def known_until(name: str) -> np.datetime64 | None:
    """The last date whose holidays are known; None: there is no such date. Raises as `check_calendar` does."""
    high = type(_any_year(name)).bound_max()
    return None if high is None else _day(str(high))


def sessions(name: str, first: Day, last: Day) -> Dates:
    """The dates on which an exchange trades from `first` to `last`, both included.

    Raises as `check_calendar` does, and DataError if the library does not cover that span.
    """
    start, end = _day(first), _day(last)
    if end < start:
        return np.empty(0, "datetime64[D]")
    dates = _calendar(name, _year(start), _year(end)).sessions.to_numpy().astype("datetime64[D]")
    return np.asarray(dates[(dates >= start) & (dates <= end)])


def hours(name: str, first: Day, last: Day) -> Hours:
    """The spans of trading of all sessions from `first` to `last`, both included. Raises as `sessions` does."""
    start, end = _day(first), _day(last)
    calendar = _calendar(name, _year(start), _year(end))
    dates = calendar.sessions.to_numpy().astype("datetime64[D]")
    inside = (dates >= start) & (dates <= end)
    opens, closes = calendar.opens_nanos, calendar.closes_nanos
    pauses, resumes = calendar.break_starts_nanos, calendar.break_ends_nanos
    broken = pauses != np.iinfo(np.int64).min  # what numpy calls NaT
    spans_of_day = np.where(broken, 2, 1)[inside]
    first_spans = np.column_stack([opens, np.where(broken, pauses, closes)])[inside]
    second_spans = np.column_stack([resumes, closes])[inside & broken]
    spans = np.sort(np.concatenate([first_spans, second_spans]), axis=0)
    return Hours(np.repeat(dates[inside], spans_of_day), spans[:, 0], spans[:, 1])


def _day(day: Day) -> np.datetime64:
    return np.datetime64(str(day)[:10], "D")


def _year(day: np.datetime64) -> int:
    return int(day.astype("datetime64[Y]").astype(int)) + 1970


@lru_cache(16)
def _calendar(name: str, first: int, last: int) -> Any:
    """The calendar for whole years, as far as the library knows them."""
    kind = _any_year(name)
    low, high = kind.bound_min(), kind.bound_max()
    if (low is not None and last < low.year) or (high is not None and last > high.year):
        span = f"{'the beginning' if low is None else low.date()} to {'any day' if high is None else high.date()}"
        raise DataError(
            f"calendar {name}: exchange_calendars has its holidays from {span}, but {first} to {last} is needed; "
            "shorten the horizon, set the times with --future, or install a newer exchange_calendars"
        )
    start = f"{first}-01-01" if low is None or low.year < first else low
    end = f"{last}-12-31" if high is None or high.year > last else high
    return _made(name, start, end)


@lru_cache(16)
def _any_year(name: str) -> Any:
    """The calendar for one year that the library knows of every exchange; all twenty of its default take a second."""
    check_calendar(name)
    return _made(name, "2025-01-01", "2025-12-31")


def _made(name: str, start: Any, end: Any) -> Any:
    with warnings.catch_warnings():
        # the library lags behind the deprecations of pandas
        warnings.simplefilter("ignore")
        try:
            return _library().get_calendar(name, start=start, end=end)
        except (NotImplementedError, ValueError) as error:
            problem = str(error).splitlines()[0][:200]
            raise BadEnvironment(
                f"calendar {name}: the installed exchange_calendars cannot create it: {problem}; install a newer "
                "one, or remove data.calendar"
            ) from error


def _library() -> ModuleType:
    try:
        return import_module("exchange_calendars")
    except ImportError:
        raise BadEnvironment(
            "data.calendar needs exchange_calendars, part of the trainer extra: pip install exchange_calendars"
        ) from None
