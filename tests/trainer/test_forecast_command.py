"""`python -m kronos_trainer.forecast`, as a user starts it and as he gets it wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kronos_trainer.config import ModelRef, RunPaths
from kronos_trainer.data.reading.readers import read_frame
from kronos_trainer.errors import DataError
from kronos_trainer.forecast.__main__ import main
from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.future_file import FutureFile
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import load_net, save_weights, scratch_net
from kronos_trainer.storage import durable

COLUMNS = ["timestamps", "open", "high", "low", "close", "volume", "amount"]
WINDOW = {"lookback": 30, "horizon": 5, "maxContext": 64}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("weights")
    save_weights(scratch_net(TOKENIZER, "tiny", 1), root / "tokenizer")
    save_weights(scratch_net(PREDICTOR, "tiny", 1), root / "predictor")
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
    model = Forecaster(load_net(TOKENIZER, Path(weights[1])), load_net(PREDICTOR, Path(weights[3])))
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
    tokenizer, predictor = load_net(TOKENIZER, best / "tokenizer"), load_net(PREDICTOR, best / "predictor")
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
    assert "published in default and quant: set --namespace" in capsys.readouterr().err


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
        (
            "2024-01-01",
            "2024-01-02T00:00:00+02:00",
            None,
            "its timestamps have a time zone, but those of {history} have none",
        ),
        ("2024-01-01", "2024-01-02T00:00:00+02:00", "Europe/Athens", "2024-01-02 00:00"),
        (
            "2024-01-01T05:00Z",
            "2024-01-01 09:00",
            None,
            "its timestamps have no time zone, but those of {history} have one",
        ),
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
        return FutureFile(times).times(1, after=last, history=bars, zone=frame.attrs["zone"], time_zone=zone)

    if expected is None or "stamps" in expected:
        with pytest.raises(DataError) as error:
            read()
        assert (expected or "does not come after").format(history=bars) in str(error.value)
    else:
        assert read()[0] == pd.Timestamp(expected)


def test_bad_rows_of_the_history_are_left_out_on_request(
    weights: list[str], daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = [*weights, "--horizon", "2", "--top-k", "1"]
    plain, dropped = tmp_path / "plain.csv", tmp_path / "dropped.csv"
    assert main([*base, "--input", str(daily), "--output", str(plain)]) == 0
    # a price of 0 is odd and said; a volume below 0 is no bar
    for row, code, said in (
        ("0,0,0,0,0", 0, "note: some prices are 0: zero "),
        ("1,1,1,1,-1", 65, "-1 is negative"),
    ):
        (tmp_path / "zero.csv").write_text(f"{daily.read_text()}2024-05-17,{row}\n")
        arguments = ["--input", str(tmp_path / "zero.csv"), "--output", str(dropped)]
        assert main([*base, *arguments]) == code
        assert said in capsys.readouterr().err
        assert main([*base, *arguments, "--bad-rows", "drop"]) == 0
        assert dropped.read_text() == plain.read_text()


@pytest.mark.parametrize("disguise", ["itself", "spelling", "symlink", "hard link"])
def test_what_is_read_is_never_overwritten(
    disguise: str, weights: list[str], daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    future = tmp_path / "future.csv"
    future.write_text("timestamps\n2024-05-17\n2024-05-20\n")
    before = {file: file.read_bytes() for file in (daily, future)}
    for option, read in (("--output", daily), ("--output", future), ("--plot", daily)):
        other = tmp_path / f"{read.stem}{'.png' if option == '--plot' else '.txt'}"
        same = {"itself": read, "spelling": tmp_path / "sub" / ".." / read.name}.get(disguise, other)
        if disguise == "symlink":
            same.symlink_to(read)
        elif disguise == "hard link":
            same.hardlink_to(read)
        base = [*weights, "--input", str(daily), "--future", str(future), "--output", str(tmp_path / "out.csv")]
        assert main([*base, option, str(same)]) == 64
        assert re.search("would be overwritten|must end with .png", capsys.readouterr().err)
        assert {file: file.read_bytes() for file in before} == before
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["out.csv", "out", "out.csv.gz", "out.tsv", "out.parquet", "OUT.PQ"])
def test_a_file_holds_what_its_name_says(name: str, weights: list[str], daily: Path, tmp_path: Path) -> None:
    output = tmp_path / name
    assert main([*weights, "--input", str(daily), "--horizon", "3", "--top-k", "1", "--output", str(output)]) == 0
    if name.lower().endswith((".parquet", ".pq")):
        frame = pd.read_parquet(output)
    else:
        frame = pd.read_csv(
            output,
            sep="\t" if name.endswith("tsv") else ",",
            compression="gzip" if name.endswith("gz") else None,
            parse_dates=["timestamps"],
        )
    assert list(frame) == COLUMNS and len(frame) == 3
    assert frame["timestamps"].dt.strftime("%m-%d").tolist() == ["05-17", "05-20", "05-21"]


@pytest.fixture
def folder(daily: Path, tmp_path: Path) -> Path:
    """Seven symbols: one has a bad row, one is too short, one is no CSV, and two share a file with the bad one."""
    folder = tmp_path / "bars"
    folder.mkdir()
    frame = pd.read_csv(daily)
    frame.to_csv(folder / "GOOD.csv", index=False)
    frame[40:].to_csv(folder / "SHORTER.csv", index=False)
    frame[:1].to_csv(folder / "ONE.csv", index=False)
    (folder / "BROKEN.csv").write_text("no,bars\n1,2\n")
    bad = frame.astype({"High": object})
    bad.loc[50, "High"] = "x"
    named = [bad.assign(symbol="BAD"), frame.assign(symbol="BTC/USDT"), frame.assign(symbol="茅台")]
    pd.concat(named).sort_values("Date").to_csv(folder / "several.csv", index=False)
    return folder


def test_every_symbol_is_forecast_and_a_bad_one_does_not_lose_the_others(
    published: Path, daily: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--model", "model-x", "--namespace", "quant", "--root", str(published), "--input"]
    one, many, parts = tmp_path / "one.csv", tmp_path / "many.csv", tmp_path / "parts"
    assert main([*base, str(daily), "--output", str(one)]) == 0
    assert capsys.readouterr().out.startswith(f"{one}: 5 bars, ")
    assert main([*base, str(folder), "--output", str(many)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{many}: 5 bars of each of 4 symbols, 2024-05-17")
    assert "warning: 3 of 7 symbols were not forecast" in said.err
    assert "warning: BAD: " in said.err and "column High: 'x' is not a number" in said.err
    assert "warning: ONE: " in said.err and "warning: BROKEN.csv: " in said.err
    long = pd.read_csv(many)
    assert list(long) == ["symbol", *COLUMNS] and long["symbol"].unique().tolist() == sorted(long["symbol"].unique())
    expected = pd.read_csv(one)
    for name in ("GOOD", "BTC/USDT", "茅台"):
        its = long[long["symbol"] == name].drop(columns="symbol").reset_index(drop=True)
        pd.testing.assert_frame_equal(its, expected, rtol=1e-3)

    assert main([*base, str(folder), "--output", str(parts), "--plot", str(parts), "--strict"]) == 65
    names = ["BTC_USDT", "GOOD", "SHORTER", "茅台"]
    assert sorted(file.name for file in parts.iterdir()) == sorted(
        f"{n}.{end}" for n in names for end in ("csv", "png")
    )
    pd.testing.assert_frame_equal(pd.read_csv(parts / "GOOD.csv"), expected, rtol=1e-3)
    assert "error: 3 of 7 symbols were not forecast (--strict)" in capsys.readouterr().err

    assert main([*base, str(folder), "--symbol", "BTC/USDT", "--output", str(many)]) == 65  # BROKEN.csv is read too
    assert main([*base, str(folder / "several.csv"), "--output", str(many), "--bad-rows", "drop"]) == 0
    assert pd.read_csv(many)["symbol"].unique().tolist() == ["BAD", "BTC/USDT", "茅台"]


def test_where_no_symbol_can_be_forecast_it_is_an_error(
    weights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bars").mkdir()
    for name in "AB":
        (tmp_path / f"bars/{name}.csv").write_text("date,open,high,low,close\n2024-01-02,1,1,1,1\n")
    assert (
        main([*weights, "--input", str(tmp_path / "bars"), "--horizon", "3", "--output", str(tmp_path / "o.csv")]) == 65
    )
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith("error: none of 2 symbols can be forecast; the first, A: 1 bar(s) are too few")


def test_paths_quantiles_and_averages_are_of_the_same_draw(weights: list[str], daily: Path, tmp_path: Path) -> None:
    def written(*options: str) -> pd.DataFrame:
        base = [*weights, "--input", str(daily), "--horizon", "3", "--output", str(tmp_path / "out.csv")]
        assert main([*base, *options, "--samples", "4"]) == 0
        return pd.read_csv(tmp_path / "out.csv")

    paths, quantiles = written("--paths"), written("--quantiles", "0.5,0.25")
    assert list(paths) == ["timestamps", "path", *COLUMNS[1:]] and len(paths) == 12
    assert list(quantiles) == ["timestamps", *(f"{field}_{name}" for field in COLUMNS[1:] for name in ("q25", "q50"))]
    by_day = paths.groupby("timestamps")["close"]
    np.testing.assert_allclose(written()["close"], by_day.mean(), rtol=1e-6)
    np.testing.assert_allclose(quantiles["close_q25"], by_day.quantile(0.25), rtol=1e-6)


def test_consistent_bars_are_said_and_raw_ones_are_the_models_own(
    weights: list[str], daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = [*weights, "--input", str(daily), "--horizon", "20", "--output", str(tmp_path / "out.csv")]
    assert main([*base, "--raw"]) == 0
    raw = pd.read_csv(tmp_path / "out.csv")
    assert "raised" not in capsys.readouterr().err
    assert main(base) == 0
    mended = pd.read_csv(tmp_path / "out.csv")
    low = (raw["high"] < raw[["open", "low", "close"]].max(axis=1)).sum()
    assert f"of 20 sampled bars high of {low} raised" in capsys.readouterr().err and low > 0
    assert (mended["high"] >= mended[["open", "low", "close"]].max(axis=1)).all()
    pd.testing.assert_frame_equal(mended[["open", "close"]], raw[["open", "close"]])
    assert main([*base, "--top-k", "1"]) == 0
    assert "raised" not in capsys.readouterr().err


def test_a_calendar_gives_the_days_and_so_does_that_of_the_model(
    weights: list[str], daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.csv"
    base = [*weights, "--input", str(daily), "--horizon", "8", "--output", str(output)]
    assert main([*base, "--calendar", "XNYS"]) == 0
    days = pd.read_csv(output)["timestamps"].tolist()
    assert days[-3:] == ["2024-05-24", "2024-05-28", "2024-05-29"]  # Memorial Day is the 27th
    assert "holidays" not in capsys.readouterr().err
    assert main([*base, "--calendar", "24/5"]) == 0
    assert pd.read_csv(output)["timestamps"].iloc[-2] == "2024-05-27"


def test_columns_are_those_that_the_model_was_trained_on_or_those_that_are_named(
    published: Path, daily: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "odd.csv"
    frame = pd.read_csv(daily).rename(columns={"Open": "P1", "Close": "P2"})
    frame[["P1", "P2", *frame.columns.drop(["P1", "P2"])]].to_csv(odd, index=False)
    root = tmp_path / "outputs"
    shutil.copytree(published, root, symlinks=True)
    base = ["--model", "model-x", "--root", str(root), "--top-k", "1", "--output"]
    assert main([*base, str(tmp_path / "plain.csv"), "--input", str(daily)]) == 0
    assert main([*base, str(tmp_path / "x.csv"), "--input", str(odd)]) == 65
    assert "no column for open, close" in capsys.readouterr().err
    assert main([*base, str(tmp_path / "x.csv"), "--input", str(odd), "--columns", "open=P1,shut=P2"]) == 64
    assert main([*base, str(tmp_path / "named.csv"), "--input", str(odd), "--columns", "open=P1,close=P2"]) == 0
    current = next(root.rglob("current.json"))
    document = json.loads(current.read_text())
    document["data"]["columns"] = {"open": "P1", "close": "P2"}
    current.write_text(json.dumps(document))
    assert main([*base, str(tmp_path / "model.csv"), "--input", str(odd), "--symbol", "odd"]) == 0
    texts = [(tmp_path / f"{name}.csv").read_text() for name in ("plain", "named", "model")]
    assert texts[0] == texts[1] == texts[2]


def test_the_future_file_says_how_many_and_may_have_the_time_of_day_apart(
    published: Path, weights: list[str], daily: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    model = ["--model", "model-x", "--namespace", "quant", "--root", str(published), "--output", str(output)]
    (tmp_path / "future.csv").write_text("<DATE>\t<TIME>\n2024.05.17\t00:00:00\n2024.05.20\t00:00:00\n\n")
    assert main([*model, "--input", str(daily), "--future", str(tmp_path / "future.csv")]) == 0
    assert pd.read_csv(output)["timestamps"].tolist() == ["2024-05-17", "2024-05-20"]
    hourly = pd.DataFrame({"date": pd.date_range("2024-05-13", periods=60, freq="h")})
    hourly.assign(open=1.5, high=2.25, low=1.0, close=1.75).to_csv(tmp_path / "hourly.csv", index=False)
    (tmp_path / "hours.csv").write_text("<DATE>,<TIME>\n2024.05.17,9:30\n2024.05.17,10:30\n")
    base = [*weights, "--input", str(tmp_path / "hourly.csv"), "--output", str(output)]
    assert main([*base, "--future", str(tmp_path / "hours.csv")]) == 0
    assert pd.read_csv(output)["timestamps"].tolist() == ["2024-05-17 09:30:00", "2024-05-17 10:30:00"]
    frame = pd.DataFrame({"date": pd.to_datetime(["2024-05-18", "2024-05-19"])})
    frame.to_parquet(tmp_path / "future.parquet")
    assert main([*base, "--future", str(tmp_path / "future.parquet")]) == 0
    assert pd.read_csv(output)["timestamps"].tolist() == ["2024-05-18", "2024-05-19"]


@pytest.mark.parametrize(
    ("price", "volume", "prices", "volumes"),
    [
        (lambda x: (50 * x).round(2), lambda x: (1e6 * x).round(), r"\d\d\.\d\d", r"\d+"),
        (lambda x: (1.1 * x).round(5), lambda x: (1e3 * x).round(1), r"\d\.\d{5}", r"\d+\.\d"),
        (lambda x: (7000 * x).round(), lambda x: 0 * x, r"\d{4}", "0"),
        (lambda x: 1.2e-8 * x.round(3), lambda x: (2e12 * x).round(), r"0\.0{7}\d{5}", r"\d{12,13}"),
        (lambda x: (2e-8 * x).round(9), lambda x: 3e-5 * x.round(2), r"0\.0{7}\d{3}", r"0\.0{4}\d{3}"),
    ],
    ids=["stock", "currency", "yen without volume", "tiny", "tiny of few digits"],
)
def test_numbers_are_written_with_the_decimals_of_the_bars(
    price: Any, volume: Any, prices: str, volumes: str, weights: list[str], daily: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(daily)
    walk = frame[["Open", "High", "Low", "Close"]] / frame["Close"].mean()
    bars = price(walk).assign(Date=frame["Date"], Volume=volume(frame["Volume"] / frame["Volume"].mean()))
    bars[["Date", "Open", "High", "Low", "Close", "Volume"]].to_csv(tmp_path / "bars.csv", index=False)
    base = [*weights, "--input", str(tmp_path / "bars.csv"), "--horizon", "5", "--output", str(tmp_path / "out.csv")]
    assert main(base) == 0
    written = pd.read_csv(tmp_path / "out.csv", dtype=str)
    for name in COLUMNS[1:5]:
        assert written[name].str.fullmatch(prices).all(), written[name].tolist()
    assert written["volume"].str.fullmatch(volumes).all() or (written["volume"].astype(float) == 0).any()
    assert not written.stack().str.contains("e", case=False).any()


FAULTS = {
    "horizon beyond the context": (["--horizon", "70", "--max-context", "64"], 64, "horizon 70 exceeds"),
    "horizon of no bars": (["--horizon", "0"], 64, "at least 1; found '0'"),
    "lookback of one bar": (["--lookback", "1"], 64, "at least 2; found '1'"),
    "quantiles of one path": (["--quantiles", "0.5"], 64, "set more samples"),
    "quantiles beyond 1": (["--quantiles", "5,95", "--samples", "9"], 64, "5 is not between 0 and 1"),
    "no quantiles": (["--quantiles", "median"], 64, "write numbers between 0 and 1"),
    "paths and quantiles": (["--quantiles", "0.5", "--paths", "--samples", "9"], 64, "use one; quantiles"),
    "too many samples": (["--samples", "1000000"], 64, "at most 100000"),
    "unknown calendar": (["--calendar", "XNYX"], 64, "did you mean XNYS"),
    "two sources of times": (["--calendar", "XNYS", "--future", "{tmp}/mixed.csv"], 64, "use one"),
    "another format": (["--output", "{tmp}/out.xlsx"], 64, "written as CSV (.csv, .csv.gz, .tsv) or Parquet"),
    "plot over the output": (["--output", "{tmp}/x.png", "--plot", "{tmp}/x.png"], 64, "x.png"),
    "lookback beyond the input": (["--lookback", "101"], 64, "lookback 101 exceeds the 100 bar(s)"),
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
    "future with a zone": (["--future", "{tmp}/zoned.csv"], 65, "daily.csv have none; use one form"),
    "future with a bad stamp": (["--future", "{tmp}/bad.csv"], 65, "line 3, column timestamps: 'soon' is not a valid"),
    "unknown symbol": (["--symbol", "NOPE"], 65, "NOPE"),
    "bad bar": (["--input", "{tmp}/bar.csv"], 65, "bar.csv: line 3, column High"),
    "unwritable output": (["--output", "{tmp}/short.csv/out.csv"], 74, "cannot write"),
}


def ended(arguments: list[str]) -> object:
    """The exit code, also where argparse ends the process."""
    try:
        return main(arguments)
    except SystemExit as exit:
        return exit.code


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
    assert ended([*weights, "--input", str(daily), "--horizon", "3", "--output", str(output), *filled]) == code
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
    assert "not a valid model name" in capsys.readouterr().err
