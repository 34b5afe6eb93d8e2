"""AdamW with its schedule, gradient clipping, and a guard against divergence that costs no host synchronisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kronos_trainer.config import WeightsStage
from kronos_trainer.training.schedule import cycled_beta1, learning_rate


class _GuardedAdamW(torch.optim.AdamW):
    """AdamW whose fused kernel leaves weights and moments alone where `found_inf` is 1."""

    found_inf: Tensor


class Optimizer:
    """Updates a stage's model, one call a step.

    A step whose gradient norm is not finite changes nothing, and neither does any later one, so the weights stay
    those of the last good step until the host finds time to look at `first_bad_step`. The gradients are averaged
    over ranks, so every rank decides alike.
    """

    def __init__(
        self,
        model: nn.Module,
        config: WeightsStage,
        *,
        steps: int,
        upstream_exact: bool,
        upstream_beta2: float | None = None,
    ) -> None:
        """`upstream_beta2` takes the place of the configured one where upstream is followed."""
        self._config = config
        self._steps = steps
        self._upstream_exact = upstream_exact
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._beta2 = config.betas[1]
        if upstream_exact and upstream_beta2 is not None:
            self._beta2 = upstream_beta2
        self._adamw = _GuardedAdamW(
            _groups(model, config.weight_decay, everything=upstream_exact), lr=config.learning_rate, fused=True
        )
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=self._parameters[0].device)

    def learning_rate(self, step: int) -> float:
        """Rate of a step, counted from 0."""
        return learning_rate(
            step,
            peak=self._config.learning_rate,
            steps=self._steps,
            warmup_fraction=self._config.warmup_fraction,
        )

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def step(self, step: int) -> Tensor:
        """Clips the gradients and updates the weights in the given step, from 0. Returns the norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.gradient_clip)
        newly_bad = (self._first_bad < 0) & ~norm.isfinite()
        self._first_bad = torch.where(newly_bad, step, self._first_bad)
        self._adamw.found_inf = (self._first_bad >= 0).float()
        for group in self._adamw.param_groups:
            group["lr"] = self.learning_rate(step)
            group["betas"] = (self._beta1(step), self._beta2)
        self._adamw.step()
        return norm

    def first_bad_step(self) -> int | None:
        """The first step whose gradient was not finite, from 0. Waits for the device."""
        step = int(self._first_bad)
        return None if step < 0 else step

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return self._adamw.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._adamw.load_state_dict(state)

    def _beta1(self, step: int) -> float:
        if not self._upstream_exact:
            return self._config.betas[0]
        return cycled_beta1(step, steps=self._steps, warmup_fraction=self._config.warmup_fraction)


def _groups(model: nn.Module, weight_decay: float, *, everything: bool) -> list[dict[str, Any]]:
    """Parameter groups: decay pulls the matrices of linear layers towards 0, and nothing else unless told so.

    Norm scales belong near 1, and an embedding row that a batch does not contain gets no gradient to resist decay.
    """
    matrices = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Linear) and module.weight.requires_grad
    }
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if everything or id(parameter) in matrices else others).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ][: 1 if everything else 2]
