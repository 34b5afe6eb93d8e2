"""`python -m kronos_trainer.forecast`, as a user starts it and as he gets it wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos_trainer import durable
from kronos_trainer.config import ModelRef, RunPaths
from kronos_trainer.errors import DataError
from kronos_trainer.forecast.__main__ import main
from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.future_file import read_future
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.weights import (
    load_predictor,
    load_tokenizer,
    save_weights,
    scratch_predictor,
    scratch_tokenizer,
)
from kronos_trainer.readers import read_frame

COLUMNS = ["timestamps", "open", "high", "low", "close", "volume", "amount"]
WINDOW = {"lookback": 30, "horizon": 5, "maxContext": 64}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("weights")
    save_weights(scratch_tokenizer("tiny", 1), root / "tokenizer")
    save_weights(scratch_predictor("tiny", 1), root / "predictor")
    return ["--tokenizer", str(root / "tokenizer"), "--predictor", str(root / "predictor")]


@pytest.fixture(scope="module")
def published(weights: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root with one published model, whose weights are the ones of `weights`."""
    root = tmp_path_factory.mktemp("outputs")
    paths = RunPaths(root, ModelRef(namespace="quant", name="model-x"), "run-1")
    parts = {}
    for stage, source in (("tokenizer", weights[1]), ("predictor", weights[3])):
        paths.run_dir.mkdir(parents=True, exist_ok=True)
        (paths.run_dir / stage).symlink_to(source)
        parts[stage] = {"path": f"runs/run-1/{stage}", "digest": "", "hash": ""}
    data = {"digest": "", "clip": 3.0, "timeZone": None}
    durable.write_json(paths.current, {"run": "run-1", "timeframe": "1d", "window": WINDOW, "data": data, **parts})
    return root


@pytest.fixture
def daily(tmp_path: Path) -> Path:
    """100 daily bars that end on Thursday 2024-05-16."""
    random = np.random.default_rng(0)
    close = 50 + random.normal(0, 0.5, 100).cumsum()
    volume = random.integers(100_000, 1_000_000, 100)
    volume[-3] *= 50  # beyond any clip
    frame = pd.DataFrame(
        {
            "Date": pd.bdate_range(end="2024-05-16", periods=100).strftime("%Y-%m-%d"),
            "Open": close + 0.1,
            "High": close + 1,
            "Low": close - 1,
            "Close": close,
            "Volume": volume,
        }
    )
    frame.to_csv(tmp_path / "daily.csv", index=False)
    return tmp_path / "daily.csv"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "kronos_trainer.forecast", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_end_to_end_from_two_directories(weights: list[str], daily: Path, tmp_path: Path) -> None:
    output, plot = tmp_path / "new" / "out.csv", tmp_path / "out.png"
    ended = run(*weights, "--input", daily, "--horizon", 4, "--top-k", 1, "--output", output, "--plot", plot)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{output}: 4 bars, 2024-05-17 00:00:00 to 2024-05-22 00:00:00\n"
    assert "holidays are unknown" in ended.stderr
    assert "amount is volume" in ended.stderr
    frame = pd.read_csv(output, parse_dates=["timestamps"])
    assert list(frame) == COLUMNS
    assert frame["timestamps"].dt.strftime("%m-%d").tolist() == ["05-17", "05-20", "05-21", "05-22"]
    # what the process wrote is what the class says
    model = Forecaster(load_tokenizer(Path(weights[1])), load_predictor(Path(weights[3])))
    bars, _ = read_frame(daily)
    expected = model.forecast(bars, pd.DatetimeIndex(frame["timestamps"]), Sampling(top_k=1))
    np.testing.assert_allclose(frame[COLUMNS[1:]], expected[COLUMNS[1:]], rtol=1e-4)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["daily.csv", "out.csv", "out.png"]


