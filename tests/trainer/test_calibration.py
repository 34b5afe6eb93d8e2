"""Calibration: measured on a validation span of fake draws, applied to fresh ones, and used by the forecast command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kronos_trainer import load
from kronos_trainer.config import ModelRef, RunPaths
from kronos_trainer.errors import InputMissing
from kronos_trainer.evaluation.calibrating import PLAIN, calibrate
from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.evaluation.conformal import Bands, chosen_half_life, factors
from kronos_trainer.forecast.__main__ import main
from kronos_trainer.forecast.bands import apply, apply_to_paths
from kronos_trainer.forecast.calibration import Calibration, read_calibration
from kronos_trainer.forecast.quantiles import column
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import save_weights, scratch_net
from kronos_trainer.storage import durable

HORIZON = 4
World = Callable[[np.random.Generator, tuple[int, ...]], Floats]


def walk(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return random.normal(size=(*shape, HORIZON)).cumsum(axis=-1)


def skewed(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return (random.gamma(1.5, size=(*shape, HORIZON)) - 1.5).cumsum(axis=-1)


def fixed(paths: Floats) -> Callable[[Sampling, Int64], Floats]:
    """A sampler that temperature and top-p do not move."""
    return lambda sampling, cells: paths[cells, : sampling.samples]


# --- measured ---


@pytest.mark.parametrize(
    ("came", "drawn"),
    [
        (walk, lambda random, shape: walk(random, shape) / 2),
        (walk, lambda random, shape: walk(random, shape) * 2),
        (walk, walk),
        (walk, skewed),
        (skewed, lambda random, shape: walk(random, shape) / 3),
    ],
    ids=["half the spread", "twice the spread", "right", "skewed where nothing is", "skewed truth"],
)
def test_a_wrong_spread_comes_within_3_points_on_fresh_data(came: World, drawn: World) -> None:
    random = np.random.default_rng(5)
    actual, paths = came(random, (1500,)), drawn(random, (1500, 60))
    found = calibrate(fixed(paths), actual, np.arange(1500), samples=60, seed=0)
    fresh, ahead = came(random, (4000,)), drawn(random, (4000, 60))
    for level in (0.5, 0.8, 0.95):
        low, high = 100 * apply(found, ahead / 100, [(1 - level) / 2, (1 + level) / 2])
        covered = ((low <= fresh) & (fresh <= high)).mean(axis=0)
        np.testing.assert_allclose(covered, level, atol=0.03)
    if drawn is not came and came is walk and drawn is not skewed:
        assert abs(found.sampled["80"] - 0.8) > 0.1
    assert abs(found.calibrated["80"] - 0.8) < 0.002 and found.dates == found.cells == 1500


def test_the_factor_leaves_room_for_the_date_to_come() -> None:
    scores = np.arange(1.0, 20)[None, None]  # 19 dates
    levels = np.array([0.5, 0.95, 0.98])
    found, short = factors(np.repeat(scores, 3, axis=1), np.arange(19), levels, None)
    assert found[:, 0].tolist() == [10, 19, 19]  # (n + 1) x level of them; the last is not reached
    assert short == 1


def test_dates_are_the_units_of_many_symbols() -> None:
    # one date of 50 symbols, of which all were far off, is one date of twenty
    scores, dates = (
        np.concatenate([np.full(50, 9.0), np.ones(19)]),
        np.concatenate([np.zeros(50, int), np.arange(1, 20)]),
    )
    found, short = factors(scores[None, None], dates, np.array([0.9]), None)
    assert found.item() == 1 and short == 0
    assert factors(scores[None, None], np.arange(69), np.array([0.9]), None)[0].item() == 9


def test_recent_dates_weigh_more_where_that_has_paid() -> None:
    chosen = {"drift": 0, "stationary": 0}
    for seed in range(20):
        random = np.random.default_rng(seed)
        actual, paths = walk(random, (120,)), walk(random, (120, 40))
        growing = np.linspace(0.5, 2, 120)[:, None]
        for name, came in (("drift", actual * growing), ("stationary", actual)):
            chosen[name] += chosen_half_life(Bands(paths, came), np.arange(120)) is not None
    assert chosen["drift"] >= 16 and chosen["stationary"] <= 2
    # a date weighs what its age leaves of it: the newer half decides
    scores = np.concatenate([np.ones(50), np.full(50, 3.0)])[None, None]
    found = [factors(scores, np.arange(100), np.array([0.4]), half_life)[0].item() for half_life in (None, 10.0)]
    assert found == [1, 3]


def test_the_grid_finds_the_temperature_of_a_sampler() -> None:
    random = np.random.default_rng(3)
    actual, noise = 1.4 * walk(random, (400,)), walk(random, (400, 30))
    asked: list[Sampling] = []
    cells_asked: list[int] = []

    def draw(sampling: Sampling, cells: Int64) -> Floats:
        asked.append(sampling)
        cells_asked.append(len(cells))
        return noise[cells, : sampling.samples] * sampling.temperature * sampling.top_p

    found = calibrate(draw, actual, np.arange(400), samples=30, seed=7)
    assert found.temperature * found.top_p == pytest.approx(1.4, abs=0.15)  # one step of the grid
    assert cells_asked == [150] * 8 + [400]
    assert len(asked) == 9 and {one.seed for one in asked} == {7} and asked[-1].samples == found.samples == 30
    best = min(found.tried, key=lambda one: one.crps or 9)
    assert (best.temperature, best.top_p) == (found.temperature, found.top_p)

    assert (asked[-1].temperature, asked[-1].top_p) == (found.temperature, found.top_p)

    # what seems better by chance is not taken
    moved = lucky = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        noise = walk(random, (30, 30))
        found = calibrate(draw, walk(random, (30,)), np.arange(30), samples=30, seed=7)
        moved += (found.temperature, found.top_p) != PLAIN
        best = min(found.tried, key=lambda one: one.crps or 9)
        lucky += (best.temperature, best.top_p) != PLAIN
    assert lucky >= 5 and moved <= 1


def test_a_span_without_forecasts_leaves_the_bands() -> None:
    for actual in (np.empty((0, HORIZON)), np.full((3, HORIZON), np.nan)):
        found = calibrate(fixed(np.zeros((len(actual), 9, HORIZON))), actual, np.arange(len(actual)), samples=9, seed=0)
        assert found.factors == () and "can be scored" in found.note
        assert json.loads(found.dump())["version"] == 1
    paths = walk(np.random.default_rng(0), (9,))
    quantiles = apply(found, paths, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantiles, np.quantile(paths, [0.1, 0.5, 0.9], axis=0, method="weibull"))


def test_cells_that_are_not_finite_are_left_out() -> None:
    random = np.random.default_rng(2)
    actual, paths = walk(random, (60,)), walk(random, (60, 30))
    whole = calibrate(fixed(paths[:50]), actual[:50], np.arange(50), samples=30, seed=0)
    actual[50:55], paths[55:] = np.nan, np.nan
    found = calibrate(fixed(paths), actual, np.arange(60), samples=30, seed=0)
    assert (found.cells, found.factors) == (50, whole.factors)


def test_too_few_dates_for_a_level_are_told() -> None:
    random = np.random.default_rng(2)
    found = calibrate(fixed(walk(random, (25, 30))), walk(random, (25,)), np.arange(25), samples=30, seed=0)
    assert found.reached == 0.95 and found.factors[-1] >= found.factors[-2]


# --- applied ---


def of(rows: dict[float, list[float]], **more: Any) -> Calibration:
    return Calibration(levels=tuple(rows), factors=tuple(map(tuple, rows.values())), dates=30, **more)


def test_quantiles_are_interpolated_between_levels_and_in_order() -> None:
    paths = np.log(100 + walk(np.random.default_rng(1), (500,)))
    calibration = of({0.4: [1, 3, 1, 1], 0.8: [2, 0.5, 1, 2]})
    levels = np.round(np.arange(0.02, 1, 0.02), 2)
    found = apply(calibration, paths, levels)
    assert (np.diff(found, axis=0) >= 0).all()  # also at step 2, whose wider band would end inside the narrower one
    sampled = np.quantile(paths, levels, axis=0, method="weibull")
    np.testing.assert_allclose(found[24], sampled[24])
    far, as_drawn = found - found[24], sampled - sampled[24]
    np.testing.assert_allclose(far[[14, 34]], as_drawn[[14, 34]] * [1, 3, 1, 1])
    np.testing.assert_allclose(far[[20, 30]], as_drawn[[20, 30]] * [1, 3, 1, 1])  # within the innermost band
    np.testing.assert_allclose(far[[4, 44, 0, 48], 0], as_drawn[[4, 44, 0, 48], 0] * 2)  # and beyond the outermost
    assert (abs(far[44]) >= abs(far[34])).all() and abs(far[44, 1] - far[34, 1]) < 1e-12
    share = (found[39, 0] - found[34, 0]) / (found[44, 0] - found[34, 0])
    np.testing.assert_allclose(share, (sampled[39, 0] - sampled[34, 0]) / (sampled[44, 0] - sampled[34, 0]))
    # of which others are asked for changes nothing
    np.testing.assert_array_equal(apply(calibration, paths, [0.9, 0.1]), found[[44, 4]])


def test_later_steps_have_the_last_factor_and_bands_without_width_get_some() -> None:
    paths = walk(np.random.default_rng(1), (99,))
    found, sampled = (
        apply(of({0.8: [1, 2]}), paths, [0.1, 0.5, 0.9]),
        np.quantile(paths, [0.1, 0.5, 0.9], axis=0, method="weibull"),
    )
    far = (found - found[1])[[0, 2]] / (sampled - sampled[1])[[0, 2]]
    np.testing.assert_allclose(far, [[1, 2, 2, 2]] * 2)
    same = apply(of({0.8: [1]}), np.zeros((9, 1)), [0.1, 0.5, 0.9])
    assert same[0] < same[1] == 0 < same[2] < 1e-6
    # most paths share a token: the band is a part of a normal one, not nothing that any factor leaves at nothing
    shared = apply(of({0.2: [1]}), np.array([[-1.0], *[[0.0]] * 8, [1.0]]), [0.4, 0.6])
    assert -0.1 < shared[0] < -0.01 < 0.01 < shared[1] < 0.1


def test_paths_move_to_their_calibrated_quantiles_and_keep_their_order() -> None:
    paths = walk(np.random.default_rng(1), (3, 99))
    moved = apply_to_paths(of({0.5: [2, 2, 2, 2]}), paths)
    np.testing.assert_array_equal(moved.argsort(axis=1), paths.argsort(axis=1))
    np.testing.assert_allclose(moved.std(axis=1), 2 * paths.std(axis=1), rtol=0.05)


# --- saved ---

GOOD = of({0.5: [1.5], 0.9: [2.0]}, run="run-1", temperature=1.2, half_life=12.5, sampled={"80": 0.6})
DAMAGED: dict[str, Any] = {
    "not JSON": lambda wire: "{",
    "a list": lambda wire: "[]",
    "a newer version": lambda wire: wire | {"version": 2},
    "text for numbers": lambda wire: wire | {"factors": [["a"]]},
    "a level short": lambda wire: wire | {"levels": [0.5]},
    "levels in disorder": lambda wire: wire | {"levels": [0.9, 0.5]},
    "ragged": lambda wire: wire | {"factors": [[1.0], [1.0, 2.0]]},
    "negative": lambda wire: wire | {"factors": [[1.0], [-1.0]]},
    "no sampling": lambda wire: wire | {"topP": 0.0},
}


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(GOOD.dump())
    read = read_calibration(file)
    assert read.dump() == GOOD.dump() and read.model_dump() == GOOD.model_dump()
    assert json.loads(file.read_text())["halfLife"] == 12.5
    newer = Calibration.load(json.dumps(GOOD.wire | {"later": 1}))
    assert newer.factors == GOOD.factors


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_named_with_the_way_out(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    content = DAMAGED[damage](GOOD.wire)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputMissing, match=r"calibration\.json: damaged .*--raw"):
        read_calibration(file)


# --- used ---


@pytest.mark.parametrize(
    ("quantile", "name"),
    [(0.05, "close_q05"), (0.5, "close_q50"), (0.975, "close_q97_5"), (0.001, "close_q00_1"), (0, "close_q00")],
)
def test_a_column_names_its_quantile_in_percent(quantile: float, name: str) -> None:
    assert column("close", quantile) == name
    assert column("close", 1) == "close_q100" and column("close", 0.07) == "close_q07"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root with a published model, calibrated at other settings than the defaults."""
    root = tmp_path_factory.mktemp("outputs")
    paths = RunPaths(root, ModelRef(name="m"), "run-1")
    save_weights(scratch_net(TOKENIZER, "tiny", 1), paths.run_dir / "tokenizer" / "best")
    save_weights(scratch_net(PREDICTOR, "tiny", 1), paths.run_dir / "predictor" / "best")
    parts = {part: {"path": f"runs/run-1/{part}/best"} for part in ("tokenizer", "predictor")}
    window = {"lookback": 30, "horizon": 3, "maxContext": 64}
    durable.write_json(
        paths.current, {"run": "run-1", "timeframe": "1d", "window": window, "data": {"digest": ""}, **parts}
    )
    calibration = of({0.8: [3.0, 2.0, 1.0], 0.9: [3.0, 2.0, 1.0]}, temperature=1.3, top_p=1.0, reached=0.8)
    paths.calibration.write_text(calibration.dump())
    return root


