"""What goes wrong on one rank of two, and how the gang ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kronos_trainer.config import RunConfig
from kronos_trainer.storage.checkpoint import Checkpoints

MakeRun = Callable[..., RunConfig]
RunGang = Callable[..., Any]


def test_a_nan_on_one_rank_ends_both_with_70_and_spoils_nothing(trainable: MakeRun, run_gang: RunGang) -> None:
    """Step 26 is the third of the second epoch; two micro-steps a step on each of two ranks."""
    run = trainable(checkpoint={"every_seconds": 30})
    gang = run_gang(run, FAULT="nan@1:50", TICK="1")
    assert gang.code == 70
    assert "NaN or infinite in step 26 (epoch 2)" in gang.error["message"]
    stage = run.paths().stage(run.stage)
    saved = json.loads(stage.pointer.read_text())["latest"]["step"]
    assert 0 < saved < 26
    assert f"last checkpoint is of step {saved}." in gang.error["message"]
    weights, _ = Checkpoints(stage).best_weights()
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert not stage.result.exists()
    facts = json.loads(run.paths().facts.read_text())  # which the launcher has left
    assert facts["failure"]["message"] == gang.error["message"] and facts["failure"]["last"]["checkpoint"] == saved
    assert run.paths().report.is_file() and "note:" not in gang.stderr


def test_out_of_memory_on_one_rank_is_71(trainable: MakeRun, run_gang: RunGang) -> None:
    gang = run_gang(trainable(), FAULT="oom@1:2")
    assert gang.code == 71
    assert "4 windows per process and forward pass; a restart" in gang.error["message"]
    assert "Traceback" not in gang.stderr


def test_a_checkpoint_that_fails_beside_the_training_ends_both_ranks(trainable: MakeRun, run_gang: RunGang) -> None:
    run = trainable(checkpoint={"every_seconds": 20}, training={"precision": "fp32", "windows_per_epoch": 320})
    gang = run_gang(run, FAULT="full@0:2", TICK="1")
    assert (gang.code, gang.error["message"]) == (74, "the disk is full")
    assert "Traceback" not in gang.stderr
    said = [event.get("checkpoint") for event in gang.events]
    saved = json.loads(run.paths().stage(run.stage).pointer.read_text())["latest"]["step"]
    assert saved in said and max(step for step in said if step is not None) == saved
    again = run_gang(run.model_copy(update={"attempt": 1}))
    assert again.code == 0, again.stderr
    assert next(event["step"] for event in again.events if event.get("phase") == "training") == saved
