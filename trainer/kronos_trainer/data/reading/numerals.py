"""Notations of numbers in files: decimal comma, thousands, currency signs, K M B. Called by the readers.

Whether point or comma is the decimal separator is decided by all columns of a file together, over the whole file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

# What a number may be multiplied by, as a power of ten.
_SUFFIXES = {
    "k": 3,
    "tsd": 3,
    "千": 3,
    "m": 6,
    "mio": 6,
    "mn": 6,
    "mln": 6,
    "b": 9,
    "bn": 9,
    "mrd": 9,
    "mld": 9,
    "t": 12,
    "万": 4,
    "萬": 4,
    "만": 4,
    "亿": 8,
    "億": 8,
    "억": 8,
    "cr": 7,
    "crore": 7,
    "lakh": 5,
    "lac": 5,
    "百万": 6,
}
_SUFFIX = re.compile(rf"(?i)(?<=\d)\s*({'|'.join(sorted(_SUFFIXES, key=len, reverse=True))})\.?$")
_CURRENCY = r"(?i)[$€£¥₹₽₩₿元円원]|R\$|\b(?:USD|EUR|GBP|JPY|CNY|RMB|CHF|INR|USDT|HKD)\b"
_GAPS = r"(?<=\d)[\s\u00a0\u202f'’](?=\d{3}(?:\D|$))"  # thousands of the French and the Swiss
_WHOLE_SUFFIX = re.compile(r"[+-]?(?:\d|[.,])+(?:[eE][+-]?\d+)?")

MANY = 10  # values of a column, of which none is written like a decimal fraction

# Groups of three: these alone do not show what point or comma mean.
_GROUPED = r"^[+-]?[1-9]\d{0,2}[%s]\d{3}$"


@dataclass(frozen=True)
class Numerals:
    """A file's notation of numbers."""

    decimal: str = "."

    @property
    def thousands(self) -> str:
        """What may stand between groups of three digits."""
        return "," if self.decimal == "." else "."

    def read(self, text: pd.Series) -> pd.Series:
        """Numbers as float64 of any column; NaN where there is none."""
        if text.dtype.kind in "iuf":
            return text
        plain = pd.to_numeric(text, errors="coerce") if self.decimal == "." else pd.Series(np.nan, index=text.index)
        left = plain.isna() & text.notna()
        if not left.any():
            return plain
        rest = bare(text[left])
        # groups are of three digits; anything else is a mistake
        grouped = rest.str.fullmatch(
            rf"[+-]?\d{{1,3}}(?:\{self.thousands}\d{{3}})+(?:\{self.decimal}\d*)?(?:e[+-]?\d+)?"
        )
        simple = rest.str.fullmatch(rf"[+-]?(?:\d+\{self.decimal}?\d*|\{self.decimal}\d+)(?:[eE][+-]?\d+)?")
        rest = rest.str.replace(self.thousands, "", regex=False).str.replace(self.decimal, ".", regex=False)
        numbers = pd.to_numeric(rest.where(grouped | simple, None), errors="coerce")
        return plain.astype("float64").where(~left, numbers.astype("float64").reindex(text.index))


def bare(text: pd.Series) -> pd.Series:
    """Numbers without currency, quotes and gaps, their suffix as an exponent: '$1.5M' is '1.5e6'."""
    text = text.astype("str").str.strip().str.replace(r'^="?(.*?)"?$', r"\1", regex=True)
    text = text.str.replace("−", "-", regex=False).str.replace(_CURRENCY, "", regex=True).str.strip()
    text = text.str.replace(_GAPS, "", regex=True)
    return text.str.replace(_SUFFIX, lambda found: f"e{_SUFFIXES[found[1].lower()]}", regex=True)


def odd(column: pd.Series) -> bool:
    """Whether a column has numbers in another form than 1234.5."""
    if column.dtype.kind in "iuf":
        return False
    left = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
    return bool(left.map(lambda value: isinstance(value, str)).any()) and bool(
        left.astype("str").str.contains(r"\d", regex=True).any()
    )


class Evidence:
    """Evidence from the columns of a file about point and comma, collected chunk by chunk."""

    def __init__(self) -> None:
        self.votes = {".": 0, ",": 0}
        self.example = {".": "", ",": ""}  # a value that is grouped by it, as 1.234
        self.grouped = {".": 0, ",": 0}
        self._mixed: dict[int, list[int]] = {}  # by column: values grouped, and values below 1000 without either sign

    def add(self, columns: Iterable[pd.Series]) -> None:
        """Look at some columns of text, in the same order each time."""
        for index, column in enumerate(columns):
            text = bare(column.dropna())
            text = text[text.str.fullmatch(_WHOLE_SUFFIX)].str.replace(r"[eE][+-]?\d+$", "", regex=True)
            both = text[text.str.contains(".", regex=False) & text.str.contains(",", regex=False)]
            last_point = both.str.rfind(".") > both.str.rfind(",")
            self._vote(".", both[last_point])
            self._vote(",", both[~last_point])
            rest = text.drop(both.index)
            counts = self._mixed.setdefault(index, [0, 0])
            for sign, other in ((".", ","), (",", ".")):
                count = rest.str.count(re.escape(sign))
                self._vote(other, rest[count > 1])
                once = rest[count == 1]
                grouped = once.str.fullmatch(_GROUPED % re.escape(sign))
                self._vote(sign, once[~grouped])
                self.grouped[sign] += int(grouped.sum())
                counts[0] += int(grouped.sum())
                if grouped.any():
                    self.example[sign] = self.example[sign] or str(once[grouped].iloc[0])
            counts[1] += int(rest.str.fullmatch(r"[+-]?\d{1,3}").sum())

    def _vote(self, decimal: str, values: pd.Series) -> None:
        self.votes[decimal] += len(values)

    def settled(self, *, likely: str | None) -> Numerals | None:
        """The notation of numbers; None if nothing decides it.

        `likely` is what a single group of three, e.g. 1.234, would mean in this kind of file; None: it may mean either.
        """
        point, comma = self.votes["."], self.votes[","]
        if point or comma:
            return Numerals("." if point >= comma else ",")
        if not self.grouped[","] and not self.grouped["."]:
            return Numerals()
        if self.grouped[","] and self.grouped["."]:
            return None
        if self.grouped["."] and likely is not None:
            return Numerals(likely)
        if any(grouped >= MANY and short for grouped, short in self._mixed.values()):
            # of three decimals throughout some would be written without their last zeros
            return Numerals("." if self.grouped[","] else ",")
        return None