@pytest.fixture
def daily(tmp_path: Path) -> Path:
    close = 50 + np.random.default_rng(0).normal(0, 0.5, 100).cumsum()
    frame = pd.DataFrame({"date": pd.bdate_range(end="2024-05-16", periods=100).strftime("%Y-%m-%d")})
    frame = frame.assign(open=close + 0.1, high=close + 1, low=close - 1, close=close, volume=1000)
    frame.to_csv(tmp_path / "daily.csv", index=False)
    return tmp_path / "daily.csv"


QUANTILES = ["--samples", "39", "--quantiles", "0.05,0.1,0.5,0.9,0.95"]


def test_the_command_writes_calibrated_quantiles_and_draws_the_fan(
    root: Path, daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def written(*options: str) -> tuple[pd.DataFrame, str]:
        files = ["--input", str(daily), "--output", str(tmp_path / "out.csv")]
        assert main(["--model", "m", "--root", str(root), *files, *options]) == 0
        return pd.read_csv(tmp_path / "out.csv"), capsys.readouterr().err

    plot = tmp_path / "fan.png"
    found, notes = written(*QUANTILES, "--plot", str(plot))
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert list(found)[:3] == ["timestamps", "open_q05", "open_q10"] and list(found)[-1] == "amount_q95"
    assert "as sampled" not in notes and "30 dates of the calibration suffice for bands of up to 80 %" in notes

    # as sampled at the calibrated temperature; then each step has its factor
    chosen = ["--temperature", "1.3", "--top-p", "1"]
    paths, notes = written("--samples", "39", "--paths", *chosen)
    assert "quantiles" not in notes
    logs = np.log(paths["close"].to_numpy().reshape(39, 3))
    low, middle, high = np.quantile(logs, [0.1, 0.5, 0.9], axis=0, method="weibull")
    np.testing.assert_allclose(np.log(found["close_q50"]), middle, atol=1e-6)
    np.testing.assert_allclose(np.log(found["close_q90"]), middle + (high - middle) * [3, 2, 1], rtol=1e-4)
    np.testing.assert_allclose(np.log(found["close_q10"]), middle + (low - middle) * [3, 2, 1], rtol=1e-4)
    for name in ("q05", "q10", "q50", "q90", "q95"):
        prices = found[[f"{field}_{name}" for field in ("open", "high", "low", "close")]]
        assert (prices.max(axis=1) == prices[f"high_{name}"]).all()
        assert (prices.min(axis=1) == prices[f"low_{name}"]).all()
    sampled, _ = written(*QUANTILES, "--raw", *chosen)
    np.testing.assert_allclose(found["volume_q90"], sampled["volume_q90"].clip(lower=0), atol=1)
    np.testing.assert_allclose(sampled["close_q90"], paths.groupby("timestamps")["close"].quantile(0.9), rtol=1e-6)

    # raw is without the calibrated sampling, and another sampling without the factors
    assert not np.allclose(written(*QUANTILES, "--raw")[0]["close_q50"], sampled["close_q50"])
    other, notes = written(*QUANTILES, "--temperature", "0.9")
    assert "holds for temperature 1.3 and top-p 1" in notes
    raw, notes = written(*QUANTILES, "--temperature", "0.9", "--top-p", "1", "--raw")
    assert "quantiles" not in notes
    np.testing.assert_allclose(other["close_q90"], raw["close_q90"], rtol=1e-6)


def test_averages_and_the_likeliest_path_know_no_calibration(root: Path, daily: Path, tmp_path: Path) -> None:
    model = load("m", root=root, device="cpu")
    bars = pd.read_csv(daily)
    for options in ({"top_k": 1}, {"samples": 3}):
        expected = model.forecast(bars, **options)
        model.calibration = None
        np.testing.assert_array_equal(model.forecast(bars, **options)["close"], expected["close"])


def test_the_forecaster_calibrates_as_the_command_does(root: Path, daily: Path, tmp_path: Path) -> None:
    model = load("m", root=root, device="cpu")
    bars = pd.read_csv(daily)
    found = model.forecast(bars, samples=39, quantiles=[0.9, 0.05])
    files = ["--input", str(daily), "--output", str(tmp_path / "out.parquet")]
    assert main(["--model", "m", "--root", str(root), *files, *QUANTILES]) == 0
    written = pd.read_parquet(tmp_path / "out.parquet")
    for name in ("close_q05", "close_q90", "high_q90", "volume_q05"):
        np.testing.assert_allclose(found[name], written[name], rtol=1e-5)
    notes = model.forecast(bars, samples=9, horizon=5, quantiles=[0.9, 0.05]).attrs["notes"]
    assert any("calibrated for 3 steps" in note for note in notes)
    assert any("9 samples are too few for the outer quantiles: set 19 or more" in note for note in notes)
    spread = model.forecast(
        bars.assign(**{name: bars[name] - 60 for name in ("open", "high", "low", "close")}),
        samples=9,
        quantiles=[0.1, 0.9],
    )
    assert any("1 symbol(s) are as sampled: prices of 0 or less" in note for note in spread.attrs["notes"])

    directory = root / "models/default/m"
    for place in (directory, directory / "runs/run-1"):
        assert load(place, device="cpu").run == directory / "runs/run-1"
    parts = [directory / "runs/run-1" / part / "best" for part in ("tokenizer", "predictor")]
    uncalibrated = load(*parts, device="cpu").forecast(bars, samples=9, horizon=3, quantiles=[0.5])
    assert any("have no calibration.json" in note for note in uncalibrated.attrs["notes"])


def test_a_damaged_calibration_stops_only_what_needs_it(
    root: Path, daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "models/default/m/runs/run-1/calibration.json"
    whole = file.read_text()
    base = ["--model", "m", "--root", str(root), "--input", str(daily), "--output", str(tmp_path / "out.csv")]
    try:
        file.write_text(whole[:40])
        assert main([*base, *QUANTILES]) == 66
        assert f"error: {file}: damaged" in capsys.readouterr().err
        assert main([*base, *QUANTILES, "--raw"]) == 0 and main(base) == 0
    finally:
        file.write_text(whole)
