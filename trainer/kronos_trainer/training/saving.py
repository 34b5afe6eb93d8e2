"""Checkpoints beside the training: a thread makes copies of a state durable. Used by the loop on rank 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

from kronos_trainer.storage.checkpoint import Best, Meta
from kronos_trainer.training.optimizer import Optimizer


class Save(Protocol):
    """Makes a state durable, and the best weights if they are not None."""

    def __call__(
        self, *, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any], meta: Meta, best: Best | None
    ) -> None: ...


class Saving:
    """The states of one stage on their way to the disk, one at a time.

    The best weights stay on the device until a state is saved: a run that is killed before goes on from an older state,
    and finds the same ones again.
    """

    def __init__(self, save: Save, model: torch.nn.Module, optimizer: Optimizer) -> None:
        self._save = save
        self._model = model
        self._optimizer = optimizer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._copies: dict[str, Tensor] = {}
        self._best: dict[str, Tensor] = {}
        self._best_meta: Meta | None = None  # None: what is best is durable
        self.step: int | None = None  # of the newest state that is durable, by this attempt

    def keep_best(self, meta: Meta) -> None:
        """Keeps the weights as they are now, to be made durable with the next state."""
        for name, tensor in self._model.state_dict().items():
            self._best.setdefault(name, torch.empty_like(tensor)).copy_(tensor)
        self._best_meta = meta

    def begin(self, meta: Meta, sync: Callable[[], object]) -> None:
        """Copies the state as it is now, and writes it while training goes on. Waits for the write before, if any.

        `sync` is called first, to make durable what the state refers to. Raises what `finish` raises.
        """
        self.finish()
        weights = {name: self._copied(f"model/{name}", tensor) for name, tensor in self._model.state_dict().items()}
        optimizer = self._optimizer.state_dict(keep=lambda name, tensor: self._copied(f"optimizer/{name}", tensor))
        best, self._best_meta = self._best_meta, None
        found = weights
        if best is not None and best.step != meta.step:
            found = {name: self._copied(f"best/{name}", tensor) for name, tensor in self._best.items()}
        copied = torch.cuda.Event() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
        if copied is not None:
            copied.record()

        def write() -> None:
            if copied is not None:
                copied.synchronize()
            sync()
            named = None if best is None else Best(found, best)
            self._save(weights=weights, optimizer=optimizer, meta=meta, best=named)
            self.step = meta.step

        self._writing = self._thread.submit(write)

    @property
    def failed(self) -> bool:
        """Whether the last write ended with an error, which `finish` raises."""
        writing = self._writing
        return writing is not None and writing.done() and writing.exception() is not None

    def finish(self) -> None:
        """Waits until what was begun is durable. Raises StorageError, and whatever else the write has raised."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits for a write that is under way, whatever comes of it."""
        self._thread.shutdown()

    def _copied(self, name: str, tensor: Tensor) -> Tensor:
        """A copy in the host's memory, complete once the device has come so far."""
        if name not in self._copies:
            self._copies[name] = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
        return self._copies[name].copy_(tensor, non_blocking=True)
