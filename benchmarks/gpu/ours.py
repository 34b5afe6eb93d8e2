"""The trainer's own step and its run configs, with everything that belongs to them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from benchmarks.gpu.place import BATCH, DEVICE, TOKENIZER_SIZE, WINDOW, bars, directory, splits
from kronos_trainer.config import RunConfig, StageName
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import scratch_net
from kronos_trainer.training.batching import plan_batches
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.graph import GraphStep, can_capture
from kronos_trainer.training.optimizer import Optimizer
from kronos_trainer.training.precision import choose_precision
from kronos_trainer.training.predictor import PredictorTask
from kronos_trainer.training.resident import ResidentTokens
from kronos_trainer.training.step import EagerStep, Step
from kronos_trainer.training.task import Task
from kronos_trainer.training.tokenizer import TokenizerTask
from kronos_trainer.training.tokens import TokenCache
from kronos_trainer.training.transfers import to_device


def run_config(stage: str, size: str, *, micro: int | None = None, training: dict[str, Any]) -> RunConfig:
    """A run of 2 epochs; `size` is the predictor's."""
    shared = {"batch_size": BATCH, "micro_batch_size": micro, "epochs": 2, "learning_rate": 1e-4}
    return RunConfig.model_validate(
        {
            "model": {"name": "gpu"},
            "run": "run-1",
            "stage": stage,
            "stage_hashes": {"tokenizer": "t" * 12, "predictor": "p" * 12},
            "publish": False,
            "timeframe": "1h",
            "data": {"source": {"path": "bars"}},
            "window": WINDOW.model_dump(),
            "tokenizer": {"init": {"scratch": {"size": TOKENIZER_SIZE}}, **shared},
            "predictor": {"init": {"scratch": {"size": size}}, **shared},
            "training": training,
            "evaluation": {},
            "checkpoint": {},
            "bars": str(bars()),
            "output": str(directory() / "outputs"),
        }
    )


@cache
def tokens() -> TokenCache:
    """Ids of the training windows, of a random tokenizer."""
    tokenizer = scratch_net(TOKENIZER, TOKENIZER_SIZE, 0).eval().to(DEVICE)
    kept = TokenCache(directory() / "tokens", "gpu", splits().train)
    kept.fill(lambda values: tokenizer.encode(to_device(values, DEVICE)), rank=0, world=1, beat=lambda: None)
    kept.finish()
    return kept


def step(
    stage: StageName, size: str, *, precision: str, micro: int | None = None, compiled: bool = False, graph: bool = True
) -> Callable[[], None]:
    """One step of the trainer a call; `size` is that of the stage's net. Without `graph` the host launches it all."""
    trains_predictor = stage is not StageName.with_weights()[0]
    run = run_config(
        stage.value,
        size if trains_predictor else "mini",
        micro=micro,
        training={"precision": precision, "compile": compiled},
    )
    plan = plan_batches(batch_size=BATCH, micro_batch_size=micro, device=DEVICE.type, world=1, out_of_memory_restarts=0)
    task, ranks = _task(run, size), Ranks(device=DEVICE)
    optimizer = Optimizer(task.model, run.weights_stage, steps=100_000, upstream_exact=False)
    model = cast(nn.Module, torch.compile(task.model)) if compiled else task.model
    eager = EagerStep(run, task, model, optimizer=optimizer, ranks=ranks, plan=plan)
    call: Step = GraphStep(eager) if graph and can_capture(run.training, plan, DEVICE) else eager
    order = torch.randperm(len(splits().train), generator=torch.Generator().manual_seed(0))
    counter = itertools.count()

    def once() -> None:
        # What this variant asks for, whatever another asked for in between.
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        number = next(counter)
        place = number * BATCH % (len(order) - BATCH)
        call(number, order[place : place + BATCH])

    return once


def _task(run: RunConfig, size: str) -> Task:
    precision = choose_precision(run.training, DEVICE)
    if run.stage is StageName.with_weights()[0]:
        return TokenizerTask(scratch_net(TOKENIZER, size, 0).to(DEVICE), splits(), precision, lambda mean: mean)
    source = ResidentTokens(tokens(), DEVICE)
    model = scratch_net(PREDICTOR, size, 0).to(DEVICE)
    return PredictorTask(model, source, source, precision, upstream_exact=False)
