"""Turns a column of timestamps, in any common notation, into instants; called by the readers, chunk by chunk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.data.reading.notations import (
    ABBREVIATION,
    CHINESE,
    NAMED_ZONE,
    OFFSETS,
    ORDERS,
    TAIWAN,
    YEAR_FIRST,
    YEAR_LAST,
    Undecided,
    date_in,
    has_words,
    in_digits,
    settle_order,
    word_format,
)
from kronos_trainer.errors import DataError

Int64 = npt.NDArray[np.int64]

MISSING = np.iinfo(np.int64).min  # what numpy calls NaT

_MIXED = "mixes timestamps with and without a time zone; use one form, e.g. 2024-01-31 09:35+00:00"

_ZONE = r"(?:Z| ?[+-]\d{2}:?\d{2})"
_ISO = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]\d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?{_ZONE}?)?")
_CLOCK = re.compile(rf"([T ]+)(\d{{1,2}}:\d{{2}}|\d{{4}}(?=\D|$|\d\d$))(:?\d{{2}})?(\.\d+)?( ?[AaPp][Mm])?({_ZONE})?")
_MIDNIGHT = rf"[T ]00:?00(?::?00(?:\.0+)?)?{_ZONE}$"
_MONTH_ONLY = re.compile(r"\d{4}([-/])\d{1,2}")
_DIGITS = re.compile(r"\d+|\d{5,}\.\d*")
_COMPACT = {6: "%y%m%d", 8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%f"}
_EXCEL = (20_000, 80_000)  # days since 1899-12-30: 1954 to 2119
_EXCEL_LOOKS = 63  # so many serial days in a row cannot all look like 040131, since the months have gaps between them
# Smallest and largest epoch number of each unit in 1973..2106, and nanoseconds per unit; none is of two.
_EPOCH = ((1e8, 4.3e9, 1_000_000_000), (1e11, 4.3e12, 1_000_000), (1e14, 4.3e15, 1_000), (1e17, 4.3e18, 1))
_BETWEEN = [(last, first) for (_, last, _), (first, _, _) in pairwise(_EPOCH)]
_UNITS = {1_000_000_000: "seconds", 1_000_000: "milliseconds", 1_000: "microseconds", 1: "nanoseconds"}


class StampReader:
    """Reads one file's stamps. The first chunk decides the notation; a timestamp in another one is a bad row.

    `column_again` gives the whole column as text, for dates whose first chunk does not decide which number is the day.
    """

    def __init__(self, file: Path, column: str, column_again: Callable[[], Iterator[pd.Series]] | None = None) -> None:
        self.file = file
        self.column = column
        self.aware: bool | None = None  # do the stamps carry a zone? None: nothing read yet
        self.midnights = True  # does the file write all stamps so far as midnights of a zone?
        self.notation = ""  # how the dates are written, where that is worth saying
        self.settled_by: int | None = None  # the row, from 0, that decides which number of a date is the day
        self._again = column_again
        self._format: str | None = None
        self._clean: list[Callable[[pd.Series], pd.Series]] = []
        self._zone: str | None = None  # that the stamps name, as 'US/Eastern'
        self._unit: int | None = None
        self._excel = False  # are the numbers days of a spreadsheet?
        self._clock_digits: int | None = None  # of a time of day in a column of its own
        self._units: set[int] = set()  # nanoseconds per unit, of all epoch numbers so far
        self._old = False  # has any timestamp too near 1970 to infer its unit from its size?

    def joined(self, dates: pd.Series, clock: pd.Series) -> pd.Series:
        """Stamps of a file that writes the day and the time of day in two columns, as text.

        Zeros that digits have lost on their way through numbers come back: 930 is 09:30, 93000 is 09:30:00, and the day
        50314 is 05-03-14.
        """
        dates, clock = (one.map("{:.0f}".format) if one.dtype.kind in "iuf" else one for one in (dates, clock))
        text = clock.astype("str").str.strip()
        digits = text.str.fullmatch(r"\d{1,6}")
        longest = text[digits].str.len().max() if digits.any() else 0
        if self._clock_digits is None and (longest > 2 or (text[digits].astype(int) == 0).all()):
            # one or two digits may be the hour alone
            self._clock_digits = 4 if longest <= 4 else 6
        if self._clock_digits is not None:
            text = text.where(~digits, text.str.zfill(self._clock_digits))
        return _with_zeros(dates.astype("str")) + " " + text

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
        if self._format is None and _DIGITS.fullmatch(given.iloc[0]):
            return self._numbers(pd.to_numeric(text, errors="coerce"))
        if self._unit is not None or self._excel:
            return self._numbers(pd.to_numeric(text, errors="coerce"))
        return self._text(text, given)

    @property
    def units(self) -> list[str]:
        """The units of the epoch numbers read so far, the longest first."""
        return [_UNITS[unit] for unit in sorted(self._units, reverse=True)]

    def _settle(self, aware: bool) -> None:
        if self.aware not in (None, aware):
            raise self._error(_MIXED)
        self.aware = aware

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self.file}: column {self.column}: {problem}")

    def _numbers(self, numbers: pd.Series) -> Int64:
        values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        finite = np.isfinite(values)
        if self._unit is None and self._format is None and not self._excel:
            known = values[finite]
            self._format = _compact_format(_digits(numbers, finite)[finite])
            if self._format == _COMPACT[6] and len(known) < _EXCEL_LOOKS and _is_excel(known):
                raise self._error(
                    f"{known[0]:.0f} may be a day of a two-digit year or a spreadsheet's serial day; write 2024-01-31"
                )
            if self._format is None:
                largest = np.abs(known).max(initial=0)
                self._unit = next((unit for _, limit, unit in _EPOCH if 1e8 <= largest < limit), None)
                self._excel = _is_excel(known)
                if self._unit is None and not self._excel:
                    raise self._error(f"{largest:.0f} is neither a date like 20240131 nor seconds since 1970")
        if self._format is not None:
            self._settle(False)
            days = _with_zeros(_digits(numbers, finite))
            return _nanoseconds(pd.to_datetime(days, format=self._format, errors="coerce"))
        if self._excel:
            self._settle(False)
            self.notation = "dates read as a spreadsheet's serial days"
            fits = finite & (values >= _EXCEL[0]) & (values < _EXCEL[1])
            # spreadsheets keep a time of day as a fraction, exact to about a microsecond
            milliseconds = np.round((np.where(fits, values, 0) - 25_569) * 86_400_000).astype(np.int64)
            return np.where(fits, milliseconds * 1_000_000, MISSING)
        self._settle(True)
        self.midnights = False  # numbers since 1970 name no zone
        units = self._unit_of_each(np.where(finite, np.abs(values), 0))
        fits = finite & (np.abs(values) < 4.3e18 / units)
        if numbers.dtype.kind == "i":
            return np.where(fits, np.where(fits, numbers.to_numpy(np.int64), 0) * units, MISSING)
        return np.where(fits, np.round(np.where(fits, values, 0) * units, -3).astype(np.int64), MISSING)

    def _unit_of_each(self, sizes: npt.NDArray[np.float64]) -> Int64:
        """Nanoseconds per unit of each epoch number: a file may change from milliseconds to microseconds.

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
            first = self._cleaned(given.iloc[:1]).iloc[0]
            self._settle(self._zone is not None or (bool(re.search(rf"[\d]{_ZONE}$", first)) and ":" in first))
        if self._zone is not None:
            return self._in_zone(text, given)
        text = self._cleaned(text)
        given = text[given.index]
        if self.aware:
            # pandas takes a stamp without a zone for UTC here; a mixture must not pass unseen
            zoned = text.str.contains(rf":\d{{2}}(?:\.\d+)?{_ZONE}$", regex=True)
            if not zoned[given.index].all():
                raise self._error(_MIXED)
        self.midnights &= bool(self.aware and given.str.contains(_MIDNIGHT, regex=True).all())
        try:
            parsed = pd.to_datetime(
                text.where(text != "", None), format=self._format, errors="coerce", utc=bool(self.aware)
            )
        except ValueError:
            raise self._error(_MIXED) from None
        if isinstance(parsed.dtype, pd.DatetimeTZDtype) != self.aware:
            raise self._error(_MIXED)
        return _nanoseconds(parsed)

    def _in_zone(self, text: pd.Series, given: pd.Series) -> Int64:
        """Instants of stamps that name their zone, as '20240102 09:30:00 US/Eastern'."""
        if not given.str.endswith(f" {self._zone}").all():
            raise self._error(_MIXED)
        bare = self._cleaned(text.str.removesuffix(f" {self._zone}"))
        local = pd.DatetimeIndex(pd.to_datetime(bare.where(bare != "", None), format=self._format, errors="coerce"))
        try:
            instants = local.tz_localize(self._zone, ambiguous="infer", nonexistent="NaT")
        except (ValueError, KeyError) as error:
            raise self._error(f"cannot be placed in {self._zone}: {error}; write timestamps in UTC") from None
        known = local.dropna()
        self.midnights &= bool((known == known.normalize()).all())
        return _nanoseconds(pd.Series(instants))

    def _cleaned(self, text: pd.Series) -> pd.Series:
        for clean in self._clean:
            text = clean(text)
        return text

    def _guess(self, given: pd.Series) -> str:
        sample = given.iloc[0]
        if _ISO.fullmatch(sample):
            return "ISO8601"
        if ABBREVIATION.search(sample):
            self._clean.append(lambda text: text.str.replace(ABBREVIATION, lambda zone: OFFSETS[zone[1]], regex=True))
        elif re.search(r"\bGMT(?=[+-]\d)", sample):
            self._clean.append(lambda text: text.str.replace(r" ?GMT(?=[+-])", " ", regex=True))
        if zone := NAMED_ZONE.search(sample):
            self._zone = zone[1]
            self._clean.append(lambda text: text.str.removesuffix(f" {self._zone}"))
        if has_words(sample):
            self._clean.append(in_digits)
        if TAIWAN.match(sample):
            self.notation = "dates read as years since 1911"
            self._clean.append(lambda text: text.str.replace(TAIWAN, lambda y: str(int(y[1]) + 1911), regex=True))
        given = self._cleaned(given)
        sample = given.iloc[0]
        if _ISO.fullmatch(sample) and self._zone is None:
            return "ISO8601"
        if first := CHINESE.match(sample):
            date, end = "%Y年%m月%d日", first.end()
        elif first := YEAR_FIRST.match(sample):
            date, end = "%Y{0}%m{0}%d".format(first[1]), first.end()
        elif first := re.match(r"\d{8}(?!\d)", sample):
            date, end = "%Y%m%d", first.end()
        elif first := re.match(r"\d{6}(?=[ T]\d)", sample):
            date, end = "%y%m%d", first.end()
        elif first := YEAR_LAST.match(sample):
            date, end = self._ordered(given), first.end()
        elif words := word_format(sample):
            date, end = words
        elif first := _MONTH_ONLY.fullmatch(sample):
            date, end = f"%Y{first[1]}%m", first.end()
        else:
            raise self._error(f"{sample!r} is not a known notation; write 2024-01-31 or 2024-01-31 09:35")
        clock = sample[end:]
        if not clock:
            return date
        if not (found := _CLOCK.fullmatch(clock)):
            raise self._error(f"{sample!r} is not a known notation; write 2024-01-31 09:35")
        space, hour, second, fraction, half, zone_ = found.groups()
        colon = ":" if ":" in hour else ""
        time = ("%I" if half else "%H") + colon + "%M" + (f"{colon}%S" if second else "") + (".%f" if fraction else "")
        if half:
            time += " %p" if half.startswith(" ") else "%p"
        if zone_:
            time += " %z" if zone_.startswith(" ") else "%z"
        return date + space + time

    def _ordered(self, given: pd.Series) -> str:
        """The format of dates like 01/02/2024 or 02-01-24, which the whole column decides."""
        again = (part.astype("str").str.strip() for part in self._again()) if self._again else iter([given])
        try:
            order = settle_order(again)
        except Undecided as undecided:
            readings = [
                f"{ORDERS[name].replace(' ', '-')} ({date_in(given.iloc[0], name)})" for name in undecided.orders
            ]
            raise self._error(
                f"{given.iloc[0]!r} may be {' or '.join(readings)}, and no row decides; write 2024-01-31"
            ) from None
        if order.separator != "." or order.year == "%y":
            self.notation = f"dates read as {ORDERS[order.order]}"
            self.settled_by = order.evidence
        return order.form


