"""Files of one symbol and one period each, with which their names end: BTCUSDT-1h-2024-01.zip, EURUSD_M1_2023.csv."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt

from kronos_trainer.config.files import stem
from kronos_trainer.errors import DataError

_NAME = re.compile(r"(.*[^\d_.-])[_.-](19\d\d|20\d\d)(?:([_.-]?)(0[1-9]|1[0-2])(?:\3(0[1-9]|[12]\d|3[01]))?)?")
_ZONES = np.timedelta64(1, "D")  # a month of some zone begins and ends that much earlier or later in UTC


@dataclass(frozen=True)
class Period:
    """The content of a file according to its name."""

    symbol: str
    first: np.datetime64  # the first day
    end: np.datetime64  # the day after the last

    def holds(self, instants: npt.NDArray[np.int64]) -> bool:
        """Whether all instants (ns since 1970) lie in it. The months of contracts do not: they trade before."""
        low, high = np.datetime64(int(instants.min()), "ns"), np.datetime64(int(instants.max()), "ns")
        return bool(low >= self.first - _ZONES and high < self.end + _ZONES)


class NamedSymbol:
    """The symbol that the name of a file stands for."""

    def __init__(self, file: Path, own: str, period: Period | None) -> None:
        self._file, self._own, self._period = file, own, period
        self._symbol: str | None = None

    def of(self, instants: npt.NDArray[np.int64]) -> str:
        """That of rows of these instants (ns since 1970). The first rows decide whether the file is a part.

        Raises DataError where later ones differ.
        """
        if self._period is None or not len(instants):
            return self._symbol or self._own
        inside = self._period.holds(instants)
        if self._symbol is None:
            self._symbol = self._period.symbol if inside else self._own
        elif self._symbol != self._own and not inside:
            raise DataError(
                f"{self._file}: its name makes it a part of {self._symbol}, but it has bars of other times; "
                "rename it, or add a symbol column"
            )
        return self._symbol

    @property
    def facts(self) -> list[str]:
        """Notes for the user."""
        return [] if self._symbol in (None, self._own) else [f"a part of {self._symbol}, by its name"]


def by_period(files: Sequence[PurePath]) -> dict[PurePath, Period]:
    """The files that, by their names, have siblings of the same symbol and another period."""
    found: dict[tuple[PurePath, str], dict[PurePath, Period]] = defaultdict(dict)
    for file in files:
        period = _period(stem(file.name))
        if period is not None:
            found[file.parent, period.symbol][file] = period
    return {
        file: period
        for group in found.values()
        if len({period.first for period in group.values()}) > 1
        for file, period in group.items()
    }


def _period(name: str) -> Period | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    symbol, year, _, month, day = match.groups()
    text = "-".join(part for part in (year, month, day) if part)
    try:
        first = np.datetime64(text)  # of the unit that the text has: year, month or day
    except ValueError:
        return None
    return Period(symbol, first.astype("datetime64[D]"), (first + 1).astype("datetime64[D]"))
