"""Forecasts from frames as people have them, and back in the same form: `kronos_trainer.load`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kronos_trainer import Forecaster, load
from kronos_trainer.config import ModelRef, RunPaths
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.errors import ConfigError, DataError, InputMissing, TrainerError
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import save_weights, scratch_net
from kronos_trainer.storage import durable

LOOKBACK, HORIZON = 30, 4
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root with a published model of New York's days."""
    root = tmp_path_factory.mktemp("outputs")
    paths = RunPaths(root, ModelRef(namespace="default", name="model-b-1d"), "run-1")
    save_weights(scratch_net(TOKENIZER, "tiny", 1), paths.run_dir / "tokenizer" / "best")
    save_weights(scratch_net(PREDICTOR, "tiny", 1), paths.run_dir / "predictor" / "best")
    parts = {part: {"path": f"runs/run-1/{part}/best"} for part in ("tokenizer", "predictor")}
    window = {"lookback": LOOKBACK, "horizon": HORIZON, "maxContext": 64}
    data = {"digest": "", "clip": 5.0, "timeZone": None, "calendar": "XNYS"}
    durable.write_json(paths.current, {"run": "run-1", "timeframe": "1d", "window": window, "data": data, **parts})
    return root


@pytest.fixture(scope="module")
def model(root: Path) -> Forecaster:
    return load("model-b-1d", root=root, device="cpu")


def bars(rows: int = 100, seed: int = 0) -> pd.DataFrame:
    """Daily bars that end on the Friday before Thanksgiving 2024."""
    random = np.random.default_rng(seed)
    close = 50 + random.normal(0, 0.5, rows).cumsum()
    return pd.DataFrame(
        {
            "timestamps": pd.bdate_range(end="2024-11-22", periods=rows),
            "open": close + 0.1,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": random.integers(100_000, 1_000_000, rows),
        }
    )


FUTURE = ["2024-11-25", "2024-11-26", "2024-11-27", "2024-11-29"]  # the 28th is a holiday
Change = Callable[[pd.DataFrame], Any]
INDEXED = bars().set_index("timestamps")

# What changes neither the numbers nor, if it says nothing else, the form of the result.
FORMS: dict[str, tuple[Change, dict[str, Any]]] = {
    "stamps as text": (lambda df: df.assign(timestamps=df["timestamps"].dt.strftime("%Y/%m/%d")), {}),
    "stamps as numbers": (lambda df: df.assign(timestamps=df["timestamps"].dt.strftime("%Y%m%d").astype(int)), {}),
    "descending": (lambda df: df[::-1], {}),
    "an amount that is made up anyway": (
        lambda df: df.assign(amount=df["volume"] * df[["open", "high", "low", "close"]].mean(axis=1)),
        {},
    ),
    "capitals": (lambda df: df.rename(columns=str.title), {}),
    "a column nobody knows": (lambda df: df.assign(note="x", rsi=np.nan), {}),
    "only what the model sees": (lambda df: df.tail(LOOKBACK), {}),
    "numbers as text": (lambda df: df.astype({"close": str, "volume": str}), {}),
    "horizon": (lambda df: df, {"horizon": HORIZON}),
    "future as list of text": (lambda df: df, {"future": FUTURE}),
    "future as index": (lambda df: df, {"future": pd.DatetimeIndex(FUTURE)}),
    "future as series": (lambda df: df, {"future": pd.Series(pd.to_datetime(FUTURE), index=range(7, 11))}),
    "future in place": (lambda df: df, {"future": np.int64(HORIZON)}),
}


@pytest.mark.parametrize("form", FORMS)
def test_bars_are_taken_as_people_have_them(form: str, model: Forecaster) -> None:
    change, options = FORMS[form]
    given = change(bars())
    before = given.copy(deep=True)
    found, expected = model.forecast(given, **options), model.forecast(bars())
    pd.testing.assert_frame_equal(given, before)
    assert list(found) == ["timestamps", *FEATURES]
    assert found["timestamps"].dt.strftime("%Y-%m-%d").tolist() == FUTURE
    np.testing.assert_allclose(found[list(FEATURES)], expected[list(FEATURES)], rtol=1e-5)


def test_missing_volume_and_amount_are_0_and_said(model: Forecaster) -> None:
    found = model.forecast(bars().drop(columns="volume"))
    assert found["volume"].abs().max() < 1e-3
    assert any("no volume column" in note for note in found.attrs["notes"])


@pytest.mark.parametrize(
    "index",
    [
        INDEXED.index,
        INDEXED.index.rename(None),
        INDEXED.index.tz_localize("America/New_York"),
        INDEXED.index.as_unit("s"),
        INDEXED.index.to_period("D"),
        INDEXED.index.strftime("%Y-%m-%d"),
    ],
    ids=["naive", "without a name", "zone", "unit", "periods", "text"],
)
def test_an_index_of_stamps_comes_back_as_it_was(index: pd.Index, model: Forecaster) -> None:
    found = model.forecast(INDEXED.set_axis(index))
    np.testing.assert_allclose(found, model.forecast(bars())[list(FEATURES)], rtol=1e-5)
    text = not isinstance(index, pd.DatetimeIndex | pd.PeriodIndex)
    assert found.index.name == index.name
    assert found.index.dtype == ("datetime64[ns]" if text else index.dtype)
    assert found.index.strftime("%Y-%m-%d").tolist() == FUTURE


