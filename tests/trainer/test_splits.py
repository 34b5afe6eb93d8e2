"""Splits: what looks like one is said with its day and ratio, and what merely moves is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos_trainer.bars import read_bars
from kronos_trainer.config import Data, Source, Timeframe
from kronos_trainer.readers import read_frame
from kronos_trainer.splits import splits

PRICES = ["open", "high", "low", "close"]


def walk(rows: int = 300, volatility: float = 0.01, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, volatility, rows)))
    open_ = np.r_[100, close[:-1]]
    frame = pd.DataFrame({"timestamps": pd.bdate_range("2022-01-03", periods=rows), "open": open_, "close": close})
    frame["high"], frame["low"] = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    return frame.assign(volume=1e6, amount=1e8)


def found(frame: pd.DataFrame) -> list[tuple[str, str]]:
    times = frame["timestamps"].to_numpy("datetime64[ns]").view(np.int64)
    return splits(times, frame[[*PRICES, "volume", "amount"]].to_numpy())


@pytest.mark.parametrize("row", [1, 150, 298])
@pytest.mark.parametrize("ratio", [4, 1.5, 20, 0.1])
def test_a_split_is_found_with_its_day_and_ratio(row: int, ratio: float) -> None:
    frame = walk()
    frame.loc[row:, PRICES] /= ratio
    name = {4: "4:1", 1.5: "3:2", 20: "20:1", 0.1: "1:10"}[ratio]
    assert found(frame) == [(str(frame["timestamps"][row].date()), name)]


def test_moves_wrong_bars_and_adjusted_prices_are_no_splits() -> None:
    assert found(walk()) == []
    assert all(found(walk(volatility=0.06, seed=seed)) == [] for seed in range(20))
    wrong = walk()
    wrong.loc[150, PRICES] *= 10
    assert found(wrong) == []
    crash = walk()
    crash.loc[150:, PRICES] *= 0.42
    assert found(crash) == []


def test_training_and_forecast_name_the_split_and_leave_the_prices(tmp_path: Path) -> None:
    frame = walk()
    frame.loc[150:, PRICES] /= 4
    frame.to_csv(tmp_path / "A.csv", index=False)
    note = "the price jumps as by a split; if it is one, adjust the bars before it: A on 2022-08-01 (4:1)"
    bars, notes = read_frame(tmp_path / "A.csv")
    assert notes == [note]
    np.testing.assert_allclose(bars[PRICES], frame[PRICES])
    assert read_bars(tmp_path / "A.csv", Timeframe.D1, Data(source=Source(path="unused"))).notes == (note,)
