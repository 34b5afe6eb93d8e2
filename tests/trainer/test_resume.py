"""Two ranks that are killed or stopped and go on, against two that were left alone: bit for bit."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kronos_trainer.config import RunConfig, StageName, StagePaths, StageResult
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.progress import Progress
from kronos_trainer.training.train import train_stage

RunGang = Callable[..., Any]

STEPS = 46  # two epochs of 23 steps, each of two micro-steps a rank


def outcome(stage: StagePaths) -> dict[str, object]:
    """Everything that must be equal: the last checkpoint's tensors, the exported weights, the metrics.

    Without their times, and without the attempts, of which only one was disturbed.
    """
    latest = stage.checkpoints / json.loads(stage.pointer.read_text())["latest"]["directory"]
    lines = [json.loads(line) for line in stage.metrics.read_text().splitlines()]
    return {
        "weights": (latest / "weights.safetensors").read_bytes(),
        "optimizer": (latest / "optimizer.safetensors").read_bytes(),
        "best": (stage.best / "model.safetensors").read_bytes(),
        "metrics": [
            {key: value for key, value in line.items() if key != "samplesPerSecond"}
            for line in lines
            if "attempt" not in line
        ],
    }


def copied(run: RunConfig, name: str) -> RunConfig:
    """The same run under another id, as far as it has come."""
    copy = run.model_copy(update={"run": name})
    shutil.copytree(run.paths().run_dir, copy.paths().run_dir)
    return copy


def untrained(run: RunConfig, name: str) -> RunConfig:
    """The same run under another id, with everything but its stage in place."""
    copy = copied(run, name)
    shutil.rmtree(copy.paths().stage(run.stage).directory)
    return copy


@pytest.mark.parametrize("stage", StageName.with_weights())
def test_kill_9_at_a_random_step_changes_nothing(
    stage: StageName, trained: dict[str, RunConfig], run_gang: RunGang
) -> None:
    expected = trained[stage]
    often = expected.checkpoint.model_copy(update={"every_seconds": 3})
    run = untrained(expected, f"killed-{stage}").model_copy(update={"checkpoint": often})
    seed = random.randrange(2**32)
    draws = random.Random(seed)
    passes = draws.randrange(8, 2 * STEPS)
    killed = run_gang(run, FAULT=f"kill@{draws.randrange(2)}:{passes}", TICK="1")
    assert killed.code == 1, (seed, killed.stderr)
    assert not run.paths().stage(stage).result.exists()
    again = run_gang(run.model_copy(update={"attempt": 1}), TICK="0.7")
    assert again.code == 0, (seed, again.stderr)
    resumed_at = next(event["step"] for event in again.events if event.get("phase") == "training")
    assert resumed_at > 0, seed
    assert outcome(run.paths().stage(stage)) == outcome(expected.paths().stage(stage)), seed


def test_sigterm_to_one_rank_stops_both_after_the_same_step(
    trained: dict[str, RunConfig], run_gang: RunGang, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = trained["tokenizer"]
    run = untrained(expected, "stopped")
    stage = run.paths().stage(run.stage)
    stopped = run_gang(run, FAULT="term@1:20")  # in the 11th step
    assert stopped.code == 75, stopped.stderr
    pointer = json.loads(stage.pointer.read_text())
    # The vote of a step is counted at the next, and both ranks save that state, once.
    assert (pointer["latest"]["step"], pointer["best"]["step"], "previous" in pointer) == (12, 0, False)
    alone = copied(run, "alone")

    again = run_gang(run)
    assert again.code == 0, again.stderr
    assert outcome(stage) == outcome(expected.paths().stage(run.stage))

    # One rank goes on where two stopped, without the promise of equal bits.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ranks = Ranks(device=torch.device("cpu"))
    train_stage(alone, ranks, progress=Progress(alone, silent=True), stop_requested=lambda: False)
    results = [StageResult.load(made.paths().stage(made.stage).result.read_text()) for made in (alone, expected)]
    assert [result.world_size for result in results] == [1, 2]
    assert [result.steps for result in results] == [STEPS, STEPS]
    assert results[0].best_validation_loss == pytest.approx(results[1].best_validation_loss, rel=1e-3)