def test_hours_of_a_zone_stay_in_it_and_follow_its_clock(root: Path) -> None:
    run = root / "models/default/model-b-1d/runs/run-1"
    plain = load(run / "tokenizer/best", run / "predictor/best", device="cpu")
    hours = pd.date_range("2024-10-21 09:30", "2024-11-01 15:30", freq="h", tz="America/New_York")
    hours = hours[(hours.day_of_week < 5) & (hours.hour >= 9) & (hours.hour < 16)]
    frame = bars(len(hours)).drop(columns="timestamps").set_index(hours)
    for calendar in (None, "XNYS"):
        found = plain.forecast(frame, horizon=8, calendar=calendar)
        # the clocks change on the 3rd: in UTC the day begins an hour later
        assert str(found.index[0]) == "2024-11-04 09:30:00-05:00"
        assert found.index.hour.tolist() == [9, 10, 11, 12, 13, 14, 15, 9]


def test_ends_of_bars_are_taken_for_their_starts(root: Path) -> None:
    run = root / "models/default/model-b-1d/runs/run-1"
    plain = load(run / "tokenizer/best", run / "predictor/best", device="cpu")
    hours = pd.date_range("2024-10-21", periods=100, freq="h")
    frame = bars(100).drop(columns="timestamps")
    for zone in (None, "Asia/Tokyo"):
        expected = plain.forecast(frame.set_index(hours.tz_localize(zone)), horizon=3)
        right = load(run / "tokenizer/best", run / "predictor/best", device="cpu")
        right.label = "right"
        ends = (hours + pd.Timedelta(hours=1)).tz_localize(zone)
        future = pd.date_range(ends[-1], periods=4, freq="h")[1:]
        for options in ({"horizon": 3}, {"future": future}):
            pd.testing.assert_frame_equal(right.forecast(frame.set_index(ends), **options), expected, check_freq=False)


def test_bars_that_contradict_themselves_are_said_and_left_out_on_request(model: Forecaster) -> None:
    frame = bars(101)
    frame.loc[99, "high"] = 1.0
    assert any("contradict" in note for note in model.forecast(frame).attrs["notes"])
    found = model.forecast(frame, bad_rows="drop")
    np.testing.assert_allclose(found["close"], model.forecast(frame.drop(index=99))["close"])


def test_several_symbols_come_back_as_they_were_told_apart(model: Forecaster) -> None:
    parts = {"A": bars(seed=1), "B": bars(60, seed=2)}
    alone = {name: model.forecast(frame, samples=3) for name, frame in parts.items()}
    result = model.forecast(parts, samples=3)
    assert list(result) == ["A", "B"]
    for name, frame in result.items():
        np.testing.assert_allclose(frame["close"], alone[name]["close"], rtol=1e-3)
    closes = np.concatenate([alone[name]["close"] for name in parts])

    long = pd.concat([frame.assign(ticker=name) for name, frame in parts.items()])
    found = model.forecast(long.sort_values("timestamps"), samples=3).sort_values(["ticker", "timestamps"])
    assert found["ticker"].tolist() == ["A"] * HORIZON + ["B"] * HORIZON
    np.testing.assert_allclose(found["close"], closes, rtol=1e-3)

    index = pd.concat({name: frame.set_index("timestamps") for name, frame in parts.items()}, names=["who", "when"])
    for rows in (index, index.swaplevel().sort_index()):
        found = model.forecast(rows, samples=3)
        assert found.index.names == rows.index.names
        np.testing.assert_allclose(found.xs("B", level="who")["close"], alone["B"]["close"], rtol=1e-3)

    wide = pd.concat({name: frame.set_index("timestamps") for name, frame in parts.items()}, axis=1)
    for columns in (wide, wide.swaplevel(axis=1)):  # as yfinance has them, in both orders
        found = model.forecast(columns, samples=3)
        level = 0 if columns is wide else 1
        np.testing.assert_allclose(found.xs("B", axis=1, level=level)["close"], alone["B"]["close"], rtol=1e-3)
        assert found.index.strftime("%Y-%m-%d").tolist() == FUTURE


def test_paths_and_quantiles_take_the_place_of_averages(model: Forecaster) -> None:
    paths = model.forecast(INDEXED, samples=5, paths=True)
    assert list(paths) == ["path", *FEATURES] and paths["path"].tolist() == np.repeat(range(1, 6), HORIZON).tolist()
    average = model.forecast(INDEXED, samples=5)
    np.testing.assert_allclose(paths.groupby(level=0)["close"].mean(), average["close"], rtol=1e-6)
    quantiles = model.forecast(INDEXED, samples=5, quantiles=[0.5, 0.1])
    assert list(quantiles)[:2] == ["open_q10", "open_q50"] and quantiles.index.equals(average.index)
    np.testing.assert_allclose(quantiles["close_q50"], paths.groupby(level=0)["close"].median(), rtol=1e-6)
    wide = pd.concat({"A": INDEXED, "B": INDEXED}, axis=1)
    of_b = model.forecast(wide, samples=5, quantiles=[0.5, 0.1])["B"]
    np.testing.assert_allclose(of_b["close_q50"], quantiles["close_q50"], rtol=1e-6)


