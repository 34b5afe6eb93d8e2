"""Checked rows, chunk by chunk -> the series of one symbol; called by the readers and while bars are prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.data.quality.findings import Findings, Found, stamp
from kronos_trainer.data.reading.faults import contradictions
from kronos_trainer.data.zones import local_times, midnight_zone
from kronos_trainer.errors import DataError

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
BadRows = Literal["refuse", "drop"]


@dataclass(frozen=True)
class Rows:
    """Checked rows of one file, in the file's order."""

    file: Path
    unit: str  # what `numbers` counts: "line" of a CSV file or "row" of a Parquet file, from 1
    symbols: str | npt.NDArray[np.object_]  # one for all rows, or one a row
    instants: Int64  # nanoseconds; UTC if `aware`, else wall clock
    numbers: Int64
    values: Float64  # [rows, 6], in the order of FEATURES
    aware: bool
    midnights: bool = False  # are all stamps of the file so far written as midnights of a zone?


def by_symbol(rows: Rows) -> Iterator[tuple[str, Rows]]:
    """The rows of each symbol of a chunk, in the file's order."""
    if isinstance(rows.symbols, str):
        if len(rows.instants):
            yield rows.symbols, rows
        return
    codes, names = pd.factorize(rows.symbols)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    for index, name in enumerate(names):
        pick = order[bounds[index] : bounds[index + 1]]
        yield (
            str(name),
            Rows(
                *(rows.file, rows.unit, str(name), rows.instants[pick], rows.numbers[pick], rows.values[pick]),
                *(rows.aware, rows.midnights),
            ),
        )


def in_order(symbol: str, pieces: Sequence[Rows], bad_rows: BadRows, findings: Findings) -> tuple[Int64, Float64]:
    """One symbol's instants and values, ascending in time.

    Equal timestamps raise DataError naming both rows; with `bad_rows="drop"` the first in reading order is kept.
    Contradictory bars are reported, and with `bad_rows="drop"` skipped, which may leave nothing.
    """
    aware = pieces[0].aware
    for piece in pieces:
        if piece.aware != aware:
            raise DataError(
                f"symbol {symbol}: timestamps have a time zone in {(piece if piece.aware else pieces[0]).file} "
                f"and none in {(pieces[0] if piece.aware else piece).file}; use one form"
            )
    instants = np.concatenate([piece.instants for piece in pieces])
    values = np.concatenate([piece.values for piece in pieces])
    sound = _sound(symbol, pieces, values, bad_rows, findings)
    if bad_rows == "drop" and not sound.all():
        pieces = _only(pieces, sound)
        instants, values = instants[sound], values[sound]
    steps = np.diff(instants)
    if (steps > 0).all():
        return instants, values
    order = np.argsort(instants, kind="stable")
    if (steps < 0).any():
        findings.unsorted.append(symbol)
    instants = instants[order]
    repeats = np.flatnonzero(np.diff(instants) == 0) + 1
    if len(repeats):
        places = [f"{piece.file}: {piece.unit} {number}" for piece in pieces for number in piece.numbers]

        def problem(row: int) -> str:
            first, second = places[order[row - 1]], places[order[row]]
            stamp = pd.Timestamp(instants[row]).isoformat(sep=" ")
            return f"{second}, column timestamps: {stamp} of symbol {symbol} was already given in {first}"

        ordered = values[order]
        same = (ordered[repeats] == ordered[repeats - 1]).all(axis=1)
        different = int((~same).sum())
        if too_many(different, len(order)):
            raise DataError(
                f"{problem(repeats[~same][0])}, and {different} of {len(order)} rows repeat a "
                "timestamp with other values: several symbols share one name; rename the column that distinguishes "
                "them to symbol"
            )
        if same.any():
            findings.no_bar(
                "duplicate rows, kept once",
                places[order[repeats[same][0]]],
                int(same.sum()),
            )
        if different:
            first = repeats[~same][0]
            if bad_rows == "refuse":
                raise DataError(f"{problem(first)} with other values{_back(instants, first)}")
            findings.drop(different, problem(first), symbol)
        order, instants = np.delete(order, repeats), np.delete(instants, repeats)
    return instants, values[order]


def _back(instants: Int64, row: int) -> str:
    """The fix for a repeated timestamp: the hour that clocks repeat in autumn."""
    stamp = pd.Timestamp(instants[row])
    autumn = stamp.month in (9, 10, 11, 3, 4) and stamp.hour <= 3 and stamp.weekday() == 6
    return (
        "; if clocks went back here, write timestamps in UTC or with their offset, e.g. 2024-10-27 02:00+01:00, "
        "and set data.timeZone"
        if autumn
        else ""
    )


def _sound(
    symbol: str, pieces: Sequence[Rows], values: Float64, bad_rows: BadRows, findings: Findings
) -> npt.NDArray[np.bool_]:
    """Rows without contradictions; the others are noted."""
    sound = np.ones(len(values), np.bool_)
    for kind, wrong, first in contradictions(values):
        sound &= ~wrong
        count = int(np.count_nonzero(wrong))
        examples, instants = zip(*(_told(pieces, row, what) for row, what in first), strict=True)
        if bad_rows == "drop":
            findings.drop(count, examples[0], symbol)
        else:
            findings.found.append(Found(kind, symbol, count, examples, tuple((at, at) for at in instants)))
    return sound


def _told(pieces: Sequence[Rows], row: int, what: str) -> tuple[str, int]:
    """What is wrong with a row, with its place, and its instant."""
    for piece in pieces:
        if row < len(piece.numbers):
            at = int(piece.instants[row])
            return f"{piece.file}: {piece.unit} {piece.numbers[row]} ({stamp(at)}), {what}", at
        row -= len(piece.numbers)
    raise IndexError(row)


def _only(pieces: Sequence[Rows], keep: npt.NDArray[np.bool_]) -> list[Rows]:
    kept, first = [], 0
    for piece in pieces:
        part = keep[first : first + len(piece.numbers)]
        kept.append(
            replace(piece, instants=piece.instants[part], numbers=piece.numbers[part], values=piece.values[part])
        )
        first += len(part)
    return kept


def wall_clock(
    symbol: str, pieces: Sequence[Rows], instants: Int64, zone: str | None, findings: Findings
) -> tuple[Int64, str | None]:
    """Wall-clock nanoseconds of one symbol's `instants`, and the zone of that clock: None where the file names none.

    Without a `zone` the clock is that of UTC, but dates stay the dates they are in their own zone.
    """
    if not pieces[0].aware:
        return instants, None
    if zone is None:
        zone = midnight_zone(instants, written=all(piece.midnights for piece in pieces))
        if zone is None:
            findings.utc.append(symbol)
        else:
            findings.midnights.setdefault(zone, []).append(symbol)
    return local_times(instants, zone), zone or "UTC"


def too_many(repeats: int, rows: int) -> bool:
    """Whether so many rows repeat a timestamp that they belong to another symbol rather than being bad rows."""
    return repeats > 1 and repeats * 10 > rows
