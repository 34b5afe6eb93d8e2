"""The local executor with the real trainer: tiny networks, synthetic daily bars, two processes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from kronos_operator.api import KronosModel
from kronos_operator.loading import Loaded
from kronos_operator.local import LocalRun, LocalSettings, RunResult, execute, prepare, read_states
from kronos_operator.local.files import write_run
from kronos_operator.local.prepare import TRAINER
from kronos_operator.local.process import _family
from kronos_trainer.config import ErrorEvent, Event, ProgressEvent, ResultEvent, StageName, StartedEvent, parse_line

Notify = Callable[[str, Event], None]


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    bars = tmp_path / "data" / "bars"
    bars.mkdir(parents=True)
    for number, symbol in enumerate(("AAA", "BBB")):
        lines = ["timestamps,open,high,low,close,volume"]
        for day in range(240):
            price = 100 + 10 * math.sin(day / 9 + number)
            stamp = date(2020, 1, 1) + timedelta(days=day)
            lines.append(f"{stamp},{price:.4f},{price + 1:.4f},{price - 1:.4f},{price + 0.5:.4f},{1000 + day}")
        (bars / f"{symbol}.csv").write_text("\n".join(lines) + "\n")
    return LocalSettings(output=tmp_path / "out", data=tmp_path / "data")


def prepared(settings: LocalSettings, *, epochs: int = 1, tokenizer_epochs: int = 1, restarts: int = 0) -> LocalRun:
    stage = {"init": {"scratch": {"size": "tiny"}}, "batchSize": 16, "microBatchSize": 8, "learningRate": 1e-3}
    spec = {
        "timeframe": "1d",
        "data": {"source": {"claim": {"name": "bars"}}},
        "window": {"lookback": 16, "horizon": 4, "maxContext": 32},
        "tokenizer": stage | {"epochs": tokenizer_epochs},
        "predictor": stage | {"epochs": epochs},
        "training": {"windowsPerEpoch": 64},
        "resources": {"gpusPerNode": 0, "processesPerNode": 2},
        "retry": {"maxRestarts": restarts, "backoffSeconds": 0},
        "evaluation": {"enabled": False},
    }
    model = KronosModel.model_validate({"metadata": {"name": "m"}, "spec": spec})
    return prepare(Loaded(model, Path("m.yaml"), {}), settings)


def run(settings: LocalSettings, ready: LocalRun, notify: Notify = lambda key, event: None) -> RunResult:
    outcome = execute([ready], settings, notify)["m"]
    log = "" if outcome.log is None else outcome.log.read_text()[-3000:]
    assert outcome.exit_code in (0, 75), f"{outcome}\n{log}"
    return outcome


def test_from_interruption_to_a_published_model(settings: LocalSettings) -> None:
    def interrupt(key: str, event: Event) -> None:
        if isinstance(event, ProgressEvent) and event.phase == "training" and event.step == 0:
            os.kill(os.getpid(), signal.SIGINT)

    first = prepared(settings, tokenizer_epochs=50)
    stopped = run(settings, first, interrupt)
    assert stopped.exit_code == 75
    assert first.paths.stage(StageName.TOKENIZER).pointer.exists()
    assert read_states(settings.output)[0].state == "stopped"
    again = prepared(settings, tokenizer_epochs=50)
    assert again.run == first.run
    assert again.stages[0].reason.startswith("resumes from the checkpoint of step ")

    ready = prepared(settings)
    assert run(settings, ready).exit_code == 0
    (state,) = read_states(settings.output)
    assert (state.state, state.published, set(state.results)) == ("succeeded", ready.run, set(StageName.with_weights()))
    assert state.results[StageName.PREDICTOR].world_size == 2

    complete = prepared(settings)
    assert [stage.action for stage in complete.stages] == ["complete", "complete"]

    changed = prepared(settings, epochs=2)
    assert [stage.action for stage in changed.stages] == [f"reuse {ready.run}", "train"]
    stages = set()
    assert run(settings, changed, lambda key, event: stages.add(event.stage)).exit_code == 0
    assert stages == {"predictor"}
    tokenizers = [one.paths.stage(StageName.TOKENIZER).best / "model.safetensors" for one in (ready, changed)]
    assert tokenizers[0].read_bytes() == tokenizers[1].read_bytes()
    assert read_states(settings.output)[0].published == changed.run

    # Back to the earlier spec: nothing is trained, and its run is the published one again.
    assert run(settings, prepared(settings)).exit_code == 0
    assert read_states(settings.output)[0].published == ready.run


def test_one_process_trains_both_stages_to_the_same_bits(settings: LocalSettings) -> None:
    starts: list[StartedEvent] = []

    def listen(key: str, event: Event) -> None:
        starts.extend([event] if isinstance(event, StartedEvent) else [])

    together = prepared(settings)
    assert run(settings, together, listen).exit_code == 0
    assert [(start.stage, start.attempt) for start in starts] == [("tokenizer", 0), ("predictor", 1)]
    assert starts[0].pid == starts[1].pid
    for number, stage in enumerate(StageName.with_weights()):
        log = together.paths.log(together.run, stage, number).read_text().splitlines()
        kinds = [event.event for line in log for event in parse_line(line) if event.event not in ("progress", "phase")]
        assert (kinds[0], kinds[-2:]) == ("started", ["result", "ended"])
        assert {event.stage for line in log for event in parse_line(line)} == {stage.value}

    elsewhere = replace(settings, output=settings.output_root / "elsewhere")
    for stage in StageName.with_weights():
        one = replace(elsewhere, stages=frozenset({stage}))
        alone = prepared(one)
        assert run(one, alone).exit_code == 0
        files = [each.paths.stage(stage) for each in (together, alone)]
        weights = [file.best / "model.safetensors" for file in files]
        assert weights[0].read_bytes() == weights[1].read_bytes()
        assert files[0].config.read_text() == files[1].config.read_text().replace("/out/elsewhere", "/out")


def test_a_rank_killed_in_the_second_stage_is_that_stages_failure(settings: LocalSettings) -> None:
    starts: list[StartedEvent] = []
    errors: list[ErrorEvent] = []

    def kill(key: str, event: Event) -> None:
        starts.extend([event] if isinstance(event, StartedEvent) else [])
        errors.extend([event] if isinstance(event, ErrorEvent) else [])
        training = isinstance(event, ProgressEvent) and event.phase == "training"
        if training and event.stage == "predictor" and event.attempt == 1:
            launcher = starts[-1].pid
            assert launcher is not None
            os.kill(_family(launcher)[-1], signal.SIGKILL)

    ready = prepared(settings, restarts=1, epochs=3)
    assert run(settings, ready, kill).exit_code == 0
    assert [(start.stage, start.attempt) for start in starts] == [("tokenizer", 0), ("predictor", 1), ("predictor", 2)]
    assert starts[0].pid == starts[1].pid != starts[2].pid
    assert "was killed by SIGKILL without an error message" in errors[-1].message
    assert {(error.stage, error.attempt, error.exit_code) for error in errors} == {("predictor", 1, 1)}
    log = ready.paths.log(ready.run, StageName.PREDICTOR, 1).read_text()
    assert "exit code 1: starts again" in log


def test_a_stop_between_the_stages_begins_nothing(
    settings: LocalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def interrupt(key: str, event: Event) -> None:
        if isinstance(event, ResultEvent):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # until it is noticed

    ready = prepared(settings, epochs=50)
    stopped = run(settings, ready, interrupt)
    assert (stopped.exit_code, stopped.message) == (
        75,
        "stopped after the tokenizer, which is complete; the same command goes on from there",
    )
    assert not ready.paths.stage(StageName.PREDICTOR).result.exists()
    assert not ready.paths.log(ready.run, StageName.PREDICTOR, 1).exists()
    assert not list(tmp_path.glob("kronos-launch-*")), "it was killed"
    assert [stage.action for stage in prepared(settings, epochs=50).stages] == ["complete", "train"]


def test_a_process_that_nobody_hears_does_not_train_the_next_stage(settings: LocalSettings, tmp_path: Path) -> None:
    ready = prepared(settings, epochs=50)
    command = [*TRAINER, "launch", "--nproc", "1"]
    for stage, config in ready.run_configs.items():
        write_run(config, tmp_path / f"{stage}.json")
        command += ["--run", str(tmp_path / f"{stage}.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as trainer:
        assert trainer.stdout is not None
        for line in trainer.stdout:
            if any(isinstance(event, ResultEvent) for event in parse_line(line)):
                break
        trainer.stdout.close()
        assert trainer.wait(timeout=120) == 75
    assert ready.paths.stage(StageName.TOKENIZER).result.exists()
    assert not ready.paths.stage(StageName.PREDICTOR).result.exists()
