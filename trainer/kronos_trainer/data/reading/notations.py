"""The notation of a file's dates: words to digits, and which number is the day. Called by the timestamp reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

# Months as files name them, January first; a word counts from its third letter on. One row a language.
_MONTHS = (
    "january february march april may june july august september october november december",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "jänner feber maerz april mai juni juli august sept oktober november dezember",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "janv févr mrz avr mai juin juil aout sept oct nov déc",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "januari februari maart april mei juni juli augustus september oktober november december",
    "styczeń luty mrt kwiecień maj czerwiec lipiec sierpień wrzesień październik listopad grudzień",
    "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
)
_ENGLISH = [name[:3].title() for name in _MONTHS[0].split()]
_WORD = r"[^\W\d_]{3,}"
# 'mar' is no weekday here, but March
_WEEKDAYS = (
    "mon monday tue tues tuesday wed wednesday thu thurs thursday fri friday sat saturday sun sunday "
    "mo montag di dienstag mi mittwoch do donnerstag fr freitag sa samstag so sonntag "
    "lun lundi lunes mardi martes mer mercredi miércoles jeu jeudi jueves ven vendredi viernes sam samedi dim dimanche"
)
_WEEKDAY = re.compile(rf"(?i)^(?:{'|'.join(_WEEKDAYS.split())})\.?,? +")
_THREE = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})(?!\d)")

YEAR_FIRST = re.compile(r"\d{4}([-/.])\d{1,2}\1\d{1,2}")
YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(?:\d{4}|\d{2})(?!\d)")
CHINESE = re.compile(r"\d{4}年\d{1,2}月\d{1,2}日")
TAIWAN = re.compile(r"^(\d{3})(?=[/.-]\d{2}[/.-]\d{2})")  # years since 1911
# Names of zones that mean the same everywhere, which CST, IST and BST do not.
OFFSETS = {"UTC": "+00:00", "GMT": "+00:00", "EST": "-05:00", "EDT": "-04:00", "PST": "-08:00", "PDT": "-07:00"}
OFFSETS |= {"CET": "+01:00", "CEST": "+02:00", "EET": "+02:00", "EEST": "+03:00", "MSK": "+03:00"}
OFFSETS |= {"HKT": "+08:00", "SGT": "+08:00", "JST": "+09:00", "KST": "+09:00"}
ABBREVIATION = re.compile(rf" ?({'|'.join(OFFSETS)})$")
NAMED_ZONE = re.compile(r" ([A-Z][A-Za-z]+/[A-Za-z_]+(?:/[A-Za-z_]+)?)$")

# The three numbers of a date: their order, and its name.
ORDERS = {"dmy": "day first", "mdy": "month first", "ymd": "year first"}
MONTHS = (1, 3)  # between bars that are evenly spaced on the calendar
_FEW = 0.1  # of the dates may be wrong, as bad rows are, in the notation that all the others have


def has_words(sample: str) -> bool:
    """Does this date name its month, or its weekday, in letters?"""
    return any(_month(word) for word in re.findall(_WORD, sample)) or bool(_WEEKDAY.match(sample))


def in_digits(text: pd.Series) -> pd.Series:
    """Dates with their months as English abbreviations: '2. Januar 2024' is '2 Jan 2024'."""
    return text.map(month_in_english)


def month_in_english(date: str) -> str:
    """`in_digits` of one date."""
    date = re.sub(r"(?<=\d)(?:st|nd|rd|th|er|º|ª)\b", "", date)
    date = _WEEKDAY.sub("", date)
    date = re.sub(r"(?i)(?<=\s)(?:de|of|del)\s+", "", date)
    date = re.sub(rf"({_WORD})\.?", lambda found: _month(found[1]) or found[0], date)
    return re.sub(r"^(\d{1,2})\. ?(?=[A-Z])", r"\1 ", date)


@lru_cache(maxsize=1024)
def _month(word: str) -> str | None:
    lower = word.lower()
    for names in _MONTHS:
        for name, english in zip(names.split(), _ENGLISH, strict=True):
            if name.startswith(lower):
                return english
    return None


def word_format(sample: str) -> tuple[str, int] | None:
    """The format of a date that `in_digits` has turned, and how many characters it takes; None if it is none."""
    day, month, year, gap = r"\d{1,2}", r"[A-Z][a-z]{2}", r"\d{4}|\d{2}", r"[-/. ,]+"
    for form in (
        rf"(?P<d>{day})(?P<one>{gap})(?P<b>{month})(?P<two>{gap})(?P<y>{year})(?!\d)",
        rf"(?P<b>{month})(?P<one>{gap})(?P<d>{day})(?P<two>{gap})(?P<y>{year})(?![\d:])",
        rf"(?P<y>\d{{4}})(?P<one>{gap})(?P<b>{month})(?P<two>{gap})(?P<d>{day})(?!\d)",
        rf"(?P<d>{day})(?P<b>{month})(?P<y>{year})(?!\d)",
    ):
        if found := re.match(form, sample):
            parts = sorted((found.start(name), name) for name in "dby")
            years = "%Y" if len(found["y"]) == 4 else "%y"
            names = {"d": "%d", "b": "%b", "y": years}
            groups = found.groupdict()
            first, second, third = (names[name] for _, name in parts)
            return f"{first}{groups.get('one', '')}{second}{groups.get('two', '')}{third}", found.end()
    return None


@dataclass(frozen=True)
class Order:
    """Which number of a date is what, and what in the file decides it."""

    order: str  # of ORDERS
    year: str  # "%Y" or "%y"
    separator: str
    evidence: int | None  # the row, from 0, that settles it; None: the order of the rows does

    @property
    def form(self) -> str:
        """The format, as strptime takes it."""
        return self.separator.join({"d": "%d", "m": "%m", "y": self.year}[letter] for letter in self.order)


class Undecided(Exception):
    """Several orders fit all of a file's dates: `orders`, of ORDERS."""

    def __init__(self, orders: list[str]) -> None:
        super().__init__(orders)
        self.orders = orders


