"""Learning rate and first momentum as functions of the step alone, so that a resumed stage needs no scheduler state.

The shape is OneCycle with cosine annealing (Smith and Topin, arXiv 1708.07120), with upstream's factors.
"""

from __future__ import annotations

import math

START_DIVISOR = 10.0  # the first rate is peak / 10
END_DIVISOR = 1.0e4  # the last rate is the first / 10,000
BETA1_HIGH, BETA1_LOW = 0.95, 0.85


def learning_rate(step: int, *, peak: float, steps: int, warmup_fraction: float) -> float:
    """Rate of the step-th of `steps` optimizer steps, counted from 0."""
    start = peak / START_DIVISOR
    return _one_cycle(step, steps, warmup_fraction, start=start, middle=peak, end=start / END_DIVISOR)


def cycled_beta1(step: int, *, steps: int, warmup_fraction: float) -> float:
    """Upstream's first momentum at a step: lowest where the learning rate is highest."""
    return _one_cycle(step, steps, warmup_fraction, start=BETA1_HIGH, middle=BETA1_LOW, end=BETA1_HIGH)


def _one_cycle(step: int, steps: int, warmup_fraction: float, *, start: float, middle: float, end: float) -> float:
    # As in torch's OneCycleLR, the peak lies at a fraction of the steps and is no whole step in general. Where the
    # warm-up is shorter than a step, training starts at the peak instead of beyond it.
    peak_at = max(warmup_fraction * steps - 1, 0.0)
    if step < peak_at:
        return _cosine(start, middle, step / peak_at)
    if step <= peak_at:
        return middle
    return _cosine(middle, end, (step - peak_at) / (steps - 1 - peak_at))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
