"""The store of bars: every symbol's bars in flat arrays, prepared once per node and memory-mapped by all ranks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from kronos_trainer.config import Data, Timeframe
from kronos_trainer.data.calendars import check_calendar
from kronos_trainer.data.layouts.containers import sources
from kronos_trainer.data.quality.findings import Findings, Found, some
from kronos_trainer.data.quality.trading_hours import Gap
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.data.reading.files import bar_files
from kronos_trainer.data.reading.readers import read_rows, read_sources
from kronos_trainer.data.reading.table_reader import DROP
from kronos_trainer.data.resample import DAY, resampled
from kronos_trainer.data.rows import Rows, by_symbol, in_order, wall_clock
from kronos_trainer.data.series import Series, surveyed
from kronos_trainer.errors import DataError
from kronos_trainer.storage.durable import make_directory, storing, write_directory

LAYOUT = 3  # raised when the same files would give other bars or windows; it enters the digest
FORMAT = 2  # of what is cached; raised when it holds something else for the same bars

Arrays = dict[str, npt.NDArray[Any]]

_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {  # name -> dtype and shape of one bar
    "values": ("<f4", (len(FEATURES),)),
    "times": ("<i8", ()),
    "stamps": ("|u1", (5,)),
}
_SPOOLED = np.dtype([("instant", "<i8"), ("number", "<i8"), ("values", "<f8", (len(FEATURES),))])


@dataclass(frozen=True)
class Bars:
    """Bars of all symbols. Rows of symbol i are offsets[i]:offsets[i+1], ascending in time."""

    symbols: tuple[str, ...]
    offsets: npt.NDArray[np.int64]  # [S+1]
    values: npt.NDArray[np.float32]  # [N, 6], in the order of FEATURES; may be memory-mapped
    times: npt.NDArray[np.int64]  # [N] wall-clock ns since 1970; steps back by an hour where summer time ends
    stamps: npt.NDArray[np.uint8]  # [N, 5]: minute, hour, weekday (Monday 0), day, month
    digest: str  # sha256 of what was read: the files and the options that change the bars
    notes: tuple[str, ...]  # what was sorted, dropped or resampled, and what is odd about the bars
    series: tuple[Series, ...] = ()  # one for each symbol
    found: tuple[Found, ...] = ()  # the notes' findings by symbol, and those too mild for a note

    def ordered_times(self, symbol: int) -> npt.NDArray[np.int64]:
        """Times [T] of a symbol (its index) that never step back, to search in: the hour that repeats when summer time
        ends has one time."""
        return np.maximum.accumulate(self.times[self.offsets[symbol] : self.offsets[symbol + 1]])


def read_bars(path: Path, timeframe: Timeframe, data: Data) -> Bars:
    """Bars of a file or directory, in memory. Raises DataError, InputMissing, ConfigError."""
    check_calendar(data.calendar)
    digest = source_digest(path, timeframe, data)
    with (
        storing(Path(os.environ.get("TMPDIR", "/tmp"))),
        tempfile.TemporaryDirectory(prefix="kronos-bars-") as directory,
    ):
        _prepare(path, timeframe, data, Path(directory), _silent)
        return _opened(Path(directory), digest, mapped=False)


def _silent() -> None:
    """The beat of a caller that shows no progress."""


def sound_bars(path: Path, timeframe: Timeframe, data: Data) -> tuple[Bars | None, list[str]]:
    """What `read_bars` would return without the files, rows and symbols that it refuses, and the reasons.

    None where nothing is left. Raises InputMissing, ConfigError.
    """
    refused: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kronos-bars-") as directory:
        try:
            _prepare(path, timeframe, data, Path(directory), _silent, refused)
        except DataError as error:
            return None, refused or [str(error)]
        return _opened(Path(directory), "", mapped=False), refused


@dataclass(frozen=True)
class PreparedBars:
    """Bars that lie in the cache of a node, by what they were read from."""

    directory: Path
    digest: str

    def open(self) -> Bars:
        """The bars, memory-mapped."""
        return _opened(self.directory, self.digest, mapped=True)


def prepare_bars(
    path: Path, timeframe: Timeframe, data: Data, cache: Path, beat: Callable[[], object] = _silent
) -> PreparedBars:
    """Sees to it that the bars of a file or directory lie in `cache`, a directory of this node.

    One process per node calls it, and the others open what it returns. The files are read to the last byte each time:
    their sizes and times can stay the same where their content does not, and nothing may train on bars of before.
    `beat` is called often while files are read.
    Raises DataError, InputMissing, ConfigError, or StorageError when the cache cannot be written.
    """
    check_calendar(data.calendar)
    digest = source_digest(path, timeframe, data, beat)
    ready = cache / f"bars-{FORMAT}-{digest[:32]}"
    make_directory(cache)
    if not ready.exists():
        with _locked(ready.with_suffix(".lock")):
            if not ready.exists():
                write_directory(ready, lambda aside: _prepare(path, timeframe, data, aside, beat))
    return PreparedBars(ready, digest)


def source_digest(path: Path, timeframe: Timeframe, data: Data, beat: Callable[[], object] = _silent) -> str:
    """sha256 over the names and bytes of the files and the options that change the bars read from them."""
    options: list[object] = [LAYOUT, timeframe, data.time_zone, data.bad_rows]
    for name in ("label", "adjust"):
        value = getattr(data, name)
        if value != Data.model_fields[name].default:  # an option that is not used changes no digest
            options.append([name, value])
    if data.columns is not None:
        options.append(["columns", sorted(data.columns.given.items())])
    total = hashlib.sha256(json.dumps(options).encode())
    for file in bar_files(path):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
        name = file.name if file == path else file.relative_to(path).as_posix()
        total.update(hashlib.sha256(name.encode()).digest() + content)
        beat()
    return total.hexdigest()


def time_stamps(times: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Minute, hour, weekday (Monday 0), day and month of wall-clock nanoseconds: [N] -> uint8 [N, 5]."""
    days, in_day = np.divmod(times, DAY)
    minutes = in_day // 60_000_000_000
    date = days.astype("datetime64[D]")
    month = date.astype("datetime64[M]")
    day = (date - month.astype("datetime64[D]")).astype(np.int64) + 1
    columns = (minutes % 60, minutes // 60, (days + 3) % 7, day, month.astype(np.int64) % 12 + 1)
    return np.stack(columns, axis=1).astype(np.uint8)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with storing(path), path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _opened(directory: Path, digest: str, *, mapped: bool) -> Bars:
    meta = json.loads((directory / "bars.json").read_text())
    rows = meta["offsets"][-1]
    arrays: Arrays = {}
    for name, (dtype, shape) in _ARRAYS.items():
        file = directory / name
        if mapped:
            arrays[name] = np.asarray(np.memmap(file, dtype, "r", shape=(rows, *shape)))
        else:
            arrays[name] = np.fromfile(file, dtype).reshape(rows, *shape)
    return Bars(
        symbols=tuple(meta["symbols"]),
        offsets=np.array(meta["offsets"], np.int64),
        digest=digest,
        notes=tuple(meta["notes"]),
        series=tuple(Series(**one | {"gaps": tuple(Gap(**gap) for gap in one["gaps"])}) for one in meta["series"]),
        found=tuple(
            Found(**one | {"examples": tuple(one["examples"]), "spans": tuple(map(tuple, one["spans"]))})
            for one in meta["found"]
        ),
        **arrays,
    )


@dataclass(frozen=True)
class _Spooled:
    """Where the rows of one symbol from one chunk lie in the spool."""

    file: Path
    unit: str
    aware: bool
    midnights: bool
    start: int  # rows
    count: int


def _prepare(
    path: Path,
    timeframe: Timeframe,
    data: Data,
    directory: Path,
    beat: Callable[[], object],
    refused: list[str] | None = None,
) -> None:
    """Write the arrays of Bars to files in `directory`, holding no more than a chunk or one symbol in memory.

    With a list `refused`, what is wrong goes there instead of being raised, as long as any symbol is left.
    """
    findings = Findings()
    with tempfile.TemporaryFile(dir=directory) as spool:
        chunks = (
            read_rows(path, data.bad_rows, findings, _columns(data))
            if refused is None
            else _sound_rows(path, data, findings, refused)
        )
        places = _spool(chunks, spool, beat)
        symbols: list[str] = []
        offsets = [0]
        coarser: list[str] = []
        series: list[Series] = []
        with ExitStack() as stack:
            files = {name: stack.enter_context((directory / name).open("wb")) for name in _ARRAYS}
            for symbol in sorted(places):
                pieces = [_unspool(spool, symbol, place) for place in places[symbol]]
                try:
                    instants, values = in_order(symbol, pieces, data.bad_rows, findings)
                    if not len(instants):
                        continue
                    local, zone = wall_clock(symbol, pieces, instants, data.time_zone, findings)
                    local, values, one = surveyed(
                        *(symbol, local, values, zone or data.time_zone, findings), label=data.label, adjust=data.adjust
                    )
                    times, values = resampled(local, values, timeframe, symbol)
                except DataError as error:
                    if refused is None:
                        raise
                    refused.append(str(error))
                    continue
                symbols.append(symbol)
                series.append(one)
                if times is not local:
                    coarser.append(symbol)
                offsets.append(offsets[-1] + len(times))
                for name, array in (("values", values), ("times", times), ("stamps", time_stamps(times))):
                    files[name].write(np.ascontiguousarray(array, _ARRAYS[name][0]).tobytes())
                beat()
    notes = findings.notes()
    if not symbols:
        raise DataError(f"{path}: not one usable row{'; ' if notes else ''}{'; '.join(notes)}")
    if coarser:
        notes.append(f"resampled to {timeframe}: {some(coarser)}")
    meta = {
        "symbols": symbols,
        "offsets": offsets,
        "notes": notes,
        "series": [asdict(one) for one in series],
        "found": [asdict(one) for one in findings.found],
    }
    (directory / "bars.json").write_text(json.dumps(meta))


def _columns(data: Data) -> dict[str, str] | None:
    return data.columns.given if data.columns is not None else None


def _sound_rows(path: Path, data: Data, findings: Findings, refused: list[str]) -> Iterator[Rows]:
    """Rows of every file but the bad ones; why rows, and whole files, are refused goes to `refused`."""
    for source in sources(bar_files(path)):
        try:
            yield from read_sources([source], "drop", findings, _columns(data))
        except DataError as error:
            refused.append(str(error))
        if data.bad_rows == "refuse" and findings.dropped:
            more = f", and {findings.dropped - 1:,} more" if findings.dropped > 1 else ""
            refused.append(f"{findings.first_dropped}{more}{DROP}")
            findings.dropped, findings.first_dropped = 0, ""


def _spool(chunks: Iterable[Rows], spool: BinaryIO, beat: Callable[[], object]) -> dict[str, list[_Spooled]]:
    """Append every row to the spool: no symbol is known to be complete before the last file is read."""
    places: dict[str, list[_Spooled]] = {}
    position = 0
    for chunk in chunks:
        for symbol, rows in by_symbol(chunk):
            records = np.empty(len(rows.instants), _SPOOLED)
            records["instant"], records["number"], records["values"] = rows.instants, rows.numbers, rows.values
            spool.write(records.tobytes())
            place = _Spooled(rows.file, rows.unit, rows.aware, rows.midnights, position, len(records))
            places.setdefault(symbol, []).append(place)
            position += len(records)
        beat()
    return places


def _unspool(spool: BinaryIO, symbol: str, place: _Spooled) -> Rows:
    spool.seek(place.start * _SPOOLED.itemsize)
    records = np.frombuffer(spool.read(place.count * _SPOOLED.itemsize), _SPOOLED)
    instants, numbers = records["instant"].copy(), records["number"].copy()
    return Rows(place.file, place.unit, symbol, instants, numbers, records["values"], place.aware, place.midnights)
