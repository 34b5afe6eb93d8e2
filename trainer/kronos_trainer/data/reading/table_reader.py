"""One table of bars -> checked rows, a chunk at a time; called by the readers."""

from __future__ import annotations

import csv
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from kronos_trainer.data.layouts.containers import Source
from kronos_trainer.data.layouts.periods import NamedSymbol
from kronos_trainer.data.layouts.recognise import Group, Recognised, recognise
from kronos_trainer.data.layouts.tables import Table
from kronos_trainer.data.layouts.text import EMPTY
from kronos_trainer.data.quality.findings import Findings
from kronos_trainer.data.reading.columns import FEATURES, name_column
from kronos_trainer.data.reading.faults import Fault, negative_sizes
from kronos_trainer.data.reading.no_bars import no_bars
from kronos_trainer.data.reading.numerals import Evidence, Numerals, odd
from kronos_trainer.data.reading.timestamps import MISSING, StampReader
from kronos_trainer.data.rows import BadRows, Float64, Int64, Rows, too_many
from kronos_trainer.errors import DataError

# Squared deviations of larger numbers overflow the float32 that statistics are taken in.
LARGEST = 1e18

DROP = " (data.badRows: drop, or --bad-rows drop, skips such rows)"

UNREADABLE = (
    pa.ArrowException,
    pd.errors.ParserError,
    pd.errors.ParserWarning,
    UnicodeDecodeError,
    csv.Error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    OSError,
    EOFError,
)

Told = Callable[[Table, Recognised, list[str]], None]  # hears what was recognised once a table is read


