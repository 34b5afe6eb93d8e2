"""A rank to which something happens, started in place of `python -m kronos_trainer` by the tests that need one.

FAULT is a list of `<what>@<rank>:<n>`, done at that rank's n-th forward pass in training, counted from 0:
kill (SIGKILL), term (SIGTERM to this rank alone), nan (a loss that is not a number); or `oom@<rank>:<n>`, which makes
forward passes over more than n windows run out of memory, or `full@0:<n>`, where the n-th checkpoint meets a full disk.
With TICK, every reading of the loop's clock is that many seconds after the one before, so that checkpoints fall where
the test wants them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kronos_trainer.errors import StorageError
from kronos_trainer.stopping import StopSignal
from kronos_trainer.storage.checkpoint import Checkpoints
from kronos_trainer.training.loop import Loop
from kronos_trainer.training.predictor import PredictorTask
from kronos_trainer.training.rank import end, main
from kronos_trainer.training.tokenizer import TokenizerTask

RANK = int(os.environ["RANK"])

Batch = tuple[Tensor, ...]


def faults() -> list[tuple[str, int]]:
    """What happens to this rank, and when."""
    listed = [fault.replace("@", ":").split(":") for fault in os.environ.get("FAULT", "").split()]
    return [(what, int(n)) for what, rank, n in listed if int(rank) == RANK]


def disturbed(loss: Callable[[Any, nn.Module, Batch], Tensor]) -> Callable[[Any, nn.Module, Batch], Tensor]:
    """A task's `loss` with the faults."""
    passes = -1

    def disturb(task: Any, model: nn.Module, batch: Batch) -> Tensor:
        nonlocal passes
        passes += 1
        for what, n in faults():
            if what == "oom" and len(batch[0]) > n:
                raise torch.OutOfMemoryError("injected")
            if what == "kill" and passes == n:
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "term" and passes == n:
                os.kill(os.getpid(), signal.SIGTERM)
        value = loss(task, model, batch)
        return value * torch.nan if ("nan", passes) in faults() else value

    return disturb


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that each reading moves on."""
    now = 0.0

    def read() -> float:
        nonlocal now
        now += seconds
        return now

    return read


def filling(save: Callable[..., None]) -> Callable[..., None]:
    """`Checkpoints.save` with a disk that is full at the n-th call."""
    calls = 0

    def fail(*given: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        if ("full", calls) in faults():
            raise StorageError("the disk is full")
        save(*given, **named)

    return fail


if __name__ == "__main__":
    Checkpoints.save = filling(Checkpoints.save)  # type: ignore[method-assign]
    for task in (TokenizerTask, PredictorTask):
        task.loss = disturbed(task.loss)  # type: ignore[method-assign]
    if "TICK" in os.environ:
        assert Loop.__init__.__kwdefaults__ is not None
        Loop.__init__.__kwdefaults__["clock"] = ticking(float(os.environ["TICK"]))
    end(main(sys.argv[1:], StopSignal()))
