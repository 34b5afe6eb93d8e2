"""The sample bars: real, adjusted for splits, and written whole."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from kronos_trainer.config import Data, Source, Timeframe, Window
from kronos_trainer.data.bars import read_bars
from kronos_trainer.data.commands.samples import write_samples
from kronos_trainer.data.reading.readers import read_frame
from kronos_trainer.data.windows import split_bars
from kronos_trainer.errors import BadEnvironment


def test_the_samples_are_adjusted_and_train_as_they_are(tmp_path: Path) -> None:
    written = write_samples(tmp_path)
    daily, hourly = tmp_path / "bars" / "us" / "daily", tmp_path / "bars" / "fx" / "eurusd"
    assert written == [
        *(daily / f"{name}.csv" for name in ("AAPL", "FB", "GOOG", "IBM", "MSFT")),
        hourly / "EURUSD.csv",
    ]
    for directory, licence in ((daily, "BSD-3-Clause"), (hourly, "MIT")):
        assert licence in (directory / "README.txt").read_text()

    data = Data(source=Source(path="unused"))
    stocks = read_bars(daily, Timeframe.D1, data)
    assert np.diff(stocks.offsets).tolist() == [3270, 196, 2148, 3270, 3270]
    assert stocks.notes == ()
    splits = split_bars(stocks, data, Window(lookback=120, horizon=15))
    assert min(len(splits.train), len(splits.validation), len(splits.test)) > 500
    assert any("FB (1 of 5 symbols)" in note for note in splits.notes)  # 196 rows are left out and stop nothing

    # AAPL split two for one on 2000-06-21 and 2005-02-28; unadjusted, a close would halve
    apple, _ = read_frame(daily / "AAPL.csv")
    for day in ("2000-06-21", "2005-02-28"):
        row = int(apple.index[apple["timestamps"] == day][0])
        assert apple["close"][row] / apple["close"][row - 1] == pytest.approx(1, abs=0.1)
        assert apple["volume"][row] / apple["volume"][row - 1] == pytest.approx(1, abs=0.7)
    price = apple[["open", "high", "low", "close"]].mean(axis=1)
    np.testing.assert_allclose(apple["amount"], price * apple["volume"], rtol=1e-5)

    euro = read_bars(hourly, Timeframe.H4, data)
    assert len(euro.times) == pytest.approx(6225 / 4, rel=0.05)
    assert len(split_bars(euro, data, Window(lookback=90, horizon=10)).validation) > 0


def test_without_the_packages_the_extra_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.metadata.distribution

    def without(name: str) -> importlib.metadata.Distribution:
        if name == "gym-anytrading":
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata, "distribution", without)
    with pytest.raises(
        BadEnvironment, match=r"gym-anytrading, which is not installed; pip install 'kronos-operator\[samples\]'"
    ):
        write_samples(tmp_path)
    assert list(tmp_path.iterdir()) == []