class TableReader:
    """Reads and checks one table. Its frames have the canonical column names."""

    def __init__(
        self,
        source: Source,
        bad_rows: BadRows,
        findings: Findings,
        given: Mapping[str, str] | None,
        layout: str | None,
        told: Told | None,
        rows: int,
    ) -> None:
        self.source = source
        self.file = source.label
        self.bad_rows = bad_rows
        self.findings = findings
        self.given = given
        self.layout = layout
        self.told = told
        self.rows = rows
        self.numerals = Numerals()
        self.named = NamedSymbol(source.label, source.symbol, source.period)
        self.said: list[str] = []

    def chunks(self) -> Iterator[Rows]:
        """Checked rows of the table, at most a chunk at a time."""
        try:
            self.table = self.source.open(self.given)
            self.recognised = recognise(self.table, self.given, self.layout)
            for group in self.recognised.groups:
                yield from self._group(group)
        except UNREADABLE as error:
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            if isinstance(error, UnicodeDecodeError):
                problem += "; save it as UTF-8"
            elif isinstance(error, pd.errors.ParserWarning):
                problem = "rows have more fields than the header"
            raise DataError(f"{self.file}: not readable as {self.source.kind}: {problem}") from error
        facts = [*self.table.facts, *self.recognised.facts, *self.said, *self.named.facts]
        for fact in facts:
            self.findings.read_as.setdefault(fact, []).append(self.file.name)
        if self.told is not None:
            self.told(self.table, self.recognised, facts)

    def _group(self, group: Group) -> Iterator[Rows]:
        """The rows of one symbol of a wide table, or of all of another one."""
        self.group = group
        self._start(dict(group.places))
        columns = {place: name for name, place in self.places.items()}
        text, done = set[str](), 0
        while True:
            for frame, numbers in self.table.frames(columns, text, done, self.rows):
                if not text and not self._plain(frame, done):
                    # a column may have passed for numbers that mean something else, as 1.234 beside 0,5
                    text = {name for name in FEATURES if name in self.places} | {"timestamps"}
                    break
                done += len(frame)
                yield self._checked(frame, numbers)
            else:
                break
        if self.stamps.notation:
            self.said.append(self.stamps.notation + self._settled_by())

    def _settled_by(self) -> str:
        row = self.stamps.settled_by
        if row is None:
            return ", by the order of the rows" if "first" in self.stamps.notation else ""
        return f", by {self.table.unit} {self.table.first + row}"

    def _start(self, places: dict[str, int]) -> None:
        self.places = places
        header = self.table.header
        for field_, others in self.recognised.rivals.items():
            first = places[field_]
            places[field_] = self._first_filled([first, *others])
            if places[field_] != first:
                self.findings.other_column.append(
                    f"{self.file.name} ({field_} from {header[places[field_]]!r}, not {header[first]!r})"
                )
        name = name_column(header)
        if "symbol" not in places and name is not None and name not in places.values() and self._tells_rows_apart(name):
            places["symbol"] = name
        stamp = places["timestamps"]
        self.stamps = StampReader(self.file, header[stamp], lambda: (part[stamp] for part in self._peek([stamp])))
        for field_, files in (("volume", self.findings.without_volume), ("amount", self.findings.without_amount)):
            if field_ not in places and self.file.name not in files[-1:]:
                files.append(self.file.name)

    def _peek(self, places: Sequence[int]) -> Iterator[pd.DataFrame]:
        """Some columns, by place, as text where the file is text, a chunk at a time."""
        names = {place: str(place) for place in places}
        for frame, _ in self.table.frames(names, set(names.values()), 0, self.rows):
            yield frame[[names[place] for place in places]].set_axis(list(places), axis=1)

    def _plain(self, frame: pd.DataFrame, done: int) -> bool:
        """Whether this chunk's numbers are plain; otherwise their notation is decided over the whole file."""
        names = [name for name in FEATURES if name in frame]
        if not any(odd(frame[name]) for name in names) and (self.table.likely_decimal or not self._grouped(frame)):
            return True
        places = [self.places[name] for name in names]
        evidence = Evidence()
        for part in self._peek(places):
            evidence.add(part[place][~part[place].isin(EMPTY)] for place in places)
        numerals = evidence.settled(likely=self.table.likely_decimal) or self._by_prices(evidence)
        if numerals.decimal == ",":
            if done:
                raise DataError(
                    f"{self.file}: numbers have a decimal point and, further down, a decimal comma; use one form"
                )
            self.said.append("numbers read with a decimal comma")
        self.numerals = numerals
        return numerals.decimal == "."

    def _grouped(self, frame: pd.DataFrame) -> bool:
        """Whether all fractions of a chunk could be thousands, e.g. 1.234."""
        for name in FEATURES:
            if name in frame and frame[name].dtype.kind == "f":
                thousandths = frame[name].to_numpy() * 1000
                if (np.abs(thousandths - np.round(thousandths)) > 1e-6).any():
                    return False
        return any(frame[name].dtype.kind == "f" for name in FEATURES if name in frame)

    def _by_prices(self, evidence: Evidence) -> Numerals:
        """The decimal separator, point or comma, with which no price contradicts another. Raises DataError."""
        prices = [self.places[name] for name in FEATURES[:4]]
        wrong = {".": 0, ",": 0}
        for part in self._peek(prices):
            for decimal in wrong:
                read = np.column_stack([Numerals(decimal).read(part[place]).to_numpy(np.float64) for place in prices])
                high, low = read[:, 1], read[:, 2]
                with np.errstate(invalid="ignore"):
                    wrong[decimal] += int(
                        ((read.max(axis=1) > high) | (read.min(axis=1) < low)).sum()  # NaN is neither
                    )
        best, other = sorted(wrong, key=lambda decimal: wrong[decimal])
        if wrong[best] == wrong[other]:
            value = evidence.example[","] or evidence.example["."]
            whole = value.replace(",", "").replace(".", "")
            raise DataError(
                f"{self.file}: {value!r} may be {whole} or {value.replace(',', '.')}, and nothing in the file decides; "
                "write numbers without thousands separators and with a decimal point"
            )
        return Numerals(best)

    def _first_filled(self, places: list[int]) -> int:
        """The first of the columns that holds anything but nothing and 0; the very first if none does."""
        left = list(places)
        for frame in self._peek(places):
            for place in places:
                filled = frame[place].notna() & (pd.to_numeric(frame[place], errors="coerce") != 0)
                if place in left and filled.any():
                    left.remove(place)
            if places[0] not in left:
                break
        return next((place for place in places if place not in left), places[0])

    def _tells_rows_apart(self, name: int) -> bool:
        """Whether stamps repeat all over the file, and hardly ever where the values of this column are the same too."""
        stamp = [self.places[key] for key in ("timestamps", "clock") if key in self.places]
        stamps: list[npt.NDArray[Any]] = [np.empty(0, np.uint64)]
        both: list[npt.NDArray[Any]] = [np.empty(0, np.uint64)]
        for frame in self._peek([*stamp, name]):
            stamps.append(pd.util.hash_pandas_object(frame[stamp], index=False).to_numpy())
            both.append(pd.util.hash_pandas_object(frame, index=False).to_numpy())
        rows = sum(map(len, stamps))
        repeats, left = (rows - len(np.unique(np.concatenate(parts))) for parts in (stamps, both))
        return too_many(repeats, rows) and left * 10 < repeats

    def _checked(self, frame: pd.DataFrame, numbers: Int64) -> Rows:
        """Rows with every value present and plausible; rows without a bar are skipped, and bad ones refused."""
        read = {name: self._floats(frame[name]) for name in FEATURES if name in self.places}
        suspect: npt.NDArray[np.bool_] = np.logical_or.reduce([np.isnan(read[name]) for name in FEATURES[:4]])
        if suspect.any():
            bars = self._bars(frame, numbers, suspect)
            frame, numbers = frame[bars].reset_index(drop=True), numbers[bars]
            read = {name: column[bars] for name, column in read.items()}
        faults: list[Fault] = []

        if "clock" in self.places:
            frame["timestamps"] = self.stamps.joined(frame["timestamps"], frame["clock"])
        instants = self.stamps.read(frame["timestamps"]) if len(frame) else np.empty(0, np.int64)
        if len(self.stamps.units) > 1:
            self.findings.units[str(self.file)] = " and ".join(self.stamps.units)
        faults.append((instants == MISSING, "timestamps", "{value} is not a valid timestamp"))

        values = np.zeros((len(frame), len(FEATURES)))
        for index, name in enumerate(FEATURES):
            if name not in self.places:
                continue
            column = read[name]
            absent, empty = np.isnan(column), frame[name].isna().to_numpy()
            if name in ("volume", "amount") and (absent & empty).any():
                # no trade, as of a stock that is suspended; an amount alone that is absent is made up below
                self.findings.without_trade(self.file.name, name, int((absent & empty).sum()))
                column = np.where(
                    absent & empty, values[:, 4] * values[:, :4].mean(axis=1) if index == 5 else 0.0, column
                )
                absent &= ~empty
            values[:, index] = column
            faults.append((absent & empty, name, "is empty"))
            faults.append((absent & ~empty, name, "{value} is not a number"))
            faults.append((~absent & ~(np.abs(column) <= LARGEST), name, f"{{value}} is not between ±{LARGEST:g}"))
        if self.recognised.scale != 1.0:
            faults += [
                (values[:, index] % 1 != 0, FEATURES[index], "{value} is not a whole number") for index in range(4)
            ]
            values[:, :4] /= 1 / self.recognised.scale
        faults += negative_sizes(values)
        if "amount" not in self.places:
            values[:, 5] = values[:, 4] * values[:, :4].mean(axis=1)

        symbols: str | npt.NDArray[np.object_] = self.group.symbol or self.named.of(instants[instants != MISSING])
        if "symbol" in self.places:
            names = frame["symbol"].fillna("").astype("str").str.strip().str.replace(r'^="(.*)"$', r"\1", regex=True)
            faults.append(((names == "").to_numpy(), "symbol", "is empty"))
            symbols = names.to_numpy(dtype=object)

        good = self._sound(faults, frame, numbers, symbols)
        if not isinstance(symbols, str):
            symbols = symbols[good]
        stamps = self.stamps
        return Rows(
            *(self.file, self.table.unit, symbols, instants[good], numbers[good], values[good]),
            *(bool(stamps.aware), stamps.midnights),
        )

    def _floats(self, column: pd.Series) -> Float64:
        return self.numerals.read(column).to_numpy(dtype=np.float64, na_value=np.nan)

    def _bars(self, frame: pd.DataFrame, numbers: Int64, suspect: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which rows are bars; others without a price are reported."""
        rows = frame.loc[suspect, list(self.places)]
        cells = rows.astype("object").where(rows.notna(), "").astype("str").apply(lambda column: column.str.strip())
        bars = np.ones(len(frame), bool)
        for what, which in no_bars(cells, {name: self.table.header[place] for name, place in self.places.items()}):
            bars[np.flatnonzero(suspect)[which]] = False
            if which.any():
                first = int(numbers[suspect][which][0])
                self.findings.no_bar(what, f"{self.file.name}: {self.table.unit} {first}", int(which.sum()))
        return bars

    def _sound(
        self, faults: list[Fault], frame: pd.DataFrame, numbers: Int64, symbols: str | npt.NDArray[np.object_]
    ) -> npt.NDArray[np.bool_]:
        bad: npt.NDArray[np.bool_] = np.logical_or.reduce([mask for mask, _, _ in faults])

        def problem(row: int) -> str:
            name, what = next((name, what) for mask, name, what in faults if mask[row])
            value = frame[name][row]
            shown = repr(value) if isinstance(value, str) else str(value)
            column = self.table.header[self.places[name]]
            return f"{self.file}: {self.table.unit} {numbers[row]}, column {column}: {what.format(value=shown)}"

        if bad.any() and self.bad_rows == "refuse":
            raise DataError(f"{problem(int(bad.argmax()))}{DROP}")
        rows = np.flatnonzero(bad)
        if isinstance(symbols, str):
            owners = {symbols: rows} if len(rows) else {}
        else:
            owners = {name: rows[symbols[rows] == name] for name in dict.fromkeys(symbols[rows])}
        for name, its in owners.items():
            self.findings.drop(len(its), problem(its[0]), name)
        return ~bad
