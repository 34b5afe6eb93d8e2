"""Where a run's files are kept while its stage trains: the output directory, or a working copy of a URI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from kronos_trainer.config import RunConfig, RunPaths
from kronos_trainer.errors import StorageError
from kronos_trainer.storage.checkpoint import Best, Checkpoints, Meta, Restored
from kronos_trainer.storage.lock import ModelLock, model_lock
from kronos_trainer.storage.mirror import Mirror
from kronos_trainer.storage.stores import is_uri
from kronos_trainer.training.distributed import Ranks


class Storage:
    """A run's files, shared by all ranks. Only rank 0 writes."""

    def __init__(self, run: RunConfig, ranks: Ranks, cache: Path, beat: Callable[[], None]) -> None:
        """`beat` is called while files are transferred. Raises TrainerError, on every rank."""
        self._run = run
        self._ranks = ranks
        self._mirror = Mirror(run, cache / "outputs", beat) if is_uri(run.output) else None
        self.paths: RunPaths = self._mirror.paths if self._mirror else run.paths()
        self._checkpoints = Checkpoints(self.paths.stage(run.stage))
        self._lock: ModelLock | None = None
        if self._mirror is not None:
            self._once_per_node(self._mirror.occupy)
            self._once_per_node(self._mirror.pull)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other runs out of the model's directory. Raises StorageError, on every rank, naming the holder."""
        holding = model_lock(self.paths, self._run)

        def enter() -> None:
            self._lock = holding.__enter__()
            if self._mirror is not None:
                self._mirror.claim()

        try:
            self._ranks.on_first(enter)
            if self._mirror is not None:
                # Until it was claimed, an earlier attempt may have gone on writing.
                self._once_per_node(self._mirror.pull)
            yield
        finally:
            if self._lock is not None:
                holding.__exit__(None, None, None)

    def restore(self) -> Restored | None:
        """The newest intact checkpoint of the stage. Raises StorageError if ranks find different ones."""
        stage_hash = self._run.stage_hashes[self._run.stage]
        restored = self._ranks.together(lambda: self._checkpoints.restore(stage_hash=stage_hash))
        steps = self._ranks.gather(restored.meta.step if restored else None)
        if len(set(steps)) > 1:
            raise StorageError(
                f"ranks find checkpoints of different steps in {self.paths.stage(self._run.stage).directory}: {steps}; "
                "every node must mount the same output volume"
            )
        return restored

    def save(
        self, *, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any], meta: Meta, best: Best | None
    ) -> None:
        """Makes a checkpoint durable, unless a later attempt has taken over. Called on rank 0. Raises StorageError."""
        self.still_mine()
        self._checkpoints.save(weights=weights, optimizer=optimizer, meta=meta, best=best)
        self.push()

    def still_mine(self) -> None:
        """To be called on rank 0 before it writes what others rely on. Raises StorageError if a later attempt has
        taken over."""
        if self._lock is not None:
            self._lock.still_mine()

    def keep(self) -> None:
        """Uploads what was written, unless a later attempt has taken over. Called on rank 0. Raises StorageError."""
        self.still_mine()
        self.push()

    def push(self) -> None:
        """Uploads what was written. Called on rank 0. Raises StorageError."""
        if self._mirror is not None:
            self._mirror.push()

    def _once_per_node(self, work: Callable[[], None]) -> None:
        self._ranks.together(work if self._ranks.local_rank == 0 else lambda: None)
