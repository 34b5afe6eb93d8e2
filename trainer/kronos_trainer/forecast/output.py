"""Forecasts -> files: CSV or Parquet, in one file or in one for each symbol. Called by the forecast command."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.config import PARQUET_SUFFIXES
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.errors import DataError
from kronos_trainer.storage import durable

Float64 = npt.NDArray[np.float64]

DIGITS = 5e-9  # of a number: beyond eight digits, a file of prices has only rounding
LEAST_DIGITS = 3  # of a typical price, also where the bars before had fewer
MOST_DECIMALS = 24
FORBIDDEN = '/\\:*?"<>|'  # in names of files, by one system or another


@dataclass(frozen=True)
class Written:
    """One symbol's forecast: columns timestamps and FEATURES, of paths `path`, or quantiles of FEATURES."""

    rows: pd.DataFrame
    history: pd.DataFrame
    """The bars that it continues; its numbers are written with their decimals."""


def write_one(output: Path, forecasts: Mapping[str, Written], *, with_symbol: bool) -> None:
    """All forecasts in one file; `with_symbol`: with a column symbol. Raises StorageError."""
    pieces = [one.rows for one in forecasts.values()]
    if with_symbol:
        pieces = [_named(rows, symbol) for symbol, rows in zip(forecasts, pieces, strict=True)]
    if output.name.lower().endswith(PARQUET_SUFFIXES):
        table = pd.concat(pieces, ignore_index=True)
        durable.write_file(output, lambda aside: table.to_parquet(aside, index=False))
        return
    tab = output.name.lower().endswith((".tsv", ".tsv.gz"))
    content = _csv(pieces, [one.history for one in forecasts.values()], "\t" if tab else ",").encode()
    durable.write_bytes(output, gzip.compress(content, mtime=0) if output.name.lower().endswith(".gz") else content)


def files_in(directory: Path, symbols: Sequence[str], suffix: str) -> dict[str, Path]:
    """One file per symbol in a directory, with invalid characters of names replaced: BTC/USDT becomes BTC_USDT.

    Raises DataError where two symbols would share one.
    """
    files: dict[str, Path] = {}
    owners: dict[str, str] = {}
    for symbol in symbols:
        plain = "".join(sign if sign.isprintable() and sign not in FORBIDDEN else "_" for sign in symbol)
        name = plain.strip(". ") or "_"
        other = owners.setdefault(name.casefold(), symbol)
        if other != symbol:
            raise DataError(
                f"symbols {other} and {symbol} would share a file in {directory}; name one file as --output"
            )
        files[symbol] = directory / f"{name}{suffix}"
    return files


def _named(rows: pd.DataFrame, symbol: str) -> pd.DataFrame:
    named = rows.copy()
    named.insert(0, "symbol", symbol)
    return named


def _csv(pieces: Sequence[pd.DataFrame], histories: Sequence[pd.DataFrame], separator: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(pieces[0].columns)
    for rows, history in zip(pieces, histories, strict=True):
        written = {"timestamps": _stamps(rows["timestamps"]), **_numbers(rows, history)}
        columns = [written[name] if name in written else rows[name].tolist() for name in rows.columns]
        writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def _stamps(times: pd.Series) -> list[str]:
    """Dates where all are midnights, else with the time of day."""
    stamps = times.to_numpy("datetime64[s]")
    days = stamps.astype("datetime64[D]")
    if (stamps == days).all():
        return days.astype(str).tolist()
    return [stamp.replace("T", " ") for stamp in stamps.astype(str).tolist()]


def _numbers(rows: pd.DataFrame, history: pd.DataFrame) -> dict[str, list[str]]:
    """The numbers of each column as text, without exponents, with the decimals of the bars before."""
    prices = list(FEATURES[:4])
    given = history[list(FEATURES)].to_numpy(np.float64)
    places = dict.fromkeys(prices, max(decimals(given[:, :4]), _needed(given[:, :4])))
    for index, name in enumerate(FEATURES[4:], start=4):
        of_input = decimals(given[:, index])
        places[name] = max(of_input, _needed(given[:, index])) if of_input else 0
    fields = {name: str(name).partition("_")[0] for name in rows.columns}  # close_q05 is written as close
    return {
        name: _written(rows[name].to_numpy(np.float64), places[field])
        for name, field in fields.items()
        if field in FEATURES
    }


def _written(numbers: Float64, places: int) -> list[str]:
    # the sum takes the sign off a zero
    return [f"{number:.{places}f}" for number in np.round(numbers, places) + 0.0]


def decimals(numbers: Float64) -> int:
    """How many decimals numbers are written with, to eight digits each."""
    return next(
        (
            places
            for places in range(MOST_DECIMALS)
            if (np.abs(np.round(numbers, places) - numbers) <= DIGITS * np.abs(numbers)).all()
        ),
        MOST_DECIMALS,
    )


def _needed(numbers: Float64) -> int:
    """Decimals with which a typical number keeps its first digits."""
    sizes = np.abs(numbers[numbers != 0])
    if not len(sizes):
        return 0
    return int(np.clip(LEAST_DIGITS - 1 - np.floor(np.log10(np.median(sizes))), 0, MOST_DECIMALS))
