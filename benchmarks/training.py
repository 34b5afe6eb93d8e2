"""Time of one optimizer step on the CPU: upstream's step against ours, 100 + 1 bars, batches of 32."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from kronos_finance._vendor.kronos_model import KronosTokenizer as UpstreamTokenizer
from torch import Tensor, nn

from benchmarks import upstream
from benchmarks.series import hourly_bars, hourly_frame
from benchmarks.timing import interleave, show
from kronos_trainer.config import Data, PredictorStage, TokenizerStage, Training, WeightsStage, Window
from kronos_trainer.data.windows import Splits, epoch_order, split_bars
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
from kronos_trainer.model.weights import scratch_net
from kronos_trainer.training.optimizer import Optimizer
from kronos_trainer.training.precision import choose_precision
from kronos_trainer.training.predictor import PredictorTask
from kronos_trainer.training.seeding import seed_of
from kronos_trainer.training.task import Task
from kronos_trainer.training.tokenizer import TokenizerTask
from kronos_trainer.training.tokens import TokenCache

LOOKBACK, HORIZON, BATCH = 90, 10, 32
CPU = torch.device("cpu")
VARIANTS = (("fp32", "fp32", False), ("fp32, compiled", "fp32", True), ("bf16, compiled", "bf16", True))
STEPS = 100_000  # of the schedule; only its first few are run


def run() -> None:
    """The tokenizer's step, then the predictor's for two sizes."""
    splits = _splits()
    _tokenizer(splits)
    for size, goals in (("mini", {"fp32": 1.25, "bf16, compiled": 1.7}), ("small", {"bf16, compiled": 1.7})):
        _predictor(splits, size, goals)


def _splits() -> Splits:
    data = Data.model_validate({"source": {"path": "-"}})
    return split_bars(hourly_bars(), data, Window(lookback=LOOKBACK, horizon=HORIZON))


def _upstream_batches() -> Iterator[list[Tensor]]:
    frames = {"EURUSD": hourly_frame()}
    dataset = upstream.WindowDataset(frames, lookback=LOOKBACK, horizon=HORIZON)
    return itertools.chain.from_iterable(upstream.loader(dataset, BATCH) for _ in itertools.count())


def _tokenizer(splits: Splits) -> None:
    first = scratch_net(TOKENIZER, "base", 0).state_dict()
    theirs = upstream.TokenizerStep(TOKENIZERS["base"], first)
    batches = _upstream_batches()
    variants: dict[str, Callable[[], object]] = {"upstream": lambda: theirs(next(batches)[0])}
    for name, precision, compiled in VARIANTS:
        model = scratch_net(TOKENIZER, "base", 0)
        chosen = choose_precision(Training.model_validate({"precision": precision}), CPU)
        task = TokenizerTask(model, splits, chosen, lambda mean: mean)
        variants[name] = _step(name, task, TokenizerStage(), len(splits.train), compiled=compiled)
    timings = interleave(variants, rounds=7)
    show(f"Tokenizer step, base, {BATCH} windows", "windows/s", BATCH, timings, {"bf16, compiled": 1.5})


def _predictor(splits: Splits, size: str, goals: dict[str, float]) -> None:
    tokenizer = scratch_net(TOKENIZER, "base", 0)
    theirs_tokenizer = UpstreamTokenizer(**asdict(TOKENIZERS["base"]))
    theirs_tokenizer.load_state_dict(tokenizer.state_dict())
    theirs = upstream.PredictorStep(theirs_tokenizer, PREDICTORS[size], scratch_net(PREDICTOR, size, 0).state_dict())
    batches = _upstream_batches()
    with tempfile.TemporaryDirectory() as directory:
        tokens = TokenCache(Path(directory), "bench", splits.train)
        started = time.perf_counter()
        tokens.fill(tokenizer.eval().encode, rank=0, world=1, beat=lambda: None)
        tokens.finish()
        print(f"\n  tokenising all {len(splits.train):,} windows once took {time.perf_counter() - started:.1f} s")
        variants: dict[str, Callable[[], object]] = {"upstream": lambda: theirs(*next(batches))}
        for name, precision, compiled in VARIANTS:
            model = scratch_net(PREDICTOR, size, 0)
            chosen = choose_precision(Training.model_validate({"precision": precision}), CPU)
            task = PredictorTask(model, tokens, tokens, chosen, upstream_exact=False)
            variants[name] = _step(name, task, PredictorStage(), len(splits.train), compiled=compiled)
        timings = interleave(variants, rounds=7)
    show(f"Predictor step, {size}, {BATCH} windows", "windows/s", BATCH, timings, goals)


def _step(name: str, task: Task, config: WeightsStage, windows: int, *, compiled: bool) -> Callable[[], None]:
    """One optimizer step of the training loop a call, in one process without accumulation."""
    optimizer = Optimizer(task.model, config, steps=STEPS, upstream_exact=False)
    model = cast(nn.Module, torch.compile(task.model)) if compiled else task.model
    order = epoch_order(windows, seed=0, stage="bench", epoch=0, limit=None)
    counter = itertools.count()

    def step() -> None:
        done = next(counter)
        task.model.train()
        optimizer.zero_grad()
        torch.manual_seed(seed_of(0, "bench", done))
        place = done * BATCH % (windows - BATCH)
        task.loss(model, task.batch(order[place : place + BATCH])).backward()  # type: ignore[no-untyped-call]
        optimizer.prepare(done)
        optimizer.apply()

    if compiled:
        started = time.perf_counter()
        step()
        print(f"\n  {name}: the first step, with compilation, took {time.perf_counter() - started:.0f} s", flush=True)
    return step
