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
    run = trainable()
    gang = run_gang(run, FAULT="nan@1:50")
    assert gang.code == 70
    assert "NaN or infinite in step 26 (epoch 2)" in gang.error["message"]
    assert "last checkpoint is of step 23" in gang.error["message"]
    stage = run.paths().stage(run.stage)
    assert json.loads(stage.pointer.read_text())["latest"]["step"] == 23
    weights, _ = Checkpoints(stage).best_weights()
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert not stage.result.exists()
    facts = json.loads(run.paths().facts.read_text())  # which the launcher has left
    assert facts["failure"]["message"] == gang.error["message"] and facts["failure"]["last"]["checkpoint"] == 23
    assert run.paths().report.is_file() and "note:" not in gang.stderr


def test_out_of_memory_on_one_rank_is_71(trainable: MakeRun, run_gang: RunGang) -> None:
    gang = run_gang(trainable(), FAULT="oom@1:2")
    assert gang.code == 71
    assert "4 windows per process and forward pass; a restart" in gang.error["message"]
    assert "Traceback" not in gang.stderr
