"""Splits: what looks like one is said with its day and ratio, and what merely moves is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos_trainer.config import Data, Source, Timeframe
from kronos_trainer.data.bars import read_bars
from kronos_trainer.data.quality.splits import splits
from kronos_trainer.data.reading.readers import read_frame

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
    likely = splits(times, frame[[*PRICES, "volume", "amount"]].to_numpy())
    return [(str(frame["timestamps"][one.row].date()), one.ratio) for one in likely]


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
    note = (
        "the price jumps as in a split: A on 2022-08-01 (4:1); if it is one, adjust the bars before it; data.adjust: "
        "splits (--adjust splits) does so for clear splits"
    )
    bars, notes = read_frame(tmp_path / "A.csv")
    assert notes == [note]
    np.testing.assert_allclose(bars[PRICES], frame[PRICES])
    assert read_bars(tmp_path / "A.csv", Timeframe.D1, Data(source=Source(path="unused"))).notes == (note,)


def test_a_clear_split_is_adjusted_on_request(tmp_path: Path) -> None:
    whole = walk()
    frame = walk()
    frame.loc[:149, PRICES] *= 4
    frame.loc[:149, "volume"] /= 4
    frame.to_csv(tmp_path / "A.csv", index=False)
    data = Data(source=Source(path="unused"), adjust="splits")
    note = "adjusted for a split, by data.adjust: splits: A on 2022-08-01 (4:1)"
    bars, notes = read_frame(tmp_path / "A.csv", adjust="splits")
    assert notes == [note]
    np.testing.assert_allclose(bars[[*PRICES, "volume", "amount"]], whole[[*PRICES, "volume", "amount"]], rtol=1e-12)
    mended, as_it_is = (
        read_bars(tmp_path / "A.csv", Timeframe.D1, one) for one in (data, data.model_copy(update={"adjust": "none"}))
    )
    assert mended.notes == (note,)
    np.testing.assert_allclose(mended.values, whole[[*PRICES, "volume", "amount"]], rtol=1e-6)
    assert mended.digest != as_it_is.digest

    # a crash to a half, on a volume that does not fit, is said and left
    frame = walk()
    frame.loc[150:, [*PRICES, "volume"]] /= 2
    frame["volume"] *= np.exp(np.random.default_rng(0).normal(0, 0.2, len(frame)))
    frame.to_csv(tmp_path / "A.csv", index=False)
    bars, notes = read_frame(tmp_path / "A.csv", adjust="splits")
    assert notes[0].startswith("the price jumps as in a split: A on 2022-08-01 (2:1)")
    np.testing.assert_allclose(bars[PRICES], frame[PRICES])


def heavy(seed: int, *, overnight: float) -> pd.DataFrame:
    """Two years of a price that moves by 3 % a day with heavy tails, a share of it before the open."""
    random = np.random.default_rng(seed)
    night, day = (random.standard_t(3, 500) * 0.03 / 3**0.5 * share**0.5 for share in (overnight, 1 - overnight))
    close = np.log(100) + np.cumsum(night + day)
    frame = pd.DataFrame({"open": np.exp(close - day), "close": np.exp(close)})
    frame["high"], frame["low"] = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    frame["volume"] = np.exp(random.normal(13, 0.4, 500))
    return frame.assign(timestamps=pd.bdate_range("2022-01-03", periods=500), amount=1e8)


@pytest.mark.parametrize("overnight", [0, 0.3])
def test_heavy_tails_are_no_splits_and_hide_few(overnight: float) -> None:
    panel = [heavy(seed, overnight=overnight) for seed in range(200)]
    assert [split for frame in panel for split in found(frame)] == []
    hits = 0
    for seed, frame in enumerate(panel[:100]):
        ratio = (2, 3, 4, 5, 10, 20, 1 / 2, 1 / 5, 1 / 10, 1 / 20)[seed % 10]
        row = int(np.random.default_rng(seed).integers(40, 460))
        frame.loc[row:, PRICES] /= ratio
        frame.loc[row:, "volume"] *= ratio
        name = f"{round(ratio)}:1" if ratio > 1 else f"1:{round(1 / ratio)}"
        hits += (str(frame["timestamps"][row].date()), name) in found(frame)
    assert hits >= 95
