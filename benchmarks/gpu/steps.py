"""Milliseconds of an optimizer step, of both nets, beside upstream's classes driven as upstream drives them."""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from kronos_finance._vendor.kronos_model import KronosTokenizer
from torch.utils.data import DataLoader

from benchmarks import upstream
from benchmarks.gpu import ours
from benchmarks.gpu.place import (
    BATCH,
    DEVICE,
    SMALL,
    TOKENIZER_SIZE,
    WINDOW,
    Results,
    bars,
    gibibytes,
    seconds_a_call,
    splits,
    wait,
)
from kronos_trainer.config import StageName
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
from kronos_trainer.model.weights import scratch_net
from kronos_trainer.training.distributed import equal_bits

_TOKENIZER, _PREDICTOR = StageName.with_weights()
Variant = Callable[[], object]
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def tokenizer(results: Results) -> None:
    """The tokenizer's step."""
    size = TOKENIZER_SIZE
    step = functools.partial(ours.step, _TOKENIZER, size)
    variants = {
        "upstream, fp32": lambda: _upstream_tokenizer(size),
        "ours, eager": lambda: step(precision=_reduced(), graph=False),
        "ours": lambda: step(precision=_reduced()),
        "ours, fp32": lambda: step(precision="fp32"),
    }
    _measure(results, f"tokenizer {size}", variants)


def predictor(size: str, results: Results, *, compiled: bool) -> None:
    """The predictor's step."""
    size = "tiny" if SMALL else size
    step = functools.partial(ours.step, _PREDICTOR, size)
    variants: dict[str, Callable[[], Variant]] = {
        "upstream, fp32": lambda: _upstream_predictor(size, _on_the_device()),
        "upstream, TF32 by hand": lambda: _upstream_predictor(size, _on_the_device(), tf32=True),
        "upstream, fp32, its loader": lambda: _upstream_predictor(size, _loaded()),
        "ours, micro-batch 16": lambda: step(precision=_reduced(), micro=4 if SMALL else 16),
        "ours, eager": lambda: step(precision=_reduced(), graph=False),
        "ours": lambda: step(precision=_reduced()),
        "ours, fp32": lambda: step(precision="fp32"),
    }
    if compiled and not SMALL:
        variants["ours, compiled"] = lambda: step(precision=_reduced(), compiled=True)
    _measure(results, f"predictor {size}", variants)


def _reduced() -> str:
    return "fp32" if SMALL else "bf16"


def _measure(results: Results, title: str, makers: Mapping[str, Callable[[], Variant]]) -> None:
    equal_bits()
    made: dict[str, Variant] = {}
    for name, make in makers.items():
        try:
            began = time.perf_counter()
            variant = make()
            for _ in range(2 if SMALL else 5):  # a step is captured as the fourth
                variant()
            wait()
            made[name] = variant
            if name.endswith("compiled"):
                results.put(f"{title}: seconds to compile", round(time.perf_counter() - began, 1))
        except Exception as error:
            results.fail(f"{title}: {name}", error)
    times: dict[str, list[float]] = {name: [] for name in made}
    host: dict[str, list[float]] = {name: [] for name in made}
    memory: dict[str, float] = {}
    for _ in range(1 if SMALL else 3):  # variants take turns
        for name, variant in made.items():
            gibibytes()
            steps = 2 if SMALL else 15
            began = time.perf_counter()
            for _ in range(steps):
                variant()
            host[name].append((time.perf_counter() - began) / steps * 1e3)
            wait()
            times[name].append((time.perf_counter() - began) / steps * 1e3)
            memory[name] = gibibytes()
    reference = next(iter(made))
    for name in made:
        milliseconds = statistics.median(times[name])
        ratio = statistics.median(a / b for a, b in zip(times[reference], times[name], strict=True))
        results.put(
            f"{title}: {name}",
            {
                "ms": round(milliseconds, 2),
                "host ms": round(statistics.median(host[name]), 2),
                "windows/s": round(BATCH / milliseconds * 1e3),
                "x": round(ratio, 2),
                "GiB": memory[name],
            },
        )
    if not SMALL:
        results.attempt(f"{title}: ours, not deterministic", functools.partial(_undetermined, made["ours, eager"]))


def _undetermined(variant: Variant) -> dict[str, Any]:
    """Milliseconds of an eager step where torch may sum in any order: what determinism costs."""
    torch.use_deterministic_algorithms(False)
    try:
        return {"ms": round(seconds_a_call(variant, warm_up=1, calls=15) * 1e3, 2)}
    finally:
        torch.use_deterministic_algorithms(True)


def _upstream_tokenizer(size: str) -> Variant:
    theirs = upstream.TokenizerStep(TOKENIZERS[size], scratch_net(TOKENIZER, size, 0).state_dict(), DEVICE)
    batches = _on_the_device()
    return lambda: _in_fp32(lambda: theirs(next(batches)[0]))


def _upstream_predictor(size: str, batches: Batches, *, tf32: bool = False) -> Variant:
    encoder = KronosTokenizer(**vars(TOKENIZERS[TOKENIZER_SIZE]))
    encoder.load_state_dict(scratch_net(TOKENIZER, TOKENIZER_SIZE, 0).state_dict())
    theirs = upstream.PredictorStep(encoder, PREDICTORS[size], scratch_net(PREDICTOR, size, 0).state_dict(), DEVICE)
    return lambda: _in_fp32(lambda: theirs(*next(batches)), tf32=tf32)


def _in_fp32(step: Variant, *, tf32: bool = False) -> None:
    """Upstream sets neither a precision nor deterministic algorithms."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.use_deterministic_algorithms(False)
    step()
    torch.use_deterministic_algorithms(True)


def _on_the_device() -> Batches:
    """Batches that are there before the clock starts: upstream without its loader."""
    train = splits().train
    made = []
    for number in range(min(8, len(train) // BATCH)):
        indices = torch.arange(number * BATCH, (number + 1) * BATCH)
        values, stamps = train.values(indices), train.stamps(indices)
        made.append((values.contiguous().to(DEVICE), stamps.float().contiguous().to(DEVICE)))
    return itertools.cycle(made)


def _loaded() -> Batches:
    frame = pd.read_csv(bars(), parse_dates=["timestamps"])
    dataset = upstream.WindowDataset({"X": frame}, lookback=WINDOW.lookback, horizon=WINDOW.horizon)
    workers: dict[str, Any] = {} if SMALL else {"num_workers": 2, "persistent_workers": True, "pin_memory": True}
    loader = DataLoader(dataset, BATCH, drop_last=True, **workers)
    for values, stamps in itertools.chain.from_iterable(loader for _ in itertools.count()):
        yield values.to(DEVICE, non_blocking=True), stamps.to(DEVICE, non_blocking=True)
