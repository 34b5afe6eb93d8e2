"""The local executor with the real trainer: tiny networks, synthetic daily bars, two processes."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from kronos_operator.api import KronosModel
from kronos_operator.loading import Loaded
from kronos_operator.local import LocalRun, LocalSettings, RunResult, execute, prepare, read_states
from kronos_trainer.config import Event, ProgressEvent, StageName

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


def prepared(settings: LocalSettings, *, epochs: int = 1, tokenizer_epochs: int = 1) -> LocalRun:
    stage = {"init": {"scratch": {"size": "tiny"}}, "batchSize": 16, "microBatchSize": 8, "learningRate": 1e-3}
    spec = {
        "timeframe": "1d",
        "data": {"source": {"claim": {"name": "bars"}}},
        "window": {"lookback": 16, "horizon": 4, "maxContext": 32},
        "tokenizer": stage | {"epochs": tokenizer_epochs},
        "predictor": stage | {"epochs": epochs},
        "training": {"windowsPerEpoch": 64},
        "resources": {"gpusPerNode": 0, "processesPerNode": 2},
        "retry": {"maxRestarts": 0},
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
