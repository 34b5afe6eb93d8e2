"""The bars so far of one or many symbols. Called by the forecast command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kronos_trainer.data.layouts.containers import sources
from kronos_trainer.data.quality.findings import Findings
from kronos_trainer.data.reading.files import bar_files
from kronos_trainer.data.reading.readers import read_frame, read_sources, symbol_frame
from kronos_trainer.data.reading.table_reader import DROP
from kronos_trainer.data.rows import BadRows, Rows, by_symbol
from kronos_trainer.data.zones import check_zone
from kronos_trainer.errors import DataError
from kronos_trainer.forecast.published import Weights


@dataclass
class Histories:
    """What was read."""

    bars: dict[str, pd.DataFrame] = field(default_factory=dict)
    """By symbol, as `readers.read_frame` returns them."""
    failed: dict[str, str] = field(default_factory=dict)
    """Symbols (or files, where no symbol is known) that cannot be used, and why."""
    notes: list[str] = field(default_factory=list)


def read_history(path: Path, symbol: str, weights: Weights, bad_rows: BadRows) -> Histories:
    """One symbol of a file or directory, as the model was trained. Raises DataError, InputMissing, ConfigError."""
    reading = weights.reading
    bars, notes = read_frame(
        path,
        symbol=symbol,
        time_zone=reading.time_zone,
        bad_rows=bad_rows,
        columns=reading.columns,
        label=reading.label,
        adjust=reading.adjust,
    )
    return Histories({symbol: bars}, {}, notes)


def read_histories(path: Path, weights: Weights, bad_rows: BadRows) -> Histories:
    """Every symbol of a file or directory, as the model was trained.

    What is wrong with one of them does not lose the others.

    Raises DataError when no symbol can be told (or when a file cannot be read at all that may hold a part of any of
    them), InputMissing, and ConfigError for an unknown time zone.
    """
    reading = weights.reading
    check_zone(reading.time_zone)
    findings, histories = Findings(), Histories()
    pieces: dict[str, list[Rows]] = {}
    owners: dict[str, Path] = {}  # symbols that a file's own name gives
    for source in sources(bar_files(path)):
        file = source.label
        try:
            for rows in read_sources([source], "drop", findings, reading.columns):
                for name, part in by_symbol(rows):
                    pieces.setdefault(name, []).append(part)
                    named = source.names(rows.symbols)
                    other = named if named is None else owners.setdefault(name, named)
                    if other != named:
                        histories.failed[name] = f"{file} and {other} are both named after it; rename one"
        except DataError as error:
            histories.failed[file.name] = str(error)
            lost = error
    spread = [name for name, parts in pieces.items() if len({part.file for part in parts}) > 1]
    if spread and set(histories.failed) - set(pieces):
        raise DataError(
            f"{lost}; as symbols such as {spread[0]} have bars in several files, none is forecast without it"
        )
    if bad_rows == "refuse":
        histories.failed |= {name: f"{problem}{DROP}" for name, problem in findings.bad.items()}
        findings.dropped = 0
    for name in sorted(pieces.keys() - histories.failed.keys()):
        try:
            histories.bars[name] = symbol_frame(
                name, pieces[name], reading.time_zone, bad_rows, findings, reading.label, reading.adjust
            )
        except DataError as error:
            histories.failed[name] = str(error)
    histories.notes = findings.notes()
    if not histories.bars and not histories.failed:
        raise DataError(f"{path}: no usable row")
    return histories
