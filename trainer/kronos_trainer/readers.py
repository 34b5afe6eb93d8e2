"""CSV and Parquet files of bars -> checked rows, a chunk at a time; called by bars.py and by the forecast."""

from __future__ import annotations

import csv
import gzip
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kronos_trainer.columns import FEATURES, name_column, resolve, rivals
from kronos_trainer.config import CSV_SUFFIXES, PARQUET_SUFFIXES
from kronos_trainer.errors import DataError
from kronos_trainer.faults import Fault, negative_sizes
from kronos_trainer.files import bar_files
from kronos_trainer.findings import Findings, some
from kronos_trainer.rows import BadRows, Int64, Rows, by_symbol, in_order, too_many, wall_clock
from kronos_trainer.series import Adjust, Label, ahead, surveyed
from kronos_trainer.timestamps import MISSING, StampReader
from kronos_trainer.zones import check_zone

CHUNK_ROWS = 250_000  # bounds memory; about 40 MB a chunk

# Squared deviations of larger numbers overflow the float32 that statistics are taken in.
LARGEST = 1e18

EMPTY = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-"]  # how CSV files write an absent number

DROP = " (data.badRows: drop, or --bad-rows drop, leaves such rows out)"

UNREADABLE = (
    pa.ArrowException,
    pd.errors.ParserError,
    pd.errors.ParserWarning,
    UnicodeDecodeError,
    csv.Error,
    zlib.error,
    OSError,
    EOFError,
)

Peek = Callable[[list[str]], Iterator[pd.DataFrame]]  # some columns of a file, by their own names, a chunk at a time


def read_rows(path: Path, bad_rows: BadRows, findings: Findings) -> Iterator[Rows]:
    """Rows of every file at `path`, a chunk at a time.

    Raises DataError naming file, row and column of the first bad row.
    """
    owners: dict[str, Path] = {}  # symbols that a file's own name gives
    for file in bar_files(path):
        filled = False
        for chunk in _FileReader(file, bad_rows, findings).chunks():
            filled = filled or len(chunk.instants) > 0
            if isinstance(chunk.symbols, str) and not file.parent.name.startswith("symbol="):
                other = owners.setdefault(chunk.symbols, file)
                if other != file:
                    raise DataError(
                        f"{file} and {other} are both named for symbol {chunk.symbols}; "
                        "rename one, or give both a symbol column"
                    )
            yield chunk
        if not filled and bad_rows == "refuse":
            raise DataError(f"{file}: has a header but no rows")


def read_frame(
    path: Path,
    *,
    symbol: str | None = None,
    time_zone: str | None = None,
    bad_rows: BadRows = "refuse",
    label: Label = "left",
    adjust: Adjust = "none",
) -> tuple[pd.DataFrame, list[str]]:
    """Bars of one symbol from a CSV or Parquet file (or directory), for the forecast, with notes to show to the user.

    The frame is ascending in time: `timestamps` (datetime64[ns], local wall clock, naive) and the six FEATURES as
    float64, none of them missing; `attrs["zone"]` is the zone of that clock, None where the file names none.
    A file of several symbols needs `symbol`.
    Raises DataError, InputMissing, or ConfigError for an unknown time zone.
    """
    check_zone(time_zone)
    findings = Findings()
    pieces: dict[str, list[Rows]] = {}
    for rows in read_rows(path, bad_rows, findings):
        for name, part in by_symbol(rows):
            pieces.setdefault(name, []).append(part)
    if symbol is None and len(pieces) > 1:
        raise DataError(f"{path}: holds {len(pieces)} symbols ({some(sorted(pieces))}); choose one")
    symbol = next(iter(pieces), "") if symbol is None else symbol
    if symbol not in pieces:
        raise DataError(f"{path}: no usable row{f' of symbol {symbol}' if symbol else ''}")
    instants, values = in_order(symbol, pieces[symbol], bad_rows, findings)
    if not len(instants):
        raise DataError(
            f"{path}: no usable row{f' of symbol {symbol}' if symbol else ''}; {'; '.join(findings.notes())}"
        )
    times, zone = wall_clock(symbol, pieces[symbol], instants, time_zone, findings)
    times, values, series = surveyed(symbol, times, values, zone or time_zone, findings, label=label, adjust=adjust)
    findings.found += ahead([series], time.time_ns())
    frame = pd.DataFrame(values, columns=list(FEATURES))
    frame.insert(0, "timestamps", times.view("datetime64[ns]"))
    frame.attrs["zone"] = zone
    return frame, findings.notes()


