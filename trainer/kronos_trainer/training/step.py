"""One optimizer step: its forward and backward passes, then the update. Called by the loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kronos_trainer.config import RunConfig
from kronos_trainer.training.batching import BatchPlan
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.optimizer import Optimizer
from kronos_trainer.training.seeding import seed_of
from kronos_trainer.training.task import Task

Step = Callable[[int, Tensor], None]  # the number of the step, from 0, and its windows, int64 [batch] on the CPU


class EagerStep:
    """A step whose every operation is launched by the host."""

    def __init__(
        self, run: RunConfig, task: Task, model: nn.Module, *, optimizer: Optimizer, ranks: Ranks, plan: BatchPlan
    ) -> None:
        """`model` is the task's, as wrapped for its processes."""
        self.task = task
        self.optimizer = optimizer
        # Loss and gradient norm, summed over steps until somebody zeroes them. They stay on the device.
        self.sums = torch.zeros(2, dtype=torch.float64, device=ranks.device)
        self._seed = run.training.seed
        self._stage = run.stage
        self._model = model
        self._ranks = ranks
        self._plan = plan

    def __call__(self, step: int, windows: Tensor) -> None:
        """One update from a batch, of which every rank takes its parts."""
        self.task.model.train()
        self.optimizer.zero_grad()
        micro_steps = self._plan.micro_steps
        for micro_step in range(micro_steps):
            self.seed(step, micro_step)
            batch = self.task.batch(windows[self._plan.part(micro_step, self._ranks.rank)])
            with self._ranks.accumulating(self._model, last=micro_step + 1 == micro_steps):
                self.backward(batch)
        self.optimizer.prepare(step)
        self.update()

    def seed(self, step: int, micro_step: int) -> None:
        """Seeds every draw of a forward pass."""
        torch.manual_seed(seed_of(self._seed, self._stage, step, micro_step, self._ranks.rank))

    def backward(self, batch: tuple[Tensor, ...]) -> None:
        """Adds the gradients of a micro-step."""
        loss = self.task.loss(self._model, batch) / self._plan.micro_steps
        loss.backward()  # type: ignore[no-untyped-call]
        self.sums[0] += loss.detach()

    def update(self) -> None:
        """Updates the weights by the gradients."""
        self.sums[1] += self.optimizer.apply()
