"""Files of bars -> checked rows, a chunk at a time; called by bars.py, by the forecast and by the import."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from kronos_trainer.data.layouts.containers import Source, sources
from kronos_trainer.data.quality.findings import Findings, some
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.data.reading.files import bar_files
from kronos_trainer.data.reading.table_reader import TableReader, Told
from kronos_trainer.data.rows import BadRows, Rows, by_symbol, in_order, wall_clock
from kronos_trainer.data.series import Adjust, Label, ahead, surveyed
from kronos_trainer.data.zones import check_zone
from kronos_trainer.errors import DataError

CHUNK_ROWS = 250_000  # bounds memory; about 40 MB a chunk


def read_rows(
    path: Path,
    bad_rows: BadRows,
    findings: Findings,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Rows]:
    """Rows of every file at `path`, a chunk at a time. `columns` is `data.columns`.

    Raises DataError naming file, row and column of the first bad row.
    """
    yield from read_sources(sources(bar_files(path)), bad_rows, findings, columns)


def read_sources(
    tables: Iterable[Source],
    bad_rows: BadRows,
    findings: Findings,
    columns: Mapping[str, str] | None = None,
    layout: str | None = None,
    told: Told | None = None,
) -> Iterator[Rows]:
    """`read_rows` of tables that are chosen already; of these `layout` is expected."""
    owners: dict[str, Path] = {}  # symbols that names of files give, and the file, or the directory of their parts
    for source in tables:
        filled = False
        for chunk in TableReader(source, bad_rows, findings, columns, layout, told, CHUNK_ROWS).chunks():
            filled = filled or len(chunk.instants) > 0
            named = source.names(chunk.symbols)
            if named is not None:
                other = owners.setdefault(str(chunk.symbols), named)
                if other != named:
                    raise DataError(
                        f"{source.label} and {other} are both named after symbol {chunk.symbols}; "
                        "rename one, or add a symbol column to both"
                    )
            yield chunk
        if not filled and bad_rows == "refuse":
            raise DataError(f"{source.label}: has a header but no rows")


def read_frame(
    path: Path,
    *,
    symbol: str | None = None,
    time_zone: str | None = None,
    bad_rows: BadRows = "refuse",
    label: Label = "left",
    adjust: Adjust = "none",
    columns: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Bars of one symbol from a file of any kind that is known (or a directory), with notes to show to the user.

    The frame is ascending in time: `timestamps` (datetime64[ns], local wall clock, naive) and the six FEATURES as
    float64, none of them missing; `attrs["zone"]` is the zone of that clock, None where the file names none.
    A file of several symbols needs `symbol`. `columns` is `data.columns`.
    Raises DataError, InputMissing, or ConfigError for an unknown time zone.
    """
    check_zone(time_zone)
    findings = Findings()
    pieces: dict[str, list[Rows]] = {}
    for rows in read_rows(path, bad_rows, findings, columns):
        for name, part in by_symbol(rows):
            pieces.setdefault(name, []).append(part)
    if symbol is None and len(pieces) > 1:
        raise DataError(f"{path}: holds {len(pieces)} symbols ({some(sorted(pieces))}); choose one")
    symbol = next(iter(pieces), "") if symbol is None else symbol
    if symbol not in pieces:
        raise DataError(f"{path}: no usable row{f' of symbol {symbol}' if symbol else ''}")
    return symbol_frame(symbol, pieces[symbol], time_zone, bad_rows, findings, label, adjust), findings.notes()


def symbol_frame(
    symbol: str,
    pieces: Sequence[Rows],
    time_zone: str | None,
    bad_rows: BadRows,
    findings: Findings,
    label: Label = "left",
    adjust: Adjust = "none",
) -> pd.DataFrame:
    """`read_frame`'s frame of a symbol whose rows have been read. Raises DataError for rows that cannot be used."""
    instants, values = in_order(symbol, pieces, bad_rows, findings)
    if not len(instants):
        raise DataError(f"{pieces[0].file}: no usable row of symbol {symbol}; {'; '.join(findings.notes())}")
    times, zone = wall_clock(symbol, pieces, instants, time_zone, findings)
    times, values, series = surveyed(symbol, times, values, zone or time_zone, findings, label=label, adjust=adjust)
    findings.found += ahead([series], time.time_ns())
    frame = pd.DataFrame(values, columns=list(FEATURES))
    frame.insert(0, "timestamps", times.view("datetime64[ns]"))
    frame.attrs["zone"] = zone
    return frame
