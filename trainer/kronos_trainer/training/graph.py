"""A whole optimizer step as one CUDA graph: a single launch, where the host would need hundreds.

The graph holds what `EagerStep` does, operation for operation, and draws from the same seeds, so that its results are
the same, bit for bit. Only what the host decides is left outside: which windows, the seed, the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kronos_trainer.config import Training
from kronos_trainer.training.batching import BatchPlan
from kronos_trainer.training.step import EagerStep

WARM_UP = 3  # eager steps before the capture, in which libraries set up what must not be captured

Replay = Callable[[], object]


def can_capture(training: Training, plan: BatchPlan, device: torch.device) -> bool:
    """Whether a step can be one graph: on a GPU of one process, in one pass, with numbers that the device holds."""
    one_pass = plan.world == 1 and plan.micro_steps == 1
    # Recomputed activations keep the state of generators on the host, and a cycled beta1 is a number of the host.
    return device.type == "cuda" and one_pass and not training.gradient_checkpointing and not training.upstream_exact


def cuda_graph(work: Callable[[], None]) -> Replay:
    """Captures the CUDA operations of `work`, which are not executed; the result executes them."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class GraphStep:
    """Steps that are captured once and replayed."""

    def __init__(self, eager: EagerStep, *, capture: Callable[[Callable[[], None]], Replay] = cuda_graph) -> None:
        """`capture` stands for `cuda_graph` where there is no GPU."""
        self._eager = eager
        self._capture = capture
        self._warmed = 0
        self._batch: tuple[Tensor, ...] = ()
        self._replay: Replay | None = None

    def __call__(self, step: int, windows: Tensor) -> None:
        """One update from a batch of windows, int64 [batch]."""
        if self._warmed < WARM_UP:
            self._warmed += 1
            self._aside(lambda: self._eager(step, windows))
            return
        eager = self._eager
        eager.seed(step, 0)
        batch = eager.task.batch(windows)
        eager.optimizer.prepare(step)
        if self._replay is None:
            # The graph reads these tensors, and writes gradients of its own.
            self._batch = tuple(part.clone() for part in batch)
            eager.task.model.train()
            self._replay = self._capture(self._once)
            eager.seed(step, 0)
        for place, part in zip(self._batch, batch, strict=True):
            place.copy_(part)
        self._replay()

    def _once(self) -> None:
        self._eager.optimizer.zero_grad()  # so that gradients are written, and not added to those of the step before
        self._eager.backward(self._batch)
        self._eager.update()

    @staticmethod
    def _aside(work: Callable[[], None]) -> None:
        """On a stream of its own, as torch asks for before a capture."""
        if not torch.cuda.is_available():
            return work()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)
