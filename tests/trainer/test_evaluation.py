"""The evaluation stage with real nets: planted truths, what is held, and what a verdict may not say."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels.tsa.stattools import diebold_mariano_test

from kronos_trainer import load
from kronos_trainer.backtest.__main__ import main as backtest
from kronos_trainer.config import Decision, RunConfig, StageResult, Verdict
from kronos_trainer.errors import InputMissing, Stopped
from kronos_trainer.evaluation.document import Evaluation
from kronos_trainer.evaluation.incumbent import refusal
from kronos_trainer.storage import lineage
from kronos_trainer.storage.pointers import promote
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.progress import Progress
from kronos_trainer.training.train import train_stage

MakeRun = Callable[..., RunConfig]

STAGES = ("tokenizer", "predictor", "evaluation")
ROWS = 1200


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def write(path: Path, *, weekdays: bool) -> Path:
    """Daily bars whose returns follow the weekday, or a random walk."""
    generator = np.random.default_rng(11)
    stamps = pd.bdate_range("2015-01-01", periods=ROWS)
    pattern = np.array([0.02, -0.03, 0.01, 0.03, -0.03])[stamps.day_of_week] if weekdays else np.zeros(ROWS)
    close = 100 * np.exp(np.cumsum(pattern + generator.normal(0, 0.003 if weekdays else 0.02, ROWS)))
    opened = np.append(close[0], close[:-1])
    volume = generator.lognormal(10, 0.2, ROWS)
    frame = {
        "timestamps": stamps,
        "open": opened,
        "high": np.maximum(opened, close) * 1.001,
        "low": np.minimum(opened, close) * 0.999,
        "close": close,
        "volume": volume,
        "amount": volume * close,
    }
    pd.DataFrame(frame).to_csv(path, index=False)
    return path


def configured(make: MakeRun, bars: Path, stage: str, **fields: Any) -> RunConfig:
    trained = {
        "init": {"scratch": {"size": "tiny"}},
        "batch_size": 16,
        "micro_batch_size": 16,
        "learning_rate": 2e-3,
    }
    base: dict[str, Any] = {
        "stage": stage,
        "stage_hashes": {name: name[0] * 12 for name in STAGES},
        "publish": stage == "evaluation",
        "window": {"lookback": 15, "horizon": 5},
        "tokenizer": trained | {"epochs": 4},
        "predictor": trained | {"epochs": 8},
        "training": {"precision": "fp32", "windows_per_epoch": 640, "validation_windows": 64},
        "evaluation": {"samples": 40},
        "data": {
            "source": {"path": "bars"},
            "split": {"fractions": {"train": 0.7, "validation": 0.1, "test": 0.2}},
            "covariates": [{"name": "Rates", "source": "rates.csv", "columns": ["bill"], "lag": "1d"}],
        },
        "bars": str(bars),
    }
    return make(**base | fields)


def done(run: RunConfig, stop: Callable[[], bool] = lambda: False) -> StageResult:
    ranks = Ranks(device=torch.device("cpu"))
    train_stage(run, ranks, progress=Progress(run, silent=True), stop_requested=stop)
    result = run.paths().stage(run.stage).completed()
    assert result is not None
    return result


def trained_and_judged(make: MakeRun, bars: Path, **fields: Any) -> tuple[RunConfig, StageResult]:
    runs = [configured(make, bars, stage, **fields) for stage in STAGES]
    return runs[-1], [done(run) for run in runs][-1]


def test_a_pattern_that_a_tiny_model_learns_is_found_and_the_run_is_published(
    make_run: MakeRun, tmp_path: Path
) -> None:
    evaluation = {"samples": 40, "backtest": {"cost_bps": 3}}
    months = pd.date_range("2014-01-01", periods=90, freq="MS")
    pd.DataFrame({"month": months, "bill": np.arange(90.0)}).to_csv(tmp_path / "rates.csv", index=False)
    run, judged = trained_and_judged(make_run, write(tmp_path / "b.csv", weekdays=True), evaluation=evaluation)
    summary, decided = judged.evaluation, judged.promotion
    assert summary is not None and decided is not None
    assert summary.verdict == Verdict.BETTER and summary.dates >= 40 and summary.readings == 1
    for rival in ("start", "naive"):
        compared = summary.against(rival)
        assert compared is not None and compared.verdict == Verdict.BETTER
        assert compared.low is not None and compared.low > 0.05
    assert decided.decision == Decision.PUBLISHED and decided.published == ""
    paths = run.paths()
    assert json.loads(paths.current.read_text())["run"] == run.run and paths.report.is_file()
    assert load("model-b-1d", root=run.output) is not None
    # Daily bars have a macro view, which knows the weekdays that were planted; the model was told nothing of it.
    macro = json.loads(paths.stage(run.stage).macro.read_text())
    (weekday,) = [table for table in macro["tables"] if table["name"] == "weekday"]
    assert {"leadLag Rates", "tercile RatesLoss"} <= {table["name"] for table in macro["tables"]}
    assert [row["label"] for row in weekday["rows"] if row["low"] > 0.5] == ["Monday", "Wednesday", "Thursday"]

    # A stranger recomputes each p-value from the file.
    found = json.loads(paths.stage(run.stage).evaluation.read_text())
    tested = [one for one in found["comparisons"] if one.get("model")]
    assert {"start", "naive", "drift", "seasonalNaive"} <= {one["rival"] for one in tested}
    for one in tested:
        zero = np.zeros(len(one["model"]))
        test = diebold_mariano_test(
            *(zero, np.array(one["model"]), np.array(one["loss"])),
            criterion=lambda came, loss: loss,
            harvey_adj=True,
            horizon=1,
            lags=0,
        )
        p = float(test.pvalue) / 2 if test.statistic < 0 else 1 - float(test.pvalue) / 2
        assert p == pytest.approx(one["pBetter"], abs=1e-9)

    # It was traded, too, and the command does the same again from what the evaluation has kept.
    def traded() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in paths.backtest.directory.iterdir()}

    first = traded()
    assert set(first) == {"trades.csv", "equity.csv", "summary.json", "backtest.html"}
    in_it = json.loads(first["summary.json"])
    assert (in_it["costBps"], in_it["trials"], in_it["dates"]) == (3, 1, len(found["dates"]))
    assert json.loads(paths.facts.read_text())["backtest"]["sentence"] == in_it["sentence"]
    assert backtest([run.model.name, "--root", run.output]) == 0 and traded() == first
    # The same again does nothing, and other samples judge again: a second reading, nothing trained.
    before = paths.stage(run.stage).result.stat().st_mtime_ns
    assert done(run).wire == judged.wire and paths.stage(run.stage).result.stat().st_mtime_ns == before
    hashes = run.stage_hashes | {"evaluation": "f" * 12}
    again = configured(make_run, Path(run.bars), "evaluation", evaluation={"samples": 20}, stage_hashes=hashes)
    once_more = done(again)
    assert once_more.evaluation is not None and once_more.evaluation.readings == 2
    assert once_more.promotion is not None and "stays" in once_more.promotion.message


def test_a_model_that_is_worse_than_naive_is_kept_and_held(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"windows_per_epoch": 64, "validation_windows": 32, "precision": "fp32"}
    bars = write(tmp_path / "b.csv", weekdays=False)
    run, judged = trained_and_judged(
        make_run, bars, training=short, promotion={"against": ["start", "naive"]}, evaluation={"samples": 20}
    )
    assert judged.evaluation is not None and judged.promotion is not None
    assert judged.evaluation.verdict == Verdict.WORSE
    assert judged.promotion.decision == Decision.HELD and "naive: worse" in judged.promotion.message
    paths = run.paths()
    assert not paths.current.exists() and paths.report.is_file()
    assert "Left out: Rates: " in paths.report.read_text()  # there is no such file, which costs no more than its tables
    with pytest.raises(InputMissing, match="candidate"):
        load("model-b-1d", root=run.output)
    assert load("model-b-1d", run="candidate", root=run.output) is not None
    moved = promote(paths)
    assert moved.run == run.run and load("model-b-1d", root=run.output) is not None

    # What was scored is not forecast again after a stop, nor is it calibrated anew; the same result follows.
    monkeypatch.setattr("kronos_trainer.training.evaluation.calibrate", None)
    document = Evaluation.load(paths.stage(run.stage).evaluation.read_text())
    paths.stage(run.stage).result.unlink()
    paths.stage(run.stage).scores.unlink()
    beats = iter(range(10**6))
    with pytest.raises(Stopped, match="which are saved"):
        done(run, stop=lambda: next(beats) > 20)
    assert paths.stage(run.stage).scores.is_file()
    assert done(run).evaluation == judged.evaluation
    repeated = Evaluation.load(paths.stage(run.stage).evaluation.read_text())
    assert repeated.model_copy(update={"seconds": 0}) == document.model_copy(update={"seconds": 0})


def test_without_a_test_span_nothing_can_be_said_and_the_run_is_published(make_run: MakeRun, tmp_path: Path) -> None:
    short = {"windows_per_epoch": 32, "validation_windows": 16, "precision": "fp32"}
    data = {"source": {"path": "b"}, "split": {"fractions": {"train": 0.8, "validation": 0.2, "test": 0.0}}}
    epochs = {"init": {"scratch": {"size": "tiny"}}, "epochs": 1, "batch_size": 16, "micro_batch_size": 16}
    bars = write(tmp_path / "b.csv", weekdays=False)
    run, judged = trained_and_judged(
        make_run, bars, training=short, data=data, tokenizer=epochs, predictor=epochs, evaluation={"samples": 10}
    )
    assert judged.evaluation is not None and judged.promotion is not None
    assert judged.evaluation.verdict == Verdict.UNDECIDED and "no date" in judged.evaluation.note
    assert judged.promotion.decision == Decision.PUBLISHED and run.paths().current.exists()


def result(spans: dict[str, tuple[str, str]] | None, digest: str = "d", **fields: Any) -> StageResult:
    data = {"digest": digest} | ({} if spans is None else {"spans": spans})
    return StageResult.read({"stage": "predictor", "epochs": 3, "data": data} | fields)


@pytest.mark.parametrize(
    ("spans", "theirs", "digest", "words"),
    [
        ({"train": ("2010", "2012"), "validation": ("2012", "2013")}, {}, "other", ""),
        (
            {"train": ("2010", "2012"), "validation": ("2012", "2014")},
            {},
            "d",
            "selected on 2012 to 2014, which overlaps",
        ),
        ({"train": ("2010", "2016"), "validation": ("2016", "2017")}, {}, "d", "trained on 2010 to 2016"),
        ({"train": ("2016", "2017"), "validation": ("2017", "2018")}, {}, "d", ""),
        (None, {}, "d", ""),
        (None, {}, "other", "an older release"),
        (None, {"timeframe": "4h"}, "d", "forecasts 4h bars"),
    ],
)
def test_a_published_run_that_was_trained_or_selected_on_the_test_span_is_refused(
    make_run: MakeRun, spans: dict[str, tuple[str, str]] | None, theirs: dict[str, Any], digest: str, words: str
) -> None:
    ours, published = make_run(), make_run(run="old", **theirs)
    found = refusal(("2013-02-01", "2015"), ours=ours, digest="d", published=published, results=[result(spans, digest)])
    assert (words in found) if words else found == ""


def test_what_weights_have_seen(make_run: MakeRun) -> None:
    def until(**predictor: Any) -> str:
        run = make_run(predictor={"init": predictor, "epochs": 1}, evaluation=settings)
        return lineage.pretrained_until(run, run.paths(), run.stages[-1])

    settings: dict[str, Any] = {}
    assert until(scratch={"size": "tiny"}) == ""
    assert until(hub={"repo": "NeoQuasar/Kronos-small"}) == "2024-07-01"
    assert until(hub={"repo": "somebody/Kronos"}) == until(path="weights") == lineage.UNKNOWN
    settings = {"pretrained_until": "2020-01-01"}
    assert until(hub={"repo": "NeoQuasar/Kronos-small"}) == until(path="weights") == "2020-01-01"
    assert until(scratch={"size": "tiny"}) == ""

    spans = {"train": ("2010", "2012"), "validation": ("2012", "2013-05-01")}
    assert lineage.seen_until(result(spans)) == "2013-05-01"
    assert lineage.seen_until(result(spans, pretrainedUntil="2024-07-01")) == "2024-07-01"
    assert lineage.seen_until(result(None)) == lineage.seen_until(None) == lineage.UNKNOWN
    assert lineage.latest("", "2020", lineage.UNKNOWN) == lineage.UNKNOWN and lineage.latest("", "2020") == "2020"
