"""`kronos backtest`: from the files of an evaluation to a page, which says what a sceptic would; and in a run."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import report_examples as examples
from browser import browser
from test_report import EVIL, Read, assert_self_contained

from kronos_trainer.backtest.__main__ import main
from kronos_trainer.backtest.document import Backtest
from kronos_trainer.config import Data, Timeframe
from kronos_trainer.data.bars import read_bars
from kronos_trainer.evaluation.signals import Signals

Output = pytest.CaptureFixture[str]
ROWS, HORIZON = 400, 15


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def write_bars(file: Path, symbols: int, seed: int = 3) -> Path:
    random = np.random.default_rng(seed)
    stamps = pd.bdate_range("2012-01-02", periods=ROWS)
    frames = []
    for number in range(symbols):
        close = 100 * np.exp(np.cumsum(random.normal(0.0003, 0.015, ROWS)))
        opened = np.append(100.0, close[:-1]) * np.exp(random.normal(0, 0.004, ROWS))
        frames.append(
            pd.DataFrame(
                {
                    "timestamps": stamps, "symbol": EVIL if number == 1 else f"S{number}", "open": opened,
                    "high": np.maximum(opened, close), "low": np.minimum(opened, close), "close": close,
                    "volume": 1.0, "amount": close,
                }
            )
        )  # fmt: skip
    # One is delisted.
    frames[-1] = frames[-1].iloc[: ROWS - (100 if symbols > 2 else 0)]
    pd.concat(frames).to_csv(file, index=False)
    return file


def evaluated(
    root: Path, symbols: int, *, skill: float = 0.0, contaminated: str = "", run: str = "run-7d21c0", **fields: Any
) -> examples.Example:
    """A judged run whose signals know so much of what came."""
    file = root / f"bars{symbols}.csv"
    if not file.exists():
        write_bars(file, symbols)
    span = {"start": "2012-01-24", "end": "2013-03-02"}
    read = {"run-55aa01": "5e11", "run-7d21c0": examples.HASHES["evaluation"]}
    example = examples.judged(
        root,
        symbols=[f"S{number}" for number in range(symbols)],
        contaminated=contaminated,
        readings=[
            {"run": name, "hash": hash, "span": span, "at": "2026-03-01T09:14:40Z"} for name, hash in read.items()
        ],
    )
    data = {"source": {"path": "bars"}}
    wire = example.run.model_dump(mode="json", by_alias=True) | {"bars": str(file), "data": data, "run": run} | fields
    example.run = type(example.run).model_validate(wire)
    files = example.paths.stage(example.run.stage)
    example.write(files.config, example.run.dump())
    bars = read_bars(file, Timeframe.D1, Data.model_validate(data))
    closes = np.full((ROWS, len(bars.symbols)), np.nan)
    for symbol in range(len(bars.symbols)):
        own = slice(bars.offsets[symbol], bars.offsets[symbol + 1])
        closes[: own.stop - own.start, symbol] = bars.values[own, 3]
    dates = np.arange(60, ROWS - HORIZON, HORIZON)
    came = 100 * np.log(closes[dates + HORIZON] / closes[dates])
    noise = np.random.default_rng(1).normal(0, 6, came.shape)
    longest = int(np.argmax(np.diff(bars.offsets)))
    times = bars.ordered_times(longest)[dates]
    Signals(
        run=example.run.run, hash=examples.HASHES["evaluation"], digest=bars.digest, horizon=HORIZON,
        symbols=bars.symbols, times=times, expected=skill * came + (1 - skill) * noise + 0 * came,
    ).save(files.signals)  # fmt: skip
    return example


def call(root: Path, *arguments: str, model: str = "model-b-1d") -> int:
    return main(["--root", str(root), *arguments, "--", model])


def test_a_backtest_leaves_its_results_and_says_what_a_sceptic_would(tmp_path: Path, capsys: Output) -> None:
    example = evaluated(tmp_path, 5, skill=1.0)
    assert call(tmp_path) == 0
    said = capsys.readouterr().out
    directory = tmp_path / "backtest_results" / "model-b-1d" / example.run.run
    assert said.splitlines()[-1] == str(directory / "backtest.html") and "deflated Sharpe ratio" in said
    assert all(len(line) <= 96 for line in said.splitlines()[:-1])
    files = {
        name: (directory / name).read_text() for name in ("trades.csv", "equity.csv", "summary.json", "backtest.html")
    }
    assert {path.name for path in directory.iterdir()} == set(files)
    found = Backtest.load(files["summary.json"])
    own, held = found.performance["strategy"], found.performance["buyAndHold"]
    assert found.strategy == "top-k" and found.top_k == 1 and found.symbols == 5 and found.delisted == 1
    assert own.total_return is not None and held.total_return is not None and own.total_return > 5 * held.total_return
    assert found.verdict == "Unlikely to be luck" and found.deflated is not None and found.deflated > 0.95
    # The files agree with each other.
    trades, equity = (list(csv.DictReader(files[name].splitlines())) for name in ("trades.csv", "equity.csv"))
    assert len(trades) == own.trades and len(equity) == found.bars
    assert float(equity[-1]["equity"]) / float(equity[0]["equity"]) - 1 == pytest.approx(own.total_return)
    cash = sum(
        (1 if one["side"] == "sell" else -1) * float(one["value"]) - float(one["commission"]) - float(one["slippage"])
        for one in trades
    )
    assert float(equity[-1]["equity"]) - found.capital == pytest.approx(cash, rel=1e-6)
    assert own.max_drawdown == pytest.approx(min(float(one["drawdown"]) for one in equity))
    whole = np.prod([1 + (one.value or 0) for one in found.months])
    assert whole == pytest.approx(1 + own.total_return)
    # The page.
    read = Read(files["backtest.html"])
    assert_self_contained(files["backtest.html"])
    assert [one["id"] for tag, one in read.elements if tag == "section"] == [
        "curve", "measures", "luck", "caveats", "months", "rules",
    ]  # fmt: skip
    for words in (
        "One path",
        "filled at the open",
        "bars today",
        "had a bar but no forecast",
        "sold at the last close",
    ):
        assert any(words.lower() in caveat.lower() for caveat in found.caveats), words
    # The same again is the same, byte for byte, and no new trial.
    assert call(tmp_path) == 0
    assert files == {name: (directory / name).read_text() for name in files}


def test_what_was_tried_is_counted(tmp_path: Path, capsys: Output) -> None:
    evaluated(tmp_path, 5)
    summary = tmp_path / "backtest_results/model-b-1d/run-7d21c0/summary.json"
    hurdles = []
    # It is the second reading of its test span, and nobody has traded on the first.
    for arguments, trials in (
        (["--top-k", "2"], 2), (["--top-k", "2", "--cost-bps", "0"], 2), (["--strategy", "long-flat"], 3),
        (["--strategy", "long-short"], 4),
    ):  # fmt: skip
        assert call(tmp_path, *arguments) == 0
        found = Backtest.load(summary.read_text())
        assert found.trials == trials and len(found.tried) == trials - 1
        hurdles.append(found.hurdle)
    assert found.cost_bps == 10 and all(hurdle is not None and hurdle > 0 for hurdle in hurdles)
    assert any("read 4 times" in caveat for caveat in found.caveats)
    assert any("borrow" in caveat for caveat in found.caveats)
    (tmp_path / "backtest_results/model-b-1d/trials.json").write_text("{")
    capsys.readouterr()
    assert call(tmp_path) == 66 and "it counts what was tried: restore it" in capsys.readouterr().err


def test_one_symbol_and_weights_that_have_seen_it(tmp_path: Path, capsys: Output) -> None:
    evaluated(tmp_path, 1, skill=1.0, contaminated="the initial weights have seen bars until 2024-07-01")
    assert call(tmp_path, "--slippage-bps", "0") == 0
    found = Backtest.load((tmp_path / "backtest_results/model-b-1d/run-7d21c0/summary.json").read_text())
    assert found.strategy == "long-flat" and list(found.performance) == ["strategy", "buyAndHold"]
    assert found.verdict == "Not out of sample" and found.caveats[0].startswith(
        "Not out of sample: the initial weights"
    )
    assert found.slippage_bps == 0 and found.cost_bps == 10
    exposure = found.performance["strategy"].exposure
    assert exposure is not None and 0.2 < exposure < 0.8


def test_a_strategy_that_loses_is_called_that(tmp_path: Path, capsys: Output) -> None:
    evaluated(tmp_path, 5, skill=-1.0)
    assert call(tmp_path, "--cost-bps", "100") == 0
    found = Backtest.load((tmp_path / "backtest_results/model-b-1d/run-7d21c0/summary.json").read_text())
    assert found.verdict == "Lost money" and any("have cost money" in caveat for caveat in found.caveats)


def test_the_settings_of_the_run_are_the_defaults(tmp_path: Path, capsys: Output) -> None:
    own = {"samples": 100, "backtest": {"strategy": "top-k", "topK": 3, "costBps": 2.5}}
    evaluated(tmp_path, 5, evaluation=own)
    summary = tmp_path / "backtest_results/model-b-1d/run-7d21c0/summary.json"
    assert call(tmp_path) == 0
    found = Backtest.load(summary.read_text())
    assert (found.strategy, found.top_k, found.drop_out, found.cost_bps) == ("top-k", 3, 1, 2.5)
    assert call(tmp_path, "--strategy", "long-flat") == 0  # for which there is no topK
    found = Backtest.load(summary.read_text())
    assert (found.strategy, found.top_k, found.cost_bps) == ("long-flat", 0, 2.5)


def test_mistakes_say_what_to_do(tmp_path: Path, capsys: Output) -> None:
    example = evaluated(tmp_path, 5)
    files = example.paths.stage(example.run.stage)
    for arguments, code, words in (
        (["--top-k", "5"], 64, "topK 5: must be less than the number of symbols, 5"),
        (["--top-k", "2", "--drop-out", "3"], 64, "dropOut must not exceed topK; found 3 and 2"),
        (["--cost-bps", "-1"], 64, "costBps: .*greater than or equal to 0"),
        (["--bars", str(tmp_path / "absent.csv")], 66, "absent.csv"),
        (["--run", "run-x"], 66, "has no run run-x here"),
    ):
        assert call(tmp_path, *arguments) == code
        assert re.search(words, capsys.readouterr().err)
    assert main(["--root", str(tmp_path)]) == 64 and "name a model" in capsys.readouterr().err
    # Other bars than those that were forecast, then the right ones elsewhere.
    bars = Path(example.run.bars)
    moved = bars.rename(tmp_path / "elsewhere" / bars.name) if (tmp_path / "elsewhere").mkdir() is None else bars
    write_bars(bars, 5, seed=4)
    assert call(tmp_path) == 66 and "give the old ones with --bars" in capsys.readouterr().err
    assert call(tmp_path, "--bars", str(moved)) == 0
    files.signals.write_bytes(b"PK\x03\x04")
    assert call(tmp_path) == 66 and "signals.npz: damaged" in capsys.readouterr().err
    files.signals.unlink()
    assert call(tmp_path) == 66 and "by an older release, which kept no signals: remove " in capsys.readouterr().err
    files.result.unlink()
    assert call(tmp_path) == 66 and "has no finished evaluation" in capsys.readouterr().err


def test_the_page_opens_without_a_network_at_every_size(tmp_path: Path, capsys: Output) -> None:
    evaluated(tmp_path, 5)
    assert call(tmp_path) == 0
    file = tmp_path / "backtest_results/model-b-1d/run-7d21c0/backtest.html"
    papers = set()
    with browser() as page:
        for width, dark in ((1280, False), (900, True), (390, False)):
            page.open(file, width=width, dark=dark)
            assert page.ask("document.documentElement.scrollWidth") == width, "it scrolls sideways"
            papers.add(page.ask("getComputedStyle(document.body).backgroundColor"))
            shown = page.ask("[...document.querySelectorAll('svg')].filter(one => one.checkVisibility()).length")
            assert shown == 1
        assert page.messages == [] and set(page.requests) == {file.as_uri()}
    assert len(papers) == 2


def test_no_value_of_a_file_can_act_in_the_page(tmp_path: Path, capsys: Output) -> None:
    evaluated(tmp_path, 5, contaminated=EVIL)
    assert call(tmp_path) == 0
    page = (tmp_path / "backtest_results/model-b-1d/run-7d21c0/backtest.html").read_text()
    assert "<script" not in page and "&lt;script" in page
    assert_self_contained(page)
    wire = json.loads((tmp_path / "backtest_results/model-b-1d/trials.json").read_text())
    wire["trials"][0] |= {"run": EVIL, "strategy": EVIL}
    (tmp_path / "backtest_results/model-b-1d/trials.json").write_text(json.dumps(wire))
    assert call(tmp_path) == 0
    assert "<script" not in (tmp_path / "backtest_results/model-b-1d/run-7d21c0/backtest.html").read_text()
