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
from layout_writers import DAILY, INTRADAY, bars

from kronos_trainer import transfer
from kronos_trainer.config import RunConfig
from kronos_trainer.data.__main__ import main
from kronos_trainer.data.reading.readers import read_frame
from kronos_trainer.forecast import __main__ as forecast
from kronos_trainer.launch import launcher as launch
from kronos_trainer.stopping import StopSignal
from kronos_trainer.training import rank


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
            "skipped in validation, with fewer than 13 bars in it: B (1 of 2 symbols)",
            "skipped in test, with fewer than 12 bars in it: B (1 of 2 symbols)",
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
    lines[5:7] = ["2020-01-05,1,n,1,1,1", "2020-01-06,1,n,1,1,1"]
    (tmp_path / "C.csv").write_text("\n".join(lines))
    for row in (20, 30):
        lines[row] = lines[19].removesuffix("1.0") + f"{row}"
    (tmp_path / "D.csv").write_text("\n".join([*lines[:5], *lines[7:]]))
    options = ["check", str(tmp_path), "--timeframe", "1d", "--lookback", "10", "--horizon", "2"]
    assert main([*options, "--json"]) == 65
    out = capsys.readouterr()
    report = json.loads(out.out)
    assert report["perSymbol"] == {"A": 200, "C": 198}
    assert report["splits"]["train"]["windows"] > 0
    assert [Path(text.partition(": ")[0]).name for text in report["refused"]] == ["B.csv", "C.csv", "D.csv"]
    assert "no column for close" in report["refused"][0]
    assert report["refused"][1].startswith(f"{tmp_path}/C.csv: line 6, column high: 'n' is not a number, and 1 more (")
    assert "was already given in" in report["refused"][2]
    assert out.err.startswith(f"error: {tmp_path}: refused for 3 reasons; the first: {tmp_path}/B.csv: no column")
    assert main(options) == 65
    text = " ".join(capsys.readouterr().out.split())
    assert text.index("WINDOWS") < text.index("REFUSED") < text.index("line 6, column high")


def test_check_refuses_what_a_training_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bars(tmp_path / "A.csv", 1)
    assert main(["check", str(tmp_path), "--timeframe", "1d", "--lookback", "10", "--horizon", "2"]) == 65
    out = capsys.readouterr()
    assert "no symbol has a window in the train split: it needs 13 bars" in out.err
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


