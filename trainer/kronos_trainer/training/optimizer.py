"""AdamW with its schedule, gradient clipping, and a guard against divergence that costs no host synchronisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kronos_trainer.config import WeightsStage
from kronos_trainer.training.schedule import cycled_beta1, learning_rate


class _GuardedAdamW(torch.optim.AdamW):
    """AdamW whose fused kernel leaves weights and moments alone where `found_inf` is 1."""

    found_inf: Tensor


class Optimizer:
    """Updates a stage's model: `prepare` with the numbers of a step, then `apply`.

    `apply` reads nothing of the host and replaces no tensor that a later step reads, so that a CUDA graph can hold it.

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
        device = self._parameters[0].device
        # On a GPU the rate and the step are there: what is captured once reads the ones of each step.
        self._rate = torch.zeros((), device=device) if device.type == "cuda" else None
        self._adamw = _GuardedAdamW(
            _groups(model, config.weight_decay, everything=upstream_exact),
            lr=config.learning_rate if self._rate is None else self._rate,
            fused=True,
            capturable=self._rate is not None,
        )
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._adamw.found_inf = torch.zeros((), device=device)

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

    def prepare(self, step: int) -> None:
        """Sets what depends on the step, counted from 0."""
        rate = self.learning_rate(step)
        if self._rate is not None:
            self._rate.fill_(rate)
        for group in self._adamw.param_groups:
            group["lr"] = rate if self._rate is None else self._rate
            group["betas"] = (self._beta1(step), self._beta2)
        self._step.fill_(step)

    def apply(self) -> Tensor:
        """Clips the gradients and updates the weights. Returns the norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.gradient_clip)
        newly_bad = (self._first_bad < 0) & ~norm.isfinite()
        self._first_bad.copy_(torch.where(newly_bad, self._step, self._first_bad))
        self._adamw.found_inf.copy_(self._first_bad >= 0)
        self._adamw.step()
        return norm

    def first_bad_step(self) -> int | None:
        """The first step whose gradient was not finite, from 0. Waits for the device."""
        step = int(self._first_bad)
        return None if step < 0 else step

    def state_dict(self, keep: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor) -> dict[str, Any]:
        """State for a checkpoint, each tensor as `keep` returns it."""
        state = self._adamw.state_dict()
        moments = {
            index: {name: keep(f"{index}/{name}", tensor) for name, tensor in of_one.items()}
            for index, of_one in state["state"].items()
        }
        # The rate is that of the next step, whatever stands here.
        groups = [group | {"lr": self._config.learning_rate} for group in state["param_groups"]]
        return {"state": moments, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint, of whichever device."""
        own = [group["capturable"] for group in self._adamw.param_groups]
        self._adamw.load_state_dict(
            state
            | {
                "param_groups": [
                    group | {"capturable": capturable}
                    for group, capturable in zip(state["param_groups"], own, strict=True)
                ]
            }
        )

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