class _FileReader:
    """Reads and checks one file. Its frames have the canonical column names."""

    def __init__(self, file: Path, bad_rows: BadRows, findings: Findings) -> None:
        self.file = file
        self.bad_rows = bad_rows
        self.findings = findings
        self.parquet = file.name.lower().endswith(PARQUET_SUFFIXES)
        self.unit = "row" if self.parquet else "line"
        stem = file.name
        for suffix in (*CSV_SUFFIXES, *PARQUET_SUFFIXES):
            stem = stem[: -len(suffix)] if stem.lower().endswith(suffix) else stem
        parent = file.parent.name
        self.symbol = parent.removeprefix("symbol=") if parent.startswith("symbol=") else stem

    def chunks(self) -> Iterator[Rows]:
        """Checked rows of the file, at most CHUNK_ROWS at a time."""
        try:
            if self.file.stat().st_size == 0:
                raise DataError(f"{self.file}: empty file")
            yield from self._parquet() if self.parquet else self._csv()
        except UNREADABLE as error:
            kind = "Parquet" if self.parquet else "CSV"
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            if isinstance(error, UnicodeDecodeError):
                problem += "; save it as UTF-8"
            elif isinstance(error, pd.errors.ParserWarning):
                problem = "rows have more fields than the header"
            raise DataError(f"{self.file}: not readable as {kind}: {problem}") from error

    def _parquet(self) -> Iterator[Rows]:
        with pq.ParquetFile(self.file) as file:
            self._start(
                file.schema_arrow.names,
                lambda names: (
                    batch.to_pandas(ignore_metadata=True, date_as_object=False)
                    for batch in file.iter_batches(CHUNK_ROWS, columns=names)
                ),
            )
            canonical = {name: key for key, name in self.columns.items()}
            first = 1
            for batch in file.iter_batches(CHUNK_ROWS, columns=list(canonical)):
                frame = batch.to_pandas(ignore_metadata=True, date_as_object=False).rename(columns=canonical)
                yield self._checked(frame, np.arange(first, first + len(frame)))
                first += len(frame)

    def _csv(self) -> Iterator[Rows]:
        opener = gzip.open if self.file.name.lower().endswith(".gz") else open
        with opener(self.file, "rt", encoding="utf-8-sig", newline="") as stream:
            line = stream.readline()
        separator = max(",;\t|", key=line.count)
        header = next(csv.reader([line], delimiter=separator), [])
        self._start(header, lambda names: self._csv_columns(separator, header, names))
        canonical = {name: key for key, name in self.columns.items()}
        numeric = [key for key in self.columns if key != "symbol"]
        chunks = pd.read_csv(
            self.file,
            sep=separator,
            names=[canonical.get(name, index) for index, name in enumerate(header)],
            header=0,
            index_col=False,
            dtype={"symbol": "str", "clock": "str"},
            # a ticker may well be called NA
            keep_default_na=False,
            na_values=dict.fromkeys(numeric, EMPTY),
            skip_blank_lines=False,
            encoding="utf-8-sig",
            chunksize=CHUNK_ROWS,
            low_memory=False,
        )
        first = 2
        with chunks, warnings.catch_warnings():
            # rows longer than the header, as from an unquoted "1,234", would be cut with a warning
            warnings.simplefilter("error", pd.errors.ParserWarning)
            for frame in chunks:
                lines = np.arange(first, first + len(frame))
                first += len(frame)
                blank = frame[numeric].isna().all(axis=1).to_numpy()
                yield self._checked(frame[~blank], lines[~blank])

    def _csv_columns(self, separator: str, header: Sequence[str], names: list[str]) -> Iterator[pd.DataFrame]:
        """Some columns of a CSV file as text, a chunk at a time."""
        places = [list(header).index(name) for name in names]
        chunks = pd.read_csv(
            self.file,
            sep=separator,
            names=range(len(header)),
            usecols=places,
            header=0,
            index_col=False,
            dtype="str",
            keep_default_na=False,
            na_values=EMPTY,
            encoding="utf-8-sig",
            chunksize=CHUNK_ROWS,
        )
        with chunks, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            for frame in chunks:
                yield frame.rename(columns=dict(zip(places, names, strict=True)))[names]

    def _start(self, header: Sequence[str], peek: Peek) -> None:
        self.columns = resolve(header, self.file)
        for field_, names in rivals(header, self.columns).items():
            first = self.columns[field_]
            self.columns[field_] = self._first_filled([first, *names], peek)
            if self.columns[field_] != first:
                self.findings.other_column.append(
                    f"{self.file.name} ({field_} from {self.columns[field_]!r}, not {first!r})"
                )
        name = name_column(header)
        if "symbol" not in self.columns and name is not None and self._tells_rows_apart(name, peek):
            self.columns["symbol"] = name
        self.stamps = StampReader(self.file, self.columns["timestamps"])
        for field_, files in (("volume", self.findings.without_volume), ("amount", self.findings.without_amount)):
            if field_ not in self.columns:
                files.append(self.file.name)

    def _first_filled(self, names: list[str], peek: Peek) -> str:
        """The first of the columns that holds anything but nothing and 0; the very first if none does."""
        left = list(names)
        for frame in peek(names):
            for name in names:
                filled = frame[name].notna() & (pd.to_numeric(frame[name], errors="coerce") != 0)
                if name in left and filled.any():
                    left.remove(name)
            if names[0] not in left:
                break
        return next((name for name in names if name not in left), names[0])

    def _tells_rows_apart(self, name: str, peek: Peek) -> bool:
        """Whether stamps repeat all over the file, and hardly ever where the values of this column are the same too."""
        stamp = [self.columns[key] for key in ("timestamps", "clock") if key in self.columns]
        stamps: list[npt.NDArray[Any]] = [np.empty(0, np.uint64)]
        both: list[npt.NDArray[Any]] = [np.empty(0, np.uint64)]
        for frame in peek([*stamp, name]):
            stamps.append(pd.util.hash_pandas_object(frame[stamp], index=False).to_numpy())
            both.append(pd.util.hash_pandas_object(frame, index=False).to_numpy())
        rows = sum(map(len, stamps))
        repeats, left = (rows - len(np.unique(np.concatenate(parts))) for parts in (stamps, both))
        return too_many(repeats, rows) and left * 10 < repeats

    def _checked(self, frame: pd.DataFrame, numbers: Int64) -> Rows:
        """Rows with every value present and plausible; what is not is refused or left out."""
        frame = frame.reset_index(drop=True)
        faults: list[Fault] = []

        if "clock" in self.columns:
            frame["timestamps"] = self.stamps.joined(frame["timestamps"], frame["clock"])
        instants = self.stamps.read(frame["timestamps"]) if len(frame) else np.empty(0, np.int64)
        if len(self.stamps.units) > 1:
            self.findings.units[str(self.file)] = " and ".join(self.stamps.units)
        faults.append((instants == MISSING, "timestamps", "{value} is no valid timestamp"))

        values = np.zeros((len(frame), len(FEATURES)))
        for index, name in enumerate(FEATURES):
            if name not in self.columns:
                continue
            given = frame[name]
            number = pd.to_numeric(given, errors="coerce") if given.dtype.kind not in "iuf" else given
            column = values[:, index] = number.to_numpy(dtype=np.float64, na_value=np.nan)
            absent, empty = np.isnan(column), given.isna().to_numpy()
            faults.append((absent & empty, name, "is empty"))
            faults.append((absent & ~empty, name, "{value} is not a number"))
            faults.append((~absent & ~(np.abs(column) <= LARGEST), name, f"{{value}} is not between ±{LARGEST:g}"))
        faults += negative_sizes(values)
        if "amount" not in self.columns:
            values[:, 5] = values[:, 4] * values[:, :4].mean(axis=1)

        symbols: str | npt.NDArray[np.object_] = self.symbol
        if "symbol" in self.columns:
            names = frame["symbol"].fillna("").astype("str").str.strip()
            faults.append(((names == "").to_numpy(), "symbol", "is empty"))
            symbols = names.to_numpy(dtype=object)

        good = self._sound(faults, frame, numbers)
        if not isinstance(symbols, str):
            symbols = symbols[good]
        stamps = self.stamps
        return Rows(
            *(self.file, self.unit, symbols, instants[good], numbers[good], values[good]),
            *(bool(stamps.aware), stamps.midnights),
        )

    def _sound(self, faults: list[Fault], frame: pd.DataFrame, numbers: Int64) -> npt.NDArray[np.bool_]:
        bad: npt.NDArray[np.bool_] = np.logical_or.reduce([mask for mask, _, _ in faults])
        if bad.any():
            row = int(bad.argmax())
            name, what = next((name, what) for mask, name, what in faults if mask[row])
            value = frame[name][row]
            shown = repr(value) if isinstance(value, str) else str(value)
            problem = (
                f"{self.file}: {self.unit} {numbers[row]}, column {self.columns[name]}: {what.format(value=shown)}"
            )
            if self.bad_rows == "refuse":
                raise DataError(f"{problem}{DROP}")
            self.findings.drop(int(bad.sum()), problem)
        return ~bad