def date_in(text: str, order: str) -> str:
    """What a date means in an order of ORDERS, as 2024-01-31."""
    found = _THREE.match(text)
    assert found is not None
    parts = dict(zip(order, (found[1], found[3], found[4]), strict=True))
    year = parts["y"] if len(parts["y"]) == 4 else ("20" if int(parts["y"]) < 69 else "19") + parts["y"]
    return f"{year}-{parts['m'].zfill(2)}-{parts['d'].zfill(2)}"


def settle_order(chunks: Iterator[pd.Series]) -> Order:
    """The order of dates such as 01/02/2024 or 02-01-24 in a column, given in chunks of text.

    A number above 12 settles it, else the order and the spacing of the rows. Raises Undecided.
    """
    orders: tuple[str, ...] = ()
    separator, year = "", "%Y"
    wrong: dict[str, int] = {}
    proof: dict[str, int] = {}  # by the order that a row rules out: the first such row
    rows, dates = 0, 0
    kept: list[npt.NDArray[np.int64]] = []
    for chunk in chunks:
        parts = chunk.astype("str").str.extract(_THREE)
        known = parts[0].notna().to_numpy()
        numbers = parts.loc[known, [0, 2, 3]].astype(np.int64).to_numpy()
        if len(numbers) and not orders:
            separator = str(parts[1][known].iloc[0])
            year = "%Y" if len(str(parts[3][known].iloc[0])) == 4 else "%y"
            orders = ("dmy",) if separator == "." else ("dmy", "mdy")
            orders += () if year == "%Y" else ("ymd",)
            wrong = dict.fromkeys(orders, 0)
        for order in orders:
            day, month = numbers[:, order.index("d")], numbers[:, order.index("m")]
            bad = (month > 12) | (month < 1) | (day > 31) | (day < 1)
            wrong[order] += int(bad.sum())
            if bad.any():
                proof.setdefault(order, rows + int(np.flatnonzero(known)[bad.argmax()]))
        dates += len(numbers)
        rows += len(chunk)
        left = [order for order in orders if wrong[order] <= _FEW * dates]
        if len(left) == 1 and wrong[left[0]] == 0:
            ruled_out = max((proof[order] for order in orders if order != left[0]), default=None)
            return Order(left[0], year, separator, ruled_out)
        if len(left) > 1:
            kept.append(numbers)
    left = sorted((order for order in orders if wrong[order] <= _FEW * dates), key=lambda order: wrong[order])
    if not left:
        raise Undecided(list(orders))
    if len(left) > 1 and wrong[left[0]] == wrong[left[1]]:
        order = _by_the_rows(np.concatenate(kept), left, year)
        return Order(order, year, separator, None)
    return Order(left[0], year, separator, proof.get(next((o for o in orders if o != left[0]), "")))


def _by_the_rows(numbers: npt.NDArray[np.int64], orders: list[str], year: str) -> str:
    """The one order in which the dates go up, or down, or are evenly spaced. Raises Undecided."""
    days = {}
    for order in orders:
        parts = {letter: numbers[:, order.index(letter)] for letter in "dmy"}
        years = parts["y"] if year == "%Y" else parts["y"] + np.where(parts["y"] < 69, 2000, 1900)
        months = (years - 1970) * 12 + parts["m"] - 1
        days[order] = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + parts["d"] - 1

    def breaks(order: str) -> int:
        steps = np.diff(days[order])
        return int(min((steps < 0).sum(), (steps > 0).sum()))

    def uneven(order: str) -> bool:
        distinct = np.unique(days[order])
        dates = distinct.astype("datetime64[D]")
        months = dates.astype("datetime64[M]").astype(np.int64)
        in_month = distinct - dates.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        by_days, by_months = np.unique(np.diff(distinct)), np.unique(np.diff(months))
        calendar = len(by_months) == 1 and by_months[0] in MONTHS and len(np.unique(in_month)) == 1
        return len(by_days) != 1 and not calendar

    def span(order: str) -> int:
        return int(np.ptp(days[order]))

    for measure, far in ((breaks, 10), (uneven, 1)):
        found = sorted((int(measure(order)), order) for order in orders)
        if found[0][0] * far < found[1][0]:
            return found[0][1]
    distinct = len(np.unique(days[orders[0]]))
    spans = sorted((span(order), order) for order in orders)
    if distinct > 1 and len(numbers) >= 4 * distinct and spans[0][0] * 5 <= spans[1][0]:
        return spans[0][1]  # bars of some days in a row, not of one day in each month
    raise Undecided(orders)


def looks_like_stamp(text: str) -> bool:
    """Whether a field of a file may be the time of a bar, in any notation that is read."""
    text = text.strip()
    if re.fullmatch(r"\d{4}[-/.]?\d{2}[-/.]?\d{2}.*|\d{10}(?:\.\d+)?|\d{12,14}|\d{16,17}|\d{19}", text):
        return True
    if YEAR_LAST.match(text) or YEAR_FIRST.match(text) or CHINESE.match(text) or TAIWAN.match(text):
        return True
    return has_words(text) and word_format(month_in_english(text)) is not None


def looks_like_clock(text: str) -> bool:
    """Whether a field of a file may be a time of day alone."""
    return bool(re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?|\d{3,6}|0", text.strip()))
