"""The optimizer's guard against divergence and its choice of what decays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from kronos_trainer.config import RunConfig
from kronos_trainer.model.kinds import PREDICTOR
from kronos_trainer.model.weights import scratch_net
from kronos_trainer.training.optimizer import Optimizer
from kronos_trainer.training.predictor import PredictorTask
from kronos_trainer.training.tokenizer import TokenizerTask

MakeRun = Callable[..., RunConfig]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_gradient_freezes_weights_and_moments_for_good(
    make_run: MakeRun, bad: float, device: torch.device | None = None
) -> None:
    layer = nn.Linear(3, 2, device=device)
    optimizer = Optimizer(layer, make_run().tokenizer, steps=10, upstream_exact=False)

    def step(number: int, gradient: float) -> None:
        for parameter in layer.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.prepare(number)
        optimizer.apply()

    start = layer.weight.detach().clone()
    step(0, 1.0)
    good = layer.weight.detach().clone()
    assert not torch.equal(start, good)
    assert optimizer.first_bad_step() is None
    moments = [
        {key: value.clone() for key, value in state.items()} for state in optimizer.state_dict()["state"].values()
    ]
    step(1, bad)
    step(2, 1.0)
    assert optimizer.first_bad_step() == 1
    assert torch.equal(layer.weight, good)
    for before, after in zip(moments, optimizer.state_dict()["state"].values(), strict=True):
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("exact", [False, True])
def test_only_matrices_decay_unless_upstream_is_followed(make_run: MakeRun, exact: bool) -> None:
    """With gradients of 0, decay alone moves a weight."""
    model = scratch_net(PREDICTOR, "tiny", seed=0)
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    optimizer = Optimizer(model, make_run().predictor, steps=10, upstream_exact=exact)
    optimizer.prepare(0)
    optimizer.apply()
    moved = {
        name
        for name, parameter in model.named_parameters()
        if not torch.equal(parameter, torch.ones(()).expand_as(parameter))
    }
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert moved == ({name for name, _ in model.named_parameters()} if exact else linear)


def test_momenta(make_run: MakeRun) -> None:
    """Upstream's tokenizer script runs with torch's default beta2, and with beta1 cycled like the learning rate."""
    run = make_run()
    for config, task, exact, betas in (
        (run.tokenizer, TokenizerTask, False, (0.9, 0.95)),
        (run.tokenizer, TokenizerTask, True, (0.85, 0.999)),
        (run.predictor, PredictorTask, True, (0.85, 0.95)),
    ):
        layer = nn.Linear(1, 1)
        layer(torch.ones(1)).backward()
        optimizer = Optimizer(layer, config, steps=1000, upstream_exact=exact, upstream_beta2=task.upstream_beta2)
        optimizer.prepare(29)
        optimizer.apply()
        assert optimizer.state_dict()["param_groups"][0]["betas"] == pytest.approx(betas)
