"""Real sample bars: five US stocks daily and EURUSD hourly; called by `kronos data sample`."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pandas as pd

from kronos_trainer.data.reading.readers import read_frame
from kronos_trainer.errors import BadEnvironment
from kronos_trainer.storage.durable import write_file, write_text

_STOCKS_NOTE = """\
Daily bars of five US stocks, 2000-03-01 to 2013-03-01 (FB from 2012-05-18, GOOG from 2004-08-19).

Source: PyPI package bokeh-sampledata {version}, file bokeh_sampledata/_data/stocks.csv.gz, BSD-3-Clause.

The source's prices are as traded; its column "Adj Close" is corrected for splits and dividends. Here open, high, low
and close are multiplied by Adj Close / Close of their day and volume is divided by it, so that a split is no jump.
amount is volume x mean of the four prices; the source has none.
"""
_FX_NOTE = """\
Hourly bars of EURUSD (ask), 2017-01-01 22:00 to 2017-12-29 21:00, stamps as in the source, which names no time zone.

Source: PyPI package gym-anytrading {version}, file gym_anytrading/datasets/data/FOREX_EURUSD_1H_ASK.csv, MIT.

amount is volume x mean of the four prices; the source has none.
"""


def write_samples(out: Path) -> list[Path]:
    """Write the sample bars under `out` as CSV files, with a README.txt beside them, and return the CSV files.

    Raises BadEnvironment when the packages that hold them are not installed, StorageError when writing fails.
    """
    stocks, stocks_version = _packaged("bokeh-sampledata", "bokeh_sampledata/_data/stocks.csv.gz")
    fx, fx_version = _packaged("gym-anytrading", "gym_anytrading/datasets/data/FOREX_EURUSD_1H_ASK.csv")

    daily = out / "bars" / "us" / "daily"
    ratios = pd.read_csv(stocks).set_index(["Ticker", "Date"])
    written = []
    for symbol in sorted(ratios.index.unique("Ticker")):
        bars, _ = read_frame(stocks, symbol=symbol)
        source = ratios.loc[symbol]
        ratio = (source["Adj Close"] / source["Close"]).to_numpy()
        bars[["open", "high", "low", "close"]] = bars[["open", "high", "low", "close"]].mul(ratio, axis=0).round(6)
        bars["volume"] = (bars["volume"] / ratio).round()
        written.append(_write(bars, daily / f"{symbol}.csv", "%Y-%m-%d"))
    write_text(daily / "README.txt", _STOCKS_NOTE.format(version=stocks_version))

    hourly = out / "bars" / "fx" / "eurusd"
    bars, _ = read_frame(fx)
    written.append(_write(bars, hourly / "EURUSD.csv", "%Y-%m-%d %H:%M:%S"))
    write_text(hourly / "README.txt", _FX_NOTE.format(version=fx_version))
    return written


def _packaged(package: str, file: str) -> tuple[Path, str]:
    """A file of an installed package, which is found without importing it, and the package's version."""
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        distribution = None
    path = Path(str(distribution.locate_file(file))) if distribution else None
    if distribution is None or path is None or not path.is_file():
        raise BadEnvironment(
            f"the sample bars come from the package {package}, which is not installed; "
            "pip install 'kronos-operator[samples]'"
        )
    return path, distribution.version


def _write(bars: pd.DataFrame, path: Path, stamp: str) -> Path:
    bars["amount"] = (bars["volume"] * bars[["open", "high", "low", "close"]].mean(axis=1)).round(2)
    write_file(path, lambda aside: bars.to_csv(aside, index=False, date_format=stamp))
    return path