def test_a_published_model_brings_its_own_window_and_clip(published: Path, daily: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    arguments = ["--model", "model-x", "--namespace", "quant", "--root", str(published), "--top-k", "1"]
    assert main([*arguments, "--input", str(daily), "--output", str(output)]) == 0
    frame = pd.read_csv(output, parse_dates=["timestamps"])
    assert len(frame) == WINDOW["horizon"]
    best = RunPaths(published, ModelRef(namespace="quant", name="model-x"), "run-1").run_dir
    tokenizer, predictor = load_tokenizer(best / "tokenizer"), load_predictor(best / "predictor")
    model = Forecaster(tokenizer, predictor, max_context=WINDOW["maxContext"], clip=3.0)
    history = read_frame(daily)[0].tail(WINDOW["lookback"])
    expected = model.forecast(history, pd.DatetimeIndex(frame["timestamps"]), Sampling(top_k=1))
    np.testing.assert_allclose(frame[COLUMNS[1:]], expected[COLUMNS[1:]], rtol=1e-4)


def test_without_a_namespace_it_is_the_only_one_that_has_the_model(
    published: Path, daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "outputs"
    shutil.copytree(published, root, symlinks=True)
    arguments = ["--model", "model-x", "--root", str(root), "--input", str(daily), "--output", str(tmp_path / "o.csv")]
    assert main(arguments) == 0
    shutil.copytree(root / "models/quant", root / "models/default", symlinks=True)
    assert main(arguments) == 64
    assert "published in default and quant: give --namespace" in capsys.readouterr().err


def test_finer_bars_are_resampled_to_the_model_s_timeframe(
    published: Path, daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half_days = pd.read_csv(daily)
    half_days = half_days.loc[half_days.index.repeat(2)].reset_index(drop=True)
    half_days["Date"] += [" 00:00", " 12:00"] * 100
    half_days["Volume"] /= 2
    half_days.to_csv(tmp_path / "half.csv", index=False)
    for name in ("daily", "half"):
        arguments = ["--model", "model-x", "--namespace", "quant", "--root", str(published), "--top-k", "1"]
        arguments += ["--input", str(tmp_path / f"{name}.csv"), "--output", str(tmp_path / f"{name}-out.csv")]
        assert main(arguments) == 0
    assert "resampled from 200 bars to 100 of the model's timeframe 1d" in capsys.readouterr().err
    outputs = [pd.read_csv(tmp_path / f"{name}-out.csv") for name in ("daily", "half")]
    pd.testing.assert_frame_equal(outputs[1], outputs[0])


def test_options_reach_the_forecast(weights: list[str], daily: Path, tmp_path: Path) -> None:
    def closes(*options: object) -> list[float]:
        output = tmp_path / "out.csv"
        base = [*weights, "--input", str(daily), "--horizon", "6", "--output", str(output), "--device", "cpu"]
        assert main([*base, *map(str, options)]) == 0
        return list(pd.read_csv(output)["close"])

    plain = closes()
    assert closes("--seed", 0) == plain
    changes = [
        ("--seed", 1),
        ("--lookback", 60),
        ("--max-context", 20),
        ("--samples", 3),
        ("--temperature", 3),
        ("--top-k", 1),
    ]
    others = [closes(*change) for change in [*changes, ("--top-p", 0.1)]]
    assert all(other != plain for other in others)
    # the default history is as much as the context holds
    assert closes("--max-context", 40) == closes("--max-context", 40, "--lookback", 40)


def test_future_file_gives_the_times(weights: list[str], daily: Path, tmp_path: Path) -> None:
    future = tmp_path / "future.csv"
    future.write_text("timestamps\n2024/5/17 0:00\n2024/5/21 0:00\n2024/5/22 0:00\n")
    output = tmp_path / "out.csv"
    base = [*weights, "--input", str(daily), "--horizon", "2", "--output", str(output), "--future", str(future)]
    assert main(base) == 0
    assert pd.read_csv(output)["timestamps"].tolist() == ["2024-05-17", "2024-05-21"]


@pytest.mark.parametrize(
    ("history", "future", "zone", "expected"),
    [
        ("2024-01-01", "2024-01-02T00:00:00+02:00", None, "its stamps carry a time zone, and those of {history} none"),
        ("2024-01-01", "2024-01-02T00:00:00+02:00", "Europe/Athens", "2024-01-02 00:00"),
        ("2024-01-01T05:00Z", "2024-01-01 09:00", None, "its stamps carry no time zone, and those of {history} do"),
        ("2024-01-01T05:00Z", "2024-01-01 09:00", "Asia/Tokyo", None),  # the history is at 14:00 there
        ("2024-01-01T05:00Z", "2024-01-01 15:00", "Asia/Tokyo", "2024-01-01 15:00"),
        ("2024-01-01T05:00Z", "2024-01-01T09:00+02:00", None, "2024-01-01 07:00"),
        ("2024-01-01T00:00Z", "2024-01-02", None, "2024-01-02"),
        ("2024-01-01T00:00+08:00", "2024-01-02T00:00+08:00", None, "2024-01-02"),
        ("2024-01-01T00:00+08:00", "2024-01-02", None, "2024-01-02"),
    ],
)
def test_the_future_is_read_by_the_clock_of_the_history(
    tmp_path: Path, history: str, future: str, zone: str | None, expected: str | None
) -> None:
    bars, times = tmp_path / "bars.csv", tmp_path / "future.csv"
    bars.write_text(f"timestamps,open,high,low,close\n{history},1,2,1,1\n")
    times.write_text(f"timestamps\n{future}\n")
    frame, _ = read_frame(bars, time_zone=zone)
    last = frame["timestamps"].iloc[-1]

    def read() -> pd.DatetimeIndex:
        return read_future(times, 1, after=last, history=bars, zone=frame.attrs["zone"], time_zone=zone)

    if expected is None or "stamps" in expected:
        with pytest.raises(DataError) as error:
            read()
        assert (expected or "does not come after").format(history=bars) in str(error.value)
    else:
        assert read()[0] == pd.Timestamp(expected)


def test_bad_rows_of_the_history_are_left_out_on_request(
    weights: list[str], daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = daily.read_text().splitlines(keepends=True)
    (tmp_path / "zero.csv").write_text("".join([*lines, "2024-05-17,0,0,0,0,0\n"]))
    base = [*weights, "--horizon", "2", "--top-k", "1"]
    plain, dropped = tmp_path / "plain.csv", tmp_path / "dropped.csv"
    arguments = ["--input", str(tmp_path / "zero.csv"), "--output", str(dropped)]
    assert main([*base, *arguments]) == 0
    assert "note: a price is 0 in between: zero " in capsys.readouterr().err
    assert main([*base, *arguments, "--bad-rows", "drop"]) == 0
    assert main([*base, "--input", str(daily), "--output", str(plain)]) == 0
    assert dropped.read_text() == plain.read_text()


FAULTS = {
    "horizon beyond the context": (["--horizon", "70", "--max-context", "64"], 64, "horizon 70 exceeds"),
    "horizon of no bars": (["--horizon", "0"], 64, "'0' is not a number of bars"),
    "lookback beyond the input": (["--lookback", "101"], 64, "--lookback 101 exceeds the 100 row"),
    "temperature 0": (["--temperature", "0"], 64, "for no randomness use top-k 1"),
    "top-p above 1": (["--top-p", "1.5"], 64, "top-p 1.5"),
    "unknown option": (["--tempurature", "1"], 64, "--tempurature"),
    "no such device": (["--device", "cuda:99"], 78, "--device cuda:99"),
    "device of another kind": (["--device", "tpu"], 64, "choose auto, cpu, cuda"),
    "plot of another kind": (["--plot", "out.svg"], 64, "must end with .png"),
    "both ways to name weights": (["--model", "x"], 64, "either --model"),
    "absent input": (["--input", "nowhere.csv"], 66, "nowhere.csv"),
    "absent weights": (["--predictor", "nowhere"], 66, "nowhere: no such directory"),
    "swapped weights": (["--predictor", "{tokenizer}"], 64, "not a Kronos predictor"),
    "absent future": (["--future", "nowhere.csv"], 66, "nowhere.csv: no such file of future"),
    "short future": (["--future", "{tmp}/short.csv"], 65, "1 timestamp(s) for a horizon of 3"),
    "future without the column": (["--future", "{tmp}/named.csv"], 65, "no column timestamps; the header has 'when'"),
    "future before the end": (
        ["--future", "{tmp}/early.csv"],
        65,
        "line 2, column timestamps: 2024-05-16 00:00:00 does not",
    ),
    "future out of order": (
        ["--future", "{tmp}/mixed.csv"],
        65,
        "line 4, column timestamps: 2024-05-20 00:00:00 does not",
    ),
    "future with a zone": (["--future", "{tmp}/zoned.csv"], 65, "daily.csv none; write both in one way"),
    "future with a bad stamp": (["--future", "{tmp}/bad.csv"], 65, "line 3, column timestamps: 'soon' is no valid"),
    "unknown symbol": (["--symbol", "NOPE"], 65, "NOPE"),
    "bad bar": (["--input", "{tmp}/bar.csv"], 65, "bar.csv: line 3, column High"),
    "unwritable output": (["--output", "{tmp}/short.csv/out.csv"], 74, "cannot write"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mistake_is_one_line_that_names_it(
    fault: str, weights: list[str], daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short.csv").write_text("timestamps\n2024-05-17\n")
    (tmp_path / "named.csv").write_text("when\n2024-05-17\n")
    (tmp_path / "zoned.csv").write_text("timestamps\n" + "".join(f"2024-05-{d}T00:00+02:00\n" for d in (17, 20, 21)))
    (tmp_path / "early.csv").write_text("timestamps\n2024-05-16\n2024-05-17\n2024-05-20\n")
    (tmp_path / "mixed.csv").write_text("timestamps\n2024-05-17\n2024-05-21\n2024-05-20\n")
    (tmp_path / "bad.csv").write_text("timestamps\n2024-05-17\nsoon\n2024-05-20\n")
    lines = daily.read_text().splitlines()
    lines[2] = lines[2].replace(lines[2].split(",")[2], "x")
    (tmp_path / "bar.csv").write_text("\n".join(lines))
    options, code, message = FAULTS[fault]
    filled = [option.format(tmp=tmp_path, tokenizer=weights[1]) for option in options]
    output = tmp_path / "out.csv"
    # argparse takes the last of a repeated option
    assert main([*weights, "--input", str(daily), "--horizon", "3", "--output", str(output), *filled]) == code
    said = capsys.readouterr().err.splitlines()
    errors = [line for line in said if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert all(line.startswith(("error: ", "note: ")) for line in said)
    assert not output.exists()


def test_an_unpublished_model_names_the_published_ones(
    published: Path, daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--root", str(published), "--input", str(daily), "--output", str(tmp_path / "out.csv")]
    assert main([*base, "--namespace", "quant", "--model", "model-y"]) == 66
    assert "model model-y is not published" in (said := capsys.readouterr().err) and "there: model-x" in said
    assert main([*base, "--model", "Model_X"]) == 64
    assert "not a model's name" in capsys.readouterr().err
