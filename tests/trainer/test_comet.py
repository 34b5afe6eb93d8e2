"""Comet is optional: unused it is not imported, offline it writes an archive, failing it stops nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kronos_trainer.config import Comparison, EvaluationSummary, PromotionResult, RunConfig, StageResult
from kronos_trainer.training.comet import CometReporter, NullReporter, open_reporter

MakeRun = Callable[..., RunConfig]
COMET = {"project": "kronos", "tags": ["model_b_1d_macro_finetune"]}

REPORT = """
import pathlib, sys
from kronos_trainer.training.comet import open_reporter
from kronos_trainer.config import StageResult, load_run
notes = []
note = lambda message, everywhere: notes.append(message)
reporter = open_reporter(load_run(pathlib.Path(sys.argv[1])), note)
reporter.metrics(10, {"trainLoss": 0.5})
reporter.metrics(20, {"trainLoss": 0.25, "validationLoss": 0.3})
if len(sys.argv) > 2:
    result = StageResult.load(pathlib.Path(sys.argv[2]).read_text())
    reporter.judged(result, pathlib.Path(sys.argv[2]).with_name("report.html"))
reporter.close()
print(sorted(name for name in sys.modules if name.split(".")[0] == "comet_ml")[:1], notes)
"""


JUDGED = StageResult(
    evaluation=EvaluationSummary(
        verdict="Undecided",
        loss=1.25,
        dates=31,
        symbols=4,
        readings=2,
        coverage80=0.625,
        comparisons=(Comparison(rival="start", improvement=0.03), Comparison(rival="published", refused="other bars")),
    ),
    promotion=PromotionResult(decision="Held"),
)


def report(run: RunConfig, directory: Path, *results: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Reports in a process of its own, since comet_ml changes the one that imports it."""
    config = directory / "run.json"
    config.write_text(run.dump())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMET_")}
    environment |= {"HOME": str(directory), **variables}
    return subprocess.run(
        [sys.executable, "-c", REPORT, str(config), *map(str, results)],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )


def test_offline_an_archive_is_written_that_holds_the_metrics_and_tags(make_run: MakeRun, tmp_path: Path) -> None:
    """And what an evaluation has found, with the report of the run."""
    archives = tmp_path / "comet"
    result = tmp_path / "result.json"
    result.write_text(JUDGED.dump())
    result.with_name("report.html").write_text("<html>it stands here</html>")
    process = report(make_run(comet=COMET), tmp_path, result, COMET_OFFLINE_DIRECTORY=str(archives))
    assert process.stdout == "['comet_ml'] []\n", process.stderr
    (archive,) = archives.glob("*.zip")
    with zipfile.ZipFile(archive) as opened:
        messages = [json.loads(line) for line in opened.read("messages.json").splitlines()]
        experiment = json.loads(opened.read("experiment.json"))
        assets = [opened.read(name) for name in opened.namelist()]
    assert experiment["project_name"] == "kronos"
    assert {"model-b-1d", "tokenizer", "model_b_1d_macro_finetune"} <= set(experiment["tags"])
    metrics = [message["payload"]["metric"] for message in messages if message["type"] == "metric_msg"]
    # Comet adds measurements of the machine.
    losses = [metric for metric in metrics if metric["metricName"].endswith("Loss")]
    found = {(metric["metricName"], metric["step"], float(metric["metricValue"])) for metric in losses}
    assert found == {("trainLoss", 10, 0.5), ("trainLoss", 20, 0.25), ("validationLoss", 20, 0.3)}
    judged = {metric["metricName"]: float(metric["metricValue"]) for metric in metrics}
    assert (judged["crps"], judged["dates"], judged["coverage80"]) == (1.25, 31, 0.625)
    assert judged["improvement.start"] == 0.03 and "improvement.published" not in judged
    assert {"Undecided", "Held"} <= set(experiment["tags"])
    words = [message["payload"] for message in messages if message["type"] == "log_other"]
    assert {"verdict": "Undecided", "promotion": "Held"}.items() <= {
        word["key"]: word["value"] for word in words
    }.items()
    assert b"<html>it stands here</html>" in assets


@pytest.mark.parametrize(
    ("comet", "variables", "note"),
    [(None, {"COMET_API_KEY": "key"}, "[]"), (COMET, {}, "COMET_API_KEY is not set")],
)
def test_unused_comet_is_never_imported(
    make_run: MakeRun, tmp_path: Path, comet: Any, variables: Mapping[str, str], note: str
) -> None:
    process = report(make_run(comet=comet), tmp_path, **variables)
    assert process.stdout.startswith("[] ") and note in process.stdout


class Notes(list[str]):
    """What was noted; all of it holds for every model."""

    def __call__(self, message: str, *, everywhere: bool = False) -> None:
        assert everywhere
        self.append(message)


def test_an_absent_or_failing_comet_is_one_note(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    monkeypatch.setitem(sys.modules, "comet_ml", None)
    reporter = open_reporter(make_run(comet=COMET), notes, {"COMET_API_KEY": "key"})
    assert isinstance(reporter, NullReporter) and "pip install 'kronos-operator[comet]'" in notes[0]

    class Broken:
        def Experiment(self, **settings: object) -> object:  # noqa: N802
            raise ValueError("invalid API key")

    monkeypatch.setitem(sys.modules, "comet_ml", Broken())
    reporter = open_reporter(make_run(comet=COMET), notes, {"COMET_API_KEY": "key"})
    reporter.metrics(1, {"trainLoss": 1.0})
    reporter.close()
    assert notes[1:] == ["Comet: ValueError: invalid API key; training continues without reporting"]


def test_a_failure_on_the_way_is_noted_once_and_then_silence() -> None:
    class Failing:
        calls = 0

        def log_metrics(self, values: Mapping[str, float], step: int) -> None:
            self.calls += 1
            raise ConnectionError("no route")

        def end(self) -> None:
            raise ConnectionError("no route")

    notes = Notes()
    experiment = Failing()
    reporter = CometReporter(lambda: experiment, notes, patience=None)
    for step in range(3):
        reporter.metrics(step, {"trainLoss": 1.0})
    reporter.close()
    assert experiment.calls == 1
    assert notes == ["Comet: ConnectionError: no route; training continues without reporting"]


@pytest.mark.parametrize("deaf", ["open", "end"])
def test_a_host_that_never_answers_is_given_up_and_not_waited_for(deaf: str) -> None:
    never = threading.Event()

    class Deaf:
        def log_metrics(self, values: Mapping[str, float], step: int) -> None: ...

        def end(self) -> None:
            never.wait()

    def connect() -> Deaf:
        if deaf == "open":
            never.wait()
        return Deaf()

    notes = Notes()
    reporter = CometReporter(connect, notes, patience=0.1)
    reporter.metrics(1, {"trainLoss": 1.0})
    reporter.close()  # would hang
    reporter.metrics(2, {"trainLoss": 1.0})
    assert notes == ["Comet: its host did not answer within 10 s; training continues without reporting"]
    never.set()


def test_a_disabled_comet_says_nothing(make_run: MakeRun) -> None:
    notes = Notes()
    environ = {"COMET_MODE": "disabled", "COMET_API_KEY": "key"}
    assert isinstance(open_reporter(make_run(comet=COMET), notes, environ), NullReporter)
    assert not notes
