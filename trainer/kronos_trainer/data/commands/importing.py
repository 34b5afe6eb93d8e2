"""Bars in any known layout -> one file of plain bars for each symbol; what `kronos data import` does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd

from kronos_trainer.data.commands.legacy import pickled
from kronos_trainer.data.layouts.containers import Source, sources
from kronos_trainer.data.layouts.recognise import Recognised
from kronos_trainer.data.layouts.tables import Table
from kronos_trainer.data.quality.findings import Findings
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.data.reading.files import bar_files
from kronos_trainer.data.reading.readers import read_sources
from kronos_trainer.data.rows import BadRows, Rows, by_symbol, in_order, wall_clock
from kronos_trainer.data.zones import check_zone
from kronos_trainer.errors import ConfigError, DataError, InputMissing
from kronos_trainer.storage.durable import write_file

Kind = Literal["parquet", "csv"]


@dataclass
class Imported:
    """What an import has read and written."""

    rows: dict[str, int] = field(default_factory=dict)  # by symbol
    layouts: dict[str, list[str]] = field(
        default_factory=dict
    )  # what was recognised, and the files of which it is true
    notes: list[str] = field(default_factory=list)


def import_bars(
    paths: Sequence[Path],
    out: Path,
    kind: Kind,
    *,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    time_zone: str | None = None,
    bad_rows: BadRows = "refuse",
) -> Imported:
    """Write one file of bars for each symbol of all files together under `out`.

    Every file is complete when it appears, and no input is overwritten. Rows that are equal in two files are kept once.
    Raises DataError, InputMissing, ConfigError, StorageError.
    """
    check_zone(time_zone)
    done, findings = Imported(), Findings()
    fields: set[str] = set()

    def told(table: Table, recognised: Recognised, facts: Sequence[str]) -> None:
        group = recognised.groups[0]
        fields.update(group.places)
        named = [f"{name}={table.header[place]}" for name, place in group.places.items()]
        said = [recognised.layout.title, table.kind, *facts, f"columns {', '.join(named)}"]
        done.layouts.setdefault("; ".join(said), []).append(table.file.name)

    inputs = [file for path in paths for file in _files(path)]
    pieces: dict[str, list[Rows]] = {}
    for rows in read_sources(_sources(inputs, layout), bad_rows, findings, columns, layout, told):
        for symbol, part in by_symbol(rows):
            pieces.setdefault(symbol, []).append(part)
    targets = _targets(sorted(pieces), out, kind, inputs)
    wanted = ["timestamps", *(name for name in FEATURES if name in fields)]
    for symbol, target in targets.items():
        frame = _frame(symbol, pieces[symbol], time_zone, bad_rows, findings)[wanted]
        if target.stem != symbol:
            frame.insert(0, "symbol", symbol)
        write_file(target, partial(frame.to_parquet if kind == "parquet" else frame.to_csv, index=False))
        done.rows[symbol] = len(frame)
    absent = (findings.without_volume, findings.without_amount)
    for names in absent:
        names.clear()  # the files written lack the column as well
    done.notes = findings.notes()
    return done


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        pickles = sorted(file for file in path.rglob("*") if file.suffix.lower() in (".pkl", ".pickle"))
        return pickles or bar_files(path)
    return bar_files(path)


def _sources(files: Sequence[Path], layout: str | None) -> Iterator[Source]:
    bars = []
    for file in files:
        if not file.is_file():
            raise InputMissing(f"{file}: no such file")
        with file.open("rb") as stream:
            begin = stream.read(2)
        if layout == "upstream" or file.suffix.lower() in (".pkl", ".pickle") or re.match(rb"\x80[\x02-\x05]", begin):
            yield from pickled(file)
        else:
            bars.append(file)
    yield from sources(bars)


def _targets(symbols: Sequence[str], out: Path, kind: Kind, inputs: Sequence[Path]) -> dict[str, Path]:
    """The file of each symbol. A symbol that is not a valid file name goes into a column as well."""
    targets: dict[str, Path] = {}
    for symbol in symbols:
        name = re.sub(r"[^\w.+^=@-]", "-", symbol).lstrip("._") or "symbol"
        target = out / f"{name[:200]}.{kind}"
        if target in targets.values():
            other = next(key for key in targets if targets[key] == target)
            raise DataError(f"symbols {other} and {symbol} would both be {target}")
        if target.exists() and any(target.samefile(file) for file in inputs):
            raise ConfigError(f"--out: {target} is one of the files to import; choose another directory")
        targets[symbol] = target
    return targets


def _frame(
    symbol: str, pieces: Sequence[Rows], time_zone: str | None, bad_rows: BadRows, findings: Findings
) -> pd.DataFrame:
    instants, values = in_order(symbol, pieces, bad_rows, findings)
    times, zone = wall_clock(symbol, pieces, instants, time_zone, findings)
    stamps = pd.DatetimeIndex(times.view("datetime64[ns]"))
    # instants stay instants; dates, and times by the clock of an exchange, stay what they are there
    stamps = stamps.tz_localize("UTC") if zone == "UTC" and time_zone is None else stamps
    frame = pd.DataFrame(values, columns=list(FEATURES))
    frame.insert(0, "timestamps", stamps)
    return frame
