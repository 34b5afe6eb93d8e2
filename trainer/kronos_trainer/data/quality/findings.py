"""Anomalies in bars, and what was repaired or skipped while they were read, as text for the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

EXAMPLES = 3  # of one kind in the bars of one symbol

Severity = Literal["serious", "warning", "info"]


class Kind(NamedTuple):
    """What can be found in the bars of a symbol. `info` is reported by `kronos data check` alone."""

    severity: Severity
    what: str
    way_out: str = ""


_LEAVE_OUT = "data.badRows: drop (--bad-rows drop) skips such bars"

KINDS = {
    "constantPrice": Kind("serious", "the price never changes", "remove the symbol: it has nothing to learn from"),
    "zeroPrice": Kind("serious", "some prices are 0", _LEAVE_OUT),
    "contradiction": Kind("serious", "bars are contradictory", _LEAVE_OUT),
    "outlier": Kind("serious", "a bar spikes and reverts", "correct it in the file, or remove the row"),
    "split": Kind(
        "serious",
        "the price jumps as in a split",
        "if it is one, adjust the bars before it; data.adjust: splits (--adjust splits) does so for clear splits",
    ),
    "future": Kind("serious", "timestamps are in the future", "correct their year, zone or unit in the file"),
    "adjusted": Kind("warning", "adjusted for a split, by data.adjust: splits"),
    "rightLabel": Kind(
        "warning", "timestamps look like the ends of bars", "data.label: right (--label right) reads them as such"
    ),
    "gap": Kind(
        "warning", "bars are missing, by the symbol's own calendar", "get them from the source, if it has them"
    ),
    "halt": Kind(
        "warning", "the same prices bar after bar", "if trading was halted, or gaps were filled, remove the rows"
    ),
    "zeroVolume": Kind("warning", "volume is 0", "if it is unknown, remove the column"),
    "negativePrice": Kind("info", "prices go below 0", "they are read as they are"),
    "tinyPrice": Kind("info", "prices are below 0.01", "they are scaled up for the model"),
    "unfinished": Kind("info", "the last bar looks unfinished", "remove it, or wait until it is over"),
}
"""By name, which is also the name in JSON; the worst first."""


@dataclass(frozen=True)
class Found:
    """One kind of finding in the bars of one symbol."""

    kind: str
    symbol: str
    count: int  # bars, or runs of bars
    examples: tuple[str, ...]  # a few, the worst first
    spans: tuple[tuple[int, int], ...] = ()  # wall-clock ns of the first and last bar of each example

    @property
    def text(self) -> str:
        """The symbol, the worst example, and how many more there are."""
        more = self.count - 1
        return f"{self.symbol} {self.examples[0]}" + (f" and {more:,} more" if more > 0 else "")


@dataclass
class Findings:
    """What was found, repaired or skipped while reading, to be reported to the user."""

    dropped: int = 0
    first_dropped: str = ""
    bad: dict[str, str] = field(default_factory=dict)  # symbols of rows that were left out, each with its first
    unsorted: list[str] = field(default_factory=list)
    without_volume: list[str] = field(default_factory=list)
    without_amount: list[str] = field(default_factory=list)
    other_column: list[str] = field(default_factory=list)
    utc: list[str] = field(default_factory=list)
    midnights: dict[str, list[str]] = field(default_factory=dict)  # by time zone
    found: list[Found] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)  # of epoch stamps, of the files that have several
    read_as: dict[str, list[str]] = field(
        default_factory=dict
    )  # what was recognised, and the files of which it is true
    left_out: dict[str, tuple[int, str]] = field(
        default_factory=dict
    )  # kind of row that is no bar: how many, the first
    halts: dict[str, int] = field(default_factory=dict)  # rows without volume, by file

    def drop(self, count: int, example: str, symbol: str) -> None:
        """Note rows of a symbol that `badRows: drop` skipped."""
        self.first_dropped = self.first_dropped or example
        self.bad.setdefault(symbol, example)
        self.dropped += count

    def no_bar(self, what: str, first: str, count: int) -> None:
        """Note rows of a file without a bar."""
        before, earliest = self.left_out.get(what, (0, first))
        self.left_out[what] = (before + count, earliest)

    def without_trade(self, file: str, column: str, count: int) -> None:
        """Note rows whose volume is empty; if only the amount is, it is computed as for a file without one."""
        if column == "volume":
            self.halts[file] = self.halts.get(file, 0) + count

    def notes(self) -> list[str]:
        """One sentence for each kind of finding."""
        said = []
        if self.dropped:
            said.append(f"bad rows skipped: {self.dropped}; the first: {self.first_dropped}")
        for names, what in (
            (self.unsorted, "rows out of order, sorted by time"),
            (self.without_volume, "no volume column, volume is 0"),
            (self.without_amount, "no amount column, amount is volume x mean of the prices (0 without volume)"),
            (self.other_column, "the usual column is empty or 0, another one is used"),
            (self.utc, "timestamps have a zone and data.timeZone is not set: hour and weekday are in UTC"),
        ):
            if names:
                said.append(f"{what}: {some(names)}")
        said += [f"{what}: {some(names)}" for what, names in self.read_as.items()]
        said += [f"{what}: {count}; the first: {first}" for what, (count, first) in self.left_out.items()]
        if self.halts:
            rows = [f"{file} ({count} row{'s' if count > 1 else ''})" for file, count in self.halts.items()]
            said.append(f"empty volume, read as no trade (0): {some(rows)}")
        for zone, names in self.midnights.items():
            said.append(
                f"timestamps are midnights of {zone} and data.timeZone is not set: these dates are kept; set "
                f"data.timeZone: {zone}: {some(names)}"
            )
        said += [
            f"{file}: timestamps are partly {units} since 1970, each read by its size"
            for file, units in self.units.items()
        ]
        return said + notes_of(self.found)


def notes_of(found: Sequence[Found], *, least: Severity = "warning") -> list[str]:
    """One sentence for each kind that was found, no milder than `least`, the worst first, with its fix."""
    said = []
    for name, kind in KINDS.items():
        texts = [one.text for one in found if one.kind == name]
        if texts and (least == "info" or kind.severity != "info"):
            said.append(f"{kind.what}: {some(texts)}" + (f"; {kind.way_out}" if kind.way_out else ""))
    return said


def stamp(time: int) -> str:
    """Wall-clock ns for people: 2024-01-05 03:00, without the clock at midnight."""
    date = datetime(1970, 1, 1) + timedelta(microseconds=int(time) // 1000)
    return str(date.replace(microsecond=0)).removesuffix(" 00:00:00").removesuffix(":00")


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