def _digits(numbers: pd.Series, finite: npt.NDArray[np.bool_]) -> pd.Series:
    """Whole numbers as text; integers beyond what a float holds keep their last digits."""
    if numbers.dtype.kind in "iu":
        return numbers.reset_index(drop=True).astype("str")
    values = zip(numbers.to_numpy(dtype=np.float64, na_value=np.nan), finite, strict=True)
    return pd.Series([f"{value:.0f}" if ok and value == np.floor(value) else "" for value, ok in values])


def _is_excel(known: npt.NDArray[np.float64]) -> bool:
    return bool(len(known) and ((known >= _EXCEL[0]) & (known < _EXCEL[1])).all())


def _with_zeros(digits: pd.Series) -> pd.Series:
    """Days of two-digit years as they were written: numbers make 50314 of 050314, and 101 of the first day of 2000."""
    if not (digits.str.len() < 6).any():
        return digits  # nearly every file, whose rows are many
    return digits.where(~digits.str.fullmatch(r"\d{3,5}"), digits.str.zfill(6))


def _compact_format(known: pd.Series) -> str | None:
    """The format of numbers that are digits of a date, like 20240131 or 202401310935; None if they are not."""
    if known.empty or not known.str.isdigit().all():
        return None
    written = _with_zeros(known)
    form = _COMPACT.get(len(written.iloc[0]))
    if form is None:
        return None
    dates = _nanoseconds(pd.to_datetime(written, format=form, errors="coerce"))
    # A bad date among many is a bad row. Epoch numbers hardly ever look like dates, a spreadsheet's days up to half of
    # the time.
    return form if (dates != MISSING).mean() >= (0.5 if written.equals(known) else 0.9) else None


def _nanoseconds(stamps: pd.Series) -> Int64:
    index = pd.DatetimeIndex(stamps)
    in_range = (index.year >= 1900) & (index.year < 2200)  # also false for NaT
    return pd.DatetimeIndex(index.where(in_range)).as_unit("ns").asi8
