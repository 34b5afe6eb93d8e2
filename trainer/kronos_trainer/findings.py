"""What was repaired or left out while bars were read, in words for the user; filled by the readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Findings:
    """What was repaired or left out while reading, to be said to the user."""

    dropped: int = 0
    first_dropped: str = ""
    unsorted: list[str] = field(default_factory=list)
    without_volume: list[str] = field(default_factory=list)
    without_amount: list[str] = field(default_factory=list)
    other_column: list[str] = field(default_factory=list)
    utc: list[str] = field(default_factory=list)
    midnights: dict[str, list[str]] = field(default_factory=dict)  # by time zone
    splits: list[str] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)  # of epoch stamps, of the files that have several
    read_as: dict[str, list[str]] = field(
        default_factory=dict
    )  # what was recognised, and the files of which it is true
    left_out: dict[str, tuple[int, str]] = field(
        default_factory=dict
    )  # kind of row that is no bar: how many, the first
    halts: dict[str, int] = field(default_factory=dict)  # rows without volume, by file

    def drop(self, count: int, example: str) -> None:
        """Note rows that `badRows: drop` left out."""
        self.first_dropped = self.first_dropped or example
        self.dropped += count

    def no_bar(self, what: str, first: str, count: int) -> None:
        """Note rows of a file that hold no bar."""
        before, earliest = self.left_out.get(what, (0, first))
        self.left_out[what] = (before + count, earliest)

    def without_trade(self, file: str, column: str, count: int) -> None:
        """Note rows whose volume is empty; where the amount alone is, it is made up as for a file without one."""
        if column == "volume":
            self.halts[file] = self.halts.get(file, 0) + count

    def notes(self) -> list[str]:
        """One sentence for each kind of finding."""
        said = []
        if self.dropped:
            said.append(f"bad rows left out: {self.dropped}; the first: {self.first_dropped}")
        for names, what in (
            (self.unsorted, "rows out of order, sorted by time"),
            (self.without_volume, "no volume column, volume is 0"),
            (self.without_amount, "no amount column, amount is volume x mean of the prices (0 without volume)"),
            (self.other_column, "the usual column is empty or 0, another one is taken"),
            (self.splits, "the price jumps as by a split; if it is one, adjust the bars before it"),
            (self.utc, "stamps carry a zone and data.timeZone is not set: hour and weekday are taken in UTC"),
        ):
            if names:
                said.append(f"{what}: {some(names)}")
        said += [f"{what}: {some(names)}" for what, names in self.read_as.items()]
        said += [f"{what}: {count}; the first: {first}" for what, (count, first) in self.left_out.items()]
        if self.halts:
            rows = [f"{file} ({count} row{'s' if count > 1 else ''})" for file, count in self.halts.items()]
            said.append(f"volume is empty, taken as no trade (0): {some(rows)}")
        for zone, names in self.midnights.items():
            said.append(
                f"stamps are midnights of {zone} and data.timeZone is not set: the dates are kept as they are there; "
                f"write data.timeZone: {zone}: {some(names)}"
            )
        said += [
            f"{file}: stamps are partly {units} since 1970, each read by its size" for file, units in self.units.items()
        ]
        return said


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
