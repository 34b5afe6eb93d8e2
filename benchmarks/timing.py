"""Interleaved timing: variants take turns, so that a busy machine slows them alike and their ratio holds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """One variant's figures."""

    name: str
    seconds: float  # median of the rounds
    ratio: float  # median over rounds of (reference's time / this variant's time); above 1 is faster
    low: float  # smallest ratio of any round
    high: float  # largest


def interleave(variants: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 1) -> list[Timing]:
    """Time each variant once per round. The first variant is the reference of the ratios."""
    for _ in range(warmup):
        for run in variants.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    reference = times[next(iter(variants))]
    timings = []
    for name, seconds in times.items():
        ratios = [theirs / ours for theirs, ours in zip(reference, seconds, strict=True)]
        timings.append(Timing(name, statistics.median(seconds), statistics.median(ratios), min(ratios), max(ratios)))
    return timings


def show(title: str, unit: str, per_call: float, timings: list[Timing], goals: Mapping[str, float]) -> None:
    """Print a table. `per_call` is how many units one call handles; a goal is the least ratio that we aim at."""
    print(f"\n{title}")
    for timing in timings:
        goal = goals.get(timing.name)
        verdict = "" if goal is None else f"   goal x{goal:g}: {'met' if timing.ratio >= goal else 'MISSED'}"
        print(
            f"  {timing.name:<34} {timing.seconds * 1000:10.2f} ms {per_call / timing.seconds:14,.1f} {unit}"
            f"   x{timing.ratio:.2f} ({timing.low:.2f}-{timing.high:.2f}){verdict}",
            flush=True,
        )
