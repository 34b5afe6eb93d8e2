"""The data command as it is started: output, exit codes, one line for a failure."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos_trainer import launch, rank, transfer
from kronos_trainer.config import RunConfig
from kronos_trainer.data import main
from kronos_trainer.stopping import StopSignal


def write_bars(path: Path, rows: int = 200) -> Path:
    price = 10.0 + np.sin(np.arange(rows))
    table = {"date": pd.date_range("2020-01-01", periods=rows), "open": price, "high": price + 1, "low": price - 1}
    pd.DataFrame(table | {"close": price, "volume": 1.0}).to_csv(path, index=False)
    return path


def test_check_reports_what_a_training_would_find(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bars(tmp_path / "A.csv")
    write_bars(tmp_path / "B.csv", 30)
    options = ["--timeframe", "1d", "--lookback", "10", "--horizon", "2"]
    assert main(["check", str(tmp_path), *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report.pop("digest")) == 64
    series = report.pop("series")
    assert [one["symbol"] for one in series] == ["A", "B"]
    assert series[1] == {
        "symbol": "B", "rows": 30, "first": "2020-01-01", "last": "2020-01-30", "step": "1d", "regular": 1.0,
        "zone": None, "hours": "every day", "holidays": 0, "missing": 0, "gapCount": 0, "gaps": [],
        "low": pytest.approx(8.0, abs=0.1), "high": pytest.approx(12.0, abs=0.1), "zeroVolume": 0.0, "still": 0,
    }  # fmt: skip
    assert report == {
        "path": str(tmp_path),
        "timeframe": "1d",
        "findings": [],
        "refused": [],
        "symbols": 2,
        "bars": 230,
        "first": "2020-01-01",
        "last": "2020-07-18",
        "splits": {
            "train": {"start": "2020-01-01", "end": "2020-06-09", "windows": 148 + 18},
            "validation": {"start": "2020-06-09", "end": "2020-06-29", "windows": 8},
            "test": {"start": "2020-06-29", "end": "2020-07-18", "windows": 19},
        },
        "perSymbol": {"A": 200, "B": 30},
        "notes": [
            "no amount column, amount is volume x mean of the prices (0 without volume): A.csv, B.csv",
            "left out of validation, having fewer than 13 bars for it: B (1 of 2 symbols)",
            "left out of test, having fewer than 12 bars for it: B (1 of 2 symbols)",
        ],
    }
    assert main(["check", str(tmp_path), *options]) == 0
    text = capsys.readouterr().out
    assert (
        "  symbols   2: A, B\n  bars      230 of 1d, 30 to 200 a symbol\n  span      2020-01-01 to 2020-07-18\n" in text
    )
    assert "\nFOUND  nothing odd\n" in text
    assert "  train              166  2020-01-01 up to 2020-06-09\n" in text
    assert text.index("symbols") < text.index("FOUND") < text.index("WINDOWS")


def test_check_tells_what_is_there_beside_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ABCD":
        write_bars(tmp_path / f"{name}.csv")
    (tmp_path / "B.csv").write_text("date,open,high,low\n2020-01-01,1,2,3\n")
    lines = (tmp_path / "C.csv").read_text().splitlines()
    lines[5:7] = ["2020-01-05,,,,,", "2020-01-06,1,n,1,1,1"]
    (tmp_path / "C.csv").write_text("\n".join(lines))
    for row in (20, 30):
        lines[row] = lines[19]
    (tmp_path / "D.csv").write_text("\n".join([*lines[:5], *lines[7:]]))
    options = ["check", str(tmp_path), "--timeframe", "1d", "--lookback", "10", "--horizon", "2"]
    assert main([*options, "--json"]) == 65
    out = capsys.readouterr()
    report = json.loads(out.out)
    assert report["perSymbol"] == {"A": 200, "C": 198}
    assert report["splits"]["train"]["windows"] > 0
    assert [Path(text.partition(": ")[0]).name for text in report["refused"]] == ["B.csv", "C.csv", "D.csv"]
    assert "no column for close" in report["refused"][0]
    assert report["refused"][1].startswith(f"{tmp_path}/C.csv: line 6, column open: is empty, and 1 more such rows (")
    assert "was already given in" in report["refused"][2]
    assert out.err.startswith(f"error: {tmp_path}: refused for 3 reasons; the first: {tmp_path}/B.csv: no column")
    assert main(options) == 65
    text = " ".join(capsys.readouterr().out.split())
    assert text.index("WINDOWS") < text.index("REFUSED") < text.index("line 6, column open")


def test_check_refuses_what_a_training_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bars(tmp_path / "A.csv", 1)
    assert main(["check", str(tmp_path), "--timeframe", "1d", "--lookback", "10", "--horizon", "2"]) == 65
    out = capsys.readouterr()
    assert "no symbol has a window in the train split: it takes 13 bars" in out.err
    assert "a split has too few bars" in out.out


def test_check_draws_the_bars(tmp_path: Path) -> None:
    bars = tmp_path / "bars"
    bars.mkdir()
    write_bars(bars / "A.csv")
    frame = pd.read_csv(bars / "A.csv")
    frame.loc[100:, ["open", "high", "low", "close"]] /= 4
    frame.loc[50, ["high", "close"]] *= 1000
    frame.drop(range(20, 40)).to_csv(bars / "\N{CJK UNIFIED IDEOGRAPH-4E2D}.csv", index=False)
    for name in (bars, bars / "A.csv"):
        options = ["--timeframe", "1d", "--lookback", "10", "--horizon", "2", "--plot", str(tmp_path / "plot.png")]
        assert main(["check", str(name), *options]) == 0
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("module", ["data check", "rank", "launch", "transfer"])
def test_a_mistaken_argument_is_one_line_that_names_the_way_to_help(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {
        "data check": lambda: main(["check", "x", "--timeframe", "7d"]),
        "rank": lambda: rank.main([], StopSignal()),
        "launch": lambda: launch.main(["--run", "x", "--nproc", "many"], StopSignal()),
        "transfer": lambda: transfer.main(["fetch"]),
    }
    with pytest.raises(SystemExit) as ended:
        commands[module]()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (64, "", 1)
    assert err.startswith("error: ") and err.endswith(" --help\n")
    assert "7d" not in err or "'1w', '1mo'" in err


def test_check_reads_the_bars_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars = write_bars(tmp_path / "A.csv")
    run = RunConfig.model_validate(
        {
            "model": {"name": "m"}, "run": "r", "stage": "tokenizer", "stageHashes": {}, "publish": False,
            "timeframe": "1w", "data": {"source": {"path": "unused"}}, "window": {"lookback": 3, "horizon": 1},
            "tokenizer": {}, "predictor": {}, "training": {}, "evaluation": {}, "checkpoint": {},
            "bars": str(bars), "output": "out",
        }
    )  # fmt: skip
    # 28 weeks: an eighth of them is too little for a window of 5
    (tmp_path / "run.json").write_text(run.dump())
    assert main(["check", "--run", str(tmp_path / "run.json")]) == 65
    assert "no symbol has a window in the validation split: it takes 5 bars" in capsys.readouterr().err
    split = {"fractions": {"train": 0.5, "validation": 0.3, "test": 0.2}}
    changed = json.loads(run.dump()) | {"data": {"source": {"path": "unused"}, "split": split}}
    run = RunConfig.model_validate(changed)
    (tmp_path / "run.json").write_text(run.dump())
    assert main(["check", "--run", str(tmp_path / "run.json")]) == 65
    assert "no whole optimizer step in an epoch: the train split has 10 windows" in capsys.readouterr().err
    changed |= {stage: changed[stage] | {"batchSize": 2, "microBatchSize": 2} for stage in ("tokenizer", "predictor")}
    (tmp_path / "run.json").write_text(RunConfig.model_validate(changed).dump())
    assert main(["check", "--run", str(tmp_path / "run.json"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["first"] == "2019-12-30"  # weeks begin on Monday
    assert "resampled to 1w: A" in report["notes"]


def test_failures_are_one_line_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars = str(write_bars(tmp_path / "A.csv", 30))
    for arguments, code, message in (
        (["check", str(tmp_path / "absent"), "--timeframe", "1d"], 66, "no such file or directory of bars"),
        (["check", bars, "--timeframe", "4h"], 65, "coarser than timeframe 4h"),
        (["check", bars, "--timeframe", "1d"], 65, "no symbol has a window in the train split"),
        (["check", bars], 64, "--timeframe"),
        (["check", bars, "--timeframe", "1d", "--lookback", "1"], 64, "lookback"),
        (["check", bars, "--timeframe", "1d", "--time-zone", "Mars/Phobos"], 64, "time_zone: "),
        (["check", "--run", str(tmp_path / "absent.json")], 64, "no such run config"),
        (["import", bars, "--out", str(tmp_path / "out")], 65, "not a data set of upstream's finetune scripts"),
    ):
        assert main(arguments) == code
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert len(error.splitlines()) == 1


def test_the_module_is_a_command(tmp_path: Path) -> None:
    index = pd.date_range("2020-01-01", periods=3, name="datetime")
    bars = pd.DataFrame({name: [1.0, 2.0, 3.0] for name in ("open", "high", "low", "close", "vol", "amt")}, index=index)
    (tmp_path / "train_data.pkl").write_bytes(pickle.dumps({"A": bars}))
    command = [sys.executable, "-m", "kronos_trainer.data", "import", "train_data.pkl", "--out", "bars"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "bars: 1 symbols, 3 rows\n"
    assert [file.name for file in (tmp_path / "bars").iterdir()] == ["A.parquet"]
