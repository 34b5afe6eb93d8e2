"""A captured step against the eager one. The GPU's graph is in test_gpu.py; here what is captured is called again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kronos_trainer.config import RunConfig, StageName, Training
from kronos_trainer.data.bars import prepare_bars
from kronos_trainer.data.windows import split_bars
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import scratch_net
from kronos_trainer.training.batching import BatchPlan
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.graph import WARM_UP, GraphStep, Replay, can_capture
from kronos_trainer.training.optimizer import Optimizer
from kronos_trainer.training.precision import choose_precision
from kronos_trainer.training.predictor import PredictorTask
from kronos_trainer.training.step import EagerStep
from kronos_trainer.training.task import Task
from kronos_trainer.training.tokenizer import TokenizerTask
from kronos_trainer.training.tokens import EncodedTokens

MakeRun = Callable[..., RunConfig]


def task_of(run: RunConfig, cache: Path) -> Task:
    """The stage's task around first weights of its own."""
    splits = split_bars(prepare_bars(Path(run.bars), run.timeframe, run.data, cache).open(), run.data, run.window)
    precision = choose_precision(run.training, torch.device("cpu"))
    tokenizer = scratch_net(TOKENIZER, "tiny", seed=1)
    if run.stage == "tokenizer":
        return TokenizerTask(tokenizer, splits, precision, lambda mean: mean)
    tokens = EncodedTokens(splits.train, tokenizer.encode)
    return PredictorTask(scratch_net(PREDICTOR, "tiny", 2), tokens, tokens, precision, upstream_exact=False)


def replayed(work: Callable[[], None], *, captures: list[str]) -> Replay:
    """As a graph: `work` is called at each replay and not at its capture, and nothing else of Python is."""
    captures.append("captured")
    return work


@pytest.mark.parametrize("stage", StageName.with_weights())
def test_a_replayed_step_is_the_eager_one_bit_for_bit(trainable: MakeRun, stage: StageName, tmp_path: Path) -> None:
    """Seeds, rates, losses and weights, for batches that differ, over a capture and a zeroing of the sums."""
    run = trainable(stage=stage, **{stage: {"micro_batch_size": 16}})
    batches = torch.arange(96).view(6, 16) * 2
    outcomes: list[Any] = []
    captures: list[str] = []
    for graph in (False, True):
        task = task_of(run, tmp_path / "cache")
        optimizer = Optimizer(task.model, run.weights_stage, steps=20, upstream_exact=False)
        ranks = Ranks(device=torch.device("cpu"))
        plan = BatchPlan(batch=16, micro=16, world=1)
        eager = EagerStep(run, task, task.model, optimizer=optimizer, ranks=ranks, plan=plan)
        step = GraphStep(eager, capture=functools.partial(replayed, captures=captures)) if graph else eager
        seen = []
        for number, batch in enumerate(batches):
            step(number, batch)
            seen.append(eager.sums.clone())
            if number == WARM_UP:
                eager.sums.zero_()
        outcomes.append((torch.stack(seen), [weight.detach().clone() for weight in task.model.parameters()]))
    assert captures == ["captured"]
    (sums, weights), (same_sums, same_weights) = outcomes
    assert torch.equal(sums, same_sums)
    assert all(torch.equal(left, right) for left, right in zip(weights, same_weights, strict=True))
    assert sums[0, 0] != sums[1, 0] - sums[0, 0]  # the batches do differ


@pytest.mark.parametrize(
    ("device", "world", "micro", "training", "captured"),
    [
        ("cuda", 1, 64, {}, True),
        ("cuda", 1, 64, {"compile": True, "precision": "bf16"}, True),
        ("cuda", 1, 32, {}, False),
        ("cuda", 2, 32, {}, False),
        ("cuda", 1, 64, {"gradient_checkpointing": True}, False),
        ("cuda", 1, 64, {"upstream_exact": True}, False),
        ("cpu", 1, 64, {}, False),
    ],
)
def test_what_can_be_one_graph(device: str, world: int, micro: int, training: dict[str, Any], captured: bool) -> None:
    plan = BatchPlan(batch=64, micro=micro, world=world)
    assert can_capture(Training.model_validate(training), plan, torch.device(device)) == captured