def test_a_model_is_named_or_a_directory(root: Path, model: Forecaster, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = root / "models/default/model-b-1d"
    expected = model.forecast(bars())["close"].tolist()
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", str(root))
    for one in (load("model-b-1d"), load(directory), load(str(directory / "runs" / "run-1"))):
        assert one.forecast(bars(), future=FUTURE, lookback=LOOKBACK)["close"].tolist() == expected
    with pytest.raises(InputMissing, match="published there: model-b-1d"):
        load("model-c")
    with pytest.raises(InputMissing, match=r"neither a model .* nor a run"):
        load(root / "models")


def changed(**columns: Any) -> pd.DataFrame:
    return bars().assign(**columns)


MISTAKES: dict[str, tuple[Callable[[Forecaster], Any], type[TrainerError], str]] = {
    "no frame": (lambda m: m.forecast("bars.csv"), DataError, "bars are a DataFrame, .* found str"),
    "no close": (lambda m: m.forecast(bars().drop(columns="close")), DataError, "the frame: no column for close"),
    "no rows": (lambda m: m.forecast(bars()[:0]), DataError, "the frame: has no rows"),
    "NaN": (lambda m: m.forecast(changed(low=np.nan)), DataError, "row 0, column low: nan is not a number.*bad_rows"),
    "text": (lambda m: m.forecast(changed(low="x")), DataError, "row 0, column low: 'x' is not a number"),
    "negative volume": (lambda m: m.forecast(changed(volume=-1)), DataError, "row 0, column volume: -1 is negative"),
    "twice": (
        lambda m: m.forecast(pd.concat([bars(), changed(volume=7)[:1]])),
        DataError,
        "2024-07-08 .* already given",
    ),
    "of one of two": (lambda m: m.forecast({"A": bars(), "B": changed(low="x")}), DataError, "the frame of B: row 0"),
    "past future": (lambda m: m.forecast(bars(), ["2024-11-22"]), DataError, "does not come after 2024-11-22"),
    "future with a zone": (
        lambda m: m.forecast(bars(), pd.DatetimeIndex(["2024-11-25"], tz="UTC")),
        DataError,
        "have a time zone, but those of the bars have none",
    ),
    "no horizon": (lambda m: m.forecast(bars(), horizon=0), ConfigError, "horizon 0 is not a number of bars"),
    "beyond": (lambda m: m.forecast(bars(), horizon=65), ConfigError, "horizon 65 exceeds the model's context of 64"),
    "one bar": (lambda m: m.forecast(bars(), lookback=1), ConfigError, "lookback 1 is too short"),
    "too long": (lambda m: m.forecast(bars(), lookback=101), ConfigError, "lookback 101 exceeds the 100 bar"),
    "quantiles of 1": (lambda m: m.forecast(bars(), quantiles=[0.5]), ConfigError, "set more samples"),
    "percent": (lambda m: m.forecast(bars(), samples=3, quantiles=[50]), ConfigError, "50 is not between 0 and 1"),
    "both": (lambda m: m.forecast(bars(), samples=3, paths=True, quantiles=[0.5]), ConfigError, "use one"),
    "calendar": (lambda m: m.forecast(bars(), calendar="NYS"), ConfigError, "did you mean XNYS"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_typed_error_that_names_it(mistake: str, model: Forecaster) -> None:
    attempt, kind, message = MISTAKES[mistake]
    with pytest.raises(kind, match=message):
        attempt(model)


def test_bad_rows_are_left_out_on_request(model: Forecaster) -> None:
    frame = bars(101)
    frame.loc[100, "close"] = np.nan  # the day is not over
    found = model.forecast(frame, bad_rows="drop", horizon=2)
    np.testing.assert_allclose(found["close"], model.forecast(frame[:100], horizon=2)["close"])
    assert any(note.startswith("bad rows skipped: 1") for note in found.attrs["notes"])


def test_what_the_model_was_not_trained_for_is_noted(model: Forecaster) -> None:
    notes = model.forecast(bars(), horizon=5, lookback=40).attrs["notes"]
    assert "horizon 5 exceeds the 4 bars that the model was trained for" in notes
    assert "lookback 40 exceeds the 30 bars of history that the model was trained with" in notes
    assert any("there are fewer of A (20)" in note for note in model.forecast({"A": bars(20)})["A"].attrs["notes"])


def test_the_lines_of_the_readme_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    bars(200).to_csv(tmp_path / "IBM.csv", index=False)
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", str(root))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace("data/bars/us/daily/IBM.csv", "IBM.csv"), names)
    assert len(names["forecast"]) == 15 and len(code.splitlines()) <= 8
