"""Turns one column of stamps, in any of the usual notations, into instants; called by the readers, chunk by chunk."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.errors import DataError

Int64 = npt.NDArray[np.int64]

MISSING = np.iinfo(np.int64).min  # what numpy calls NaT

_ZONE = r"(?:Z|UTC| UTC| ?[+-]\d{2}:?\d{2})"
_ISO = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]\d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?{_ZONE}?)?")
_CLOCK = re.compile(rf"([T ]+)(\d{{1,2}}:\d{{2}}|\d{{4}}(?=\D|$|\d\d$))(:?\d{{2}})?(\.\d+)?( ?[AaPp][Mm])?({_ZONE})?")
_MIDNIGHT = rf"[T ]00:?00(?::?00(?:\.0+)?)?{_ZONE}$"
_YEAR_FIRST = re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2\d{4}")
_COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
# Smallest and largest epoch number of each unit in 1973..2106, and nanoseconds per unit; none is of two.
_EPOCH = ((1e8, 4.3e9, 1_000_000_000), (1e11, 4.3e12, 1_000_000), (1e14, 4.3e15, 1_000), (1e17, 4.3e18, 1))
_BETWEEN = [(last, first) for (_, last, _), (first, _, _) in pairwise(_EPOCH)]
_UNITS = {1_000_000_000: "seconds", 1_000_000: "milliseconds", 1_000: "microseconds", 1: "nanoseconds"}


class StampReader:
    """Reads one file's stamps. The first chunk settles the notation; a stamp in another one is a bad row."""

    def __init__(self, file: Path, column: str) -> None:
        self.file = file
        self.column = column
        self.aware: bool | None = None  # do the stamps carry a zone? None: nothing read yet
        self.midnights = True  # does the file write all stamps so far as midnights of a zone?
        self._format: str | None = None
        self._unit: int | None = None
        self._clock_digits: int | None = None  # of a time of day in a column of its own
        self._units: set[int] = set()  # nanoseconds per unit, of all epoch numbers so far
        self._old = False  # is there a stamp so near 1970 that its size does not give its unit?

    def joined(self, dates: pd.Series, clock: pd.Series) -> pd.Series:
        """Stamps of a file that writes the day and the time of day in two columns, as text.

        Zeros that a time of digits has lost on its way through numbers come back: 930 is 09:30, 93000 is 09:30:00.
        """
        if clock.dtype.kind in "iuf":
            clock = clock.map("{:.0f}".format)
        text = clock.astype("str").str.strip()
        digits = text.str.fullmatch(r"\d{1,6}")
        longest = text[digits].str.len().max() if digits.any() else 0
        if self._clock_digits is None and (longest > 2 or (text[digits].astype(int) == 0).all()):
            # one or two digits may be the hour alone
            self._clock_digits = 4 if longest <= 4 else 6
        if self._clock_digits is not None:
            text = text.where(~digits, text.str.zfill(self._clock_digits))
        return dates.astype("str") + " " + text

    def read(self, stamps: pd.Series) -> Int64:
        """Nanoseconds since 1970 of each stamp: UTC if `aware`, else wall clock; MISSING where there is no valid stamp.

        Raises DataError when the notation is unknown or ambiguous.
        """
        if isinstance(stamps.dtype, pd.DatetimeTZDtype) or stamps.dtype.kind == "M":
            self._settle(isinstance(stamps.dtype, pd.DatetimeTZDtype))
            clocks = pd.DatetimeIndex(stamps.dropna()).tz_localize(None)
            self.midnights &= bool(self.aware and (clocks == clocks.normalize()).all())
            return _nanoseconds(stamps)
        if stamps.dtype.kind in "iuf":
            return self._numbers(stamps)
        text = stamps.astype("str").str.strip().where(stamps.notna(), "")
        given = text[text != ""]
        if given.empty:
            return np.full(len(text), MISSING)
        if given.iloc[0].isdigit():
            return self._numbers(pd.to_numeric(text, errors="coerce"))
        return self._text(text, given)

    @property
    def units(self) -> list[str]:
        """The units of the epoch numbers read so far, the longest first."""
        return [_UNITS[unit] for unit in sorted(self._units, reverse=True)]

    def _settle(self, aware: bool) -> None:
        if self.aware not in (None, aware):
            raise self._error("mixes stamps with and without a time zone")
        self.aware = aware

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self.file}: column {self.column}: {problem}")

    def _numbers(self, numbers: pd.Series) -> Int64:
        values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        finite = np.isfinite(values)
        if self._unit is None and self._format is None:
            known = values[finite]
            self._format = _compact_format(known)
            if self._format is None:
                largest = np.abs(known).max(initial=0)
                self._unit = next((unit for _, limit, unit in _EPOCH if 1e8 <= largest < limit), None)
                if self._unit is None:
                    raise self._error(f"{largest:.0f} is neither a date like 20240131 nor seconds since 1970")
        if self._format is not None:
            self._settle(False)
            digits = pd.Series([f"{value:.0f}" if ok else "" for value, ok in zip(values, finite, strict=True)])
            return _nanoseconds(pd.to_datetime(digits, format=self._format, errors="coerce"))
        self._settle(True)
        self.midnights = False  # numbers since 1970 name no zone
        units = self._unit_of_each(np.where(finite, np.abs(values), 0))
        fits = finite & (np.abs(values) < 4.3e18 / units)
        if numbers.dtype.kind == "i":
            return np.where(fits, np.where(fits, numbers.to_numpy(np.int64), 0) * units, MISSING)
        return np.where(fits, np.round(np.where(fits, values, 0) * units, -3).astype(np.int64), MISSING)

    def _unit_of_each(self, sizes: npt.NDArray[np.float64]) -> Int64:
        """Nanoseconds per unit of each epoch number: a file may go over from milliseconds to microseconds on its way.

        A number too small to belong to one unit alone has that of the file. So have all the smaller ones of a file that
        reaches back to the years around 1970, where milliseconds are as small as seconds of today.
        """
        assert self._unit is not None
        self._old |= any(((sizes >= last) & (sizes < first)).any() for last, first in _BETWEEN)
        units = np.full(len(sizes), self._unit)
        for first, last, unit in _EPOCH:
            if not (self._old and unit > self._unit):
                units[(sizes >= first) & (sizes < last)] = unit
        self._units.update(np.unique(units[sizes > 0]).tolist())
        return units

    def _text(self, text: pd.Series, given: pd.Series) -> Int64:
        if self._format is None:
            self._format = self._guess(given)
            self._settle(bool(re.search(rf"[\d]{_ZONE}$", given.iloc[0])) and ":" in given.iloc[0])
        if self.aware:
            # pandas takes a stamp without a zone for UTC here; a mixture must not pass unseen
            zoned = text.str.contains(rf":\d{{2}}(?:\.\d+)?{_ZONE}$", regex=True)
            if not zoned[given.index].all():
                raise self._error("mixes stamps with and without a time zone")
        self.midnights &= bool(self.aware and given.str.contains(_MIDNIGHT, regex=True).all())
        try:
            parsed = pd.to_datetime(
                text.where(text != "", None), format=self._format, errors="coerce", utc=bool(self.aware)
            )
        except ValueError:
            raise self._error("mixes stamps with and without a time zone") from None
        if isinstance(parsed.dtype, pd.DatetimeTZDtype) != self.aware:
            raise self._error("mixes stamps with and without a time zone")
        return _nanoseconds(parsed)

    def _guess(self, given: pd.Series) -> str:
        sample = given.iloc[0]
        if _ISO.fullmatch(sample):
            return "ISO8601"
        if first := _YEAR_FIRST.match(sample):
            date = "%Y{0}%m{0}%d".format(first[1])
        elif first := re.match(r"\d{8}(?!\d)", sample):
            date = "%Y%m%d"
        elif first := _YEAR_LAST.match(sample):
            date = self._day_or_month_first(given, first[2])
        else:
            raise self._error(f"{sample!r} is no known notation; write 2024-01-31 or 2024-01-31 09:35")
        clock = sample[first.end() :]
        if not clock:
            return date
        if not (found := _CLOCK.fullmatch(clock)):
            raise self._error(f"{sample!r} is no known notation; write 2024-01-31 09:35")
        space, hour, second, fraction, half, zone = found.groups()
        colon = ":" if ":" in hour else ""
        time = ("%I" if half else "%H") + colon + "%M" + (f"{colon}%S" if second else "") + (".%f" if fraction else "")
        if half:
            time += " %p" if half.startswith(" ") else "%p"
        if zone:
            time += " %z" if zone.startswith(" ") else "%z"
        return date + space + time

    def _day_or_month_first(self, given: pd.Series, separator: str) -> str:
        if separator == ".":
            return "%d.%m.%Y"
        parts = given.str.extract(r"^(\d{1,2})[-/](\d{1,2})[-/]").astype(float)
        if parts[0].max() > 12:
            return f"%d{separator}%m{separator}%Y"
        if parts[1].max() > 12:
            return f"%m{separator}%d{separator}%Y"
        raise self._error(f"{given.iloc[0]!r} may be day-first or month-first; write 2024-01-31")


def _compact_format(known: npt.NDArray[np.float64]) -> str | None:
    """The format of numbers that are digits of a date, like 20240131 or 202401310935; None if they are not."""
    if not len(known) or (known < 0).any() or (known != np.floor(known)).any():
        return None
    form = _COMPACT.get(len(f"{known[0]:.0f}"))
    if form is None:
        return None
    dates = _nanoseconds(pd.to_datetime(pd.Series([f"{value:.0f}" for value in known]), format=form, errors="coerce"))
    # a bad date among many is a bad row; epoch numbers hardly ever look like dates
    return form if (dates != MISSING).mean() >= 0.5 else None


def _nanoseconds(stamps: pd.Series) -> Int64:
    index = pd.DatetimeIndex(stamps)
    in_range = (index.year >= 1900) & (index.year < 2200)  # also false for NaT
    return pd.DatetimeIndex(index.where(in_range)).as_unit("ns").asi8