@pytest.mark.parametrize("module", ["data check", "forecast", "rank", "launch", "transfer"])
def test_a_mistaken_argument_is_one_line_that_names_the_way_to_help(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {
        "data check": lambda: main(["check", "x", "--timeframe", "7d"]),
        "forecast": lambda: forecast.main(["--horizon", "0"]),
        "rank": lambda: rank.main([], StopSignal()),
        "launch": lambda: launch.main(["--run", "x", "--nproc", "many"], StopSignal()),
        "transfer": lambda: transfer.main(["fetch"]),
    }
    with pytest.raises(SystemExit) as ended:
        commands[module]()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (64, "", 1)
    assert err.startswith("error: ") and err.endswith(" --help\n")
    assert "7d" not in err or "1w, 1mo" in err


def test_check_reads_the_bars_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daily = write_bars(tmp_path / "A.csv")
    run = RunConfig.model_validate(
        {
            "model": {"name": "m"}, "run": "r", "stage": "tokenizer", "stageHashes": {}, "publish": False,
            "timeframe": "1w", "data": {"source": {"path": "unused"}}, "window": {"lookback": 3, "horizon": 1},
            "tokenizer": {}, "predictor": {}, "training": {}, "evaluation": {}, "checkpoint": {},
            "bars": str(daily), "output": "out",
        }
    )  # fmt: skip
    # 28 weeks: an eighth of them is too little for a window of 5
    (tmp_path / "run.json").write_text(run.dump())
    assert main(["check", "--run", str(tmp_path / "run.json")]) == 65
    assert "no symbol has a window in the validation split: it needs 5 bars" in capsys.readouterr().err
    split = {"fractions": {"train": 0.5, "validation": 0.3, "test": 0.2}}
    changed = json.loads(run.dump()) | {"data": {"source": {"path": "unused"}, "split": split}}
    run = RunConfig.model_validate(changed)
    (tmp_path / "run.json").write_text(run.dump())
    assert main(["check", "--run", str(tmp_path / "run.json")]) == 65
    assert "an epoch has no complete optimizer step: the train split has 10 windows" in capsys.readouterr().err
    changed |= {stage: changed[stage] | {"batchSize": 2, "microBatchSize": 2} for stage in ("tokenizer", "predictor")}
    (tmp_path / "run.json").write_text(RunConfig.model_validate(changed).dump())
    assert main(["check", "--run", str(tmp_path / "run.json"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["first"] == "2019-12-30"  # weeks begin on Monday
    assert "resampled to 1w: A" in report["notes"]


def test_failures_are_one_line_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daily = str(write_bars(tmp_path / "A.csv", 30))
    for arguments, code, message in (
        (["check", str(tmp_path / "absent"), "--timeframe", "1d"], 66, "no such file or directory of bars"),
        (["check", daily, "--timeframe", "4h"], 65, "coarser than timeframe 4h"),
        (["check", daily, "--timeframe", "1d"], 65, "no symbol has a window in the train split"),
        (["check", daily], 64, "--timeframe"),
        (["check", daily, "--timeframe", "1d", "--lookback", "1"], 64, "lookback"),
        (["check", daily, "--timeframe", "1d", "--time-zone", "Mars/Phobos"], 64, "time_zone: "),
        (["check", "--run", str(tmp_path / "absent.json")], 64, "no such run config"),
        (["check", daily, "--timeframe", "1d", "--columns", "close=Price"], 65, "data.columns: no column 'Price'"),
        (["check", daily, "--timeframe", "1d", "--columns", "price=close"], 64, "the fields are timestamps, open"),
        (["check", daily, "--timeframe", "1d", "--columns", "open=date,close=date"], 64, "open and close are both"),
        (["import", daily, "--out", str(tmp_path / "out"), "--layout", "upstream"], 65, "not a data set of upstream's"),
        (
            ["import", daily, "--out", str(tmp_path / "out"), "--layout", "tushare"],
            65,
            "does not look like tushare, but",
        ),
        (
            ["import", daily, "--out", str(tmp_path / "out"), "--layout", "tushar"],
            64,
            "unknown layout 'tushar'; the layouts are table,",
        ),
        (["import", daily, "--out", str(tmp_path), "--format", "csv"], 64, "A.csv is one of the files to import"),
        (["import", str(tmp_path / "absent"), "--out", str(tmp_path / "out")], 66, "no such file or directory of bars"),
    ):
        assert main(arguments) == code
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert len(error.splitlines()) == 1


def test_the_module_is_a_command(tmp_path: Path) -> None:
    index = pd.date_range("2020-01-01", periods=3, name="datetime")
    table = pd.DataFrame(
        {name: [1.0, 2.0, 3.0] for name in ("open", "high", "low", "close", "vol", "amt")}, index=index
    )
    (tmp_path / "train_data.pkl").write_bytes(pickle.dumps({"A": table}))
    command = [sys.executable, "-m", "kronos_trainer.data", "import", "train_data.pkl", "--out", "bars"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "train_data.pkl: a table with a header; pickle; columns timestamps=timestamps, open=open, high=high, low=low, "
        "close=close, volume=vol, amount=amt, symbol=symbol\nbars: 1 symbols, 3 rows\n"
    )
    assert [file.name for file in (tmp_path / "bars").iterdir()] == ["A.parquet"]


def test_import_writes_plain_bars_and_says_what_it_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = bars(40)
    (tmp_path / "in").mkdir()
    DAILY["akshare-gbk"](written, tmp_path / "in/000001")
    INTRADAY["bitstamp"](bars(40, freq="h"), tmp_path / "in/btc")
    DAILY["yfinance-download"](bars(40, seed=2), tmp_path / "in/x")
    for kind in ("parquet", "csv"):
        out = tmp_path / kind
        assert main(["import", str(tmp_path / "in"), "--out", str(out), "--format", kind]) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0] == (
            "000001.csv: akshare (East Money); GB18030 text separated by ','; read as GB18030; "
            "columns timestamps=日期, open=开盘, high=最高, low=最低, close=收盘, volume=成交量, "
            "amount=成交额, symbol=股票代码"
        )
        assert said[1].startswith(
            "btc.csv: CryptoDataDownload; UTF-8 text separated by ','; lines above the header skipped"
        )
        assert said[-1] == f"{out}: 3 symbols, 120 rows"
        assert sorted(file.name for file in out.iterdir()) == [
            f"{name}.{kind}" for name in ("000001", "AAPL", "BTC-USD")
        ]
        frame, notes = read_frame(out / f"000001.{kind}")
        assert notes == []
        assert frame.drop(columns="timestamps").equals(written.drop(columns="timestamps"))
        assert frame["timestamps"].tolist() == written["timestamps"].tolist()
        if kind == "parquet":
            assert set(pd.read_parquet(out / "BTC-USD.parquet")["symbol"]) == {"BTC/USD"}
        # an import of what an import has written changes nothing
        assert main(["import", str(out), "--out", str(tmp_path / f"again-{kind}"), "--format", kind]) == 0
        for file in out.iterdir():
            assert (tmp_path / f"again-{kind}" / file.name).read_bytes() == file.read_bytes()
        capsys.readouterr()


def test_import_keeps_dates_as_dates_and_instants_as_instants(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=40, freq="B")
    hours = pd.date_range("2024-03-08", periods=60, freq="h", tz="America/New_York")
    for name, stamps in (("days", days.tz_localize("Asia/Shanghai")), ("hours", hours)):
        bars(len(stamps)).assign(timestamps=stamps.astype(str)).to_csv(tmp_path / f"{name}.csv", index=False)
        for kind in ("parquet", "csv"):
            assert (
                main(["import", str(tmp_path / f"{name}.csv"), "--out", str(tmp_path / "out"), "--format", kind]) == 0
            )
            for zone in (None, "America/New_York") if name == "hours" else (None,):
                before, _ = read_frame(tmp_path / f"{name}.csv", time_zone=zone)
                after, _ = read_frame(tmp_path / "out" / f"{name}.{kind}", time_zone=zone)
                assert after["timestamps"].tolist() == before["timestamps"].tolist()
