"""The schedule by value, and against torch's own OneCycleLR."""

from __future__ import annotations

import pytest
import torch

from kronos_trainer.training.schedule import cycled_beta1, learning_rate


@pytest.mark.parametrize(
    ("step", "rate", "beta1"),
    [
        (0, 4.000e-6, 0.950),
        (15, 2.297e-5, 0.8973),
        (29, 4.000e-5, 0.850),
        (500, 2.091e-5, 0.8977),
        (999, 4.0e-10, 0.950),
    ],
)
def test_values_measured_on_upstreams_optimizer(step: int, rate: float, beta1: float) -> None:
    assert learning_rate(step, peak=4e-5, steps=1000, warmup_fraction=0.03) == pytest.approx(rate, rel=2e-4)
    assert cycled_beta1(step, steps=1000, warmup_fraction=0.03) == pytest.approx(beta1, abs=5e-5)


@pytest.mark.parametrize(("steps", "warmup"), [(34, 0.03), (101, 0.03), (100, 0.37), (250, 0.5)])
def test_every_step_equals_torchs_one_cycle(steps: int, warmup: float) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-3, total_steps=steps, pct_start=warmup, div_factor=10
    )
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert learning_rate(step, peak=1e-3, steps=steps, warmup_fraction=warmup) == pytest.approx(
            group["lr"], rel=1e-9
        )
        assert cycled_beta1(step, steps=steps, warmup_fraction=warmup) == pytest.approx(group["betas"][0], rel=1e-9)
        optimizer.step()
        if step + 1 < steps:
            scheduler.step()


@pytest.mark.parametrize("steps", [1, 2, 20, 33])
def test_short_training_starts_at_the_peak_and_never_leaves_the_range(steps: int) -> None:
    rates = [learning_rate(step, peak=1.0, steps=steps, warmup_fraction=0.03) for step in range(steps)]
    assert rates[0] == 1.0
    assert all(0 < rate <= 1 for rate in rates)
    assert rates == sorted(rates, reverse=True)
