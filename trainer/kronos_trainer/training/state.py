"""Where a stage stands: what the loop counts and decides by, and what of it a checkpoint keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from kronos_trainer.config import RunConfig
from kronos_trainer.storage.checkpoint import Meta


@dataclass(kw_only=True)
class State:
    """The loop's position and the best weights so far."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs done and validated
    best_step: int | None = None
    best_loss: float | None = None  # of the best weights
    best_crps: float | None = None
    initial_loss: float | None = None  # of the first weights; None until they are validated
    initial_crps: float | None = None
    validations_since_best: int = 0  # of those that select
    train_loss: float | None = None  # mean over the last logged steps
    seconds: float = 0.0  # spent in the loop, over all attempts

    @classmethod
    def of(cls, meta: Meta) -> State:
        """The state that a checkpoint was saved in."""
        return cls(
            step=meta.step,
            epoch=meta.epoch,
            best_step=meta.best_step,
            best_loss=meta.best_loss,
            best_crps=meta.best_crps,
            initial_loss=meta.initial_loss,
            initial_crps=meta.initial_crps,
            validations_since_best=meta.validations_since_best,
            train_loss=meta.metrics["trainLoss"],
            seconds=meta.seconds,
        )

    def meta(self, run: RunConfig, *, world: int, sums: list[float], lines: int) -> Meta:
        """What a checkpoint keeps, with the sums since the last log line and the number of metrics lines."""
        return Meta(
            step=self.step,
            epoch=self.epoch,
            stage_hash=run.stage_hashes[run.stage],
            world_size=world,
            best_step=self.best_step,
            best_loss=self.best_loss,
            best_crps=self.best_crps,
            initial_loss=self.initial_loss,
            initial_crps=self.initial_crps,
            validations_since_best=self.validations_since_best,
            seconds=self.seconds,
            metrics={"sums": sums, "trainLoss": self.train_loss, "lines": lines},
        )

    @property
    def position(self) -> tuple[int, int, bool]:
        """What tells two states of one stage apart."""
        return self.step, self.epoch, self.initial_loss is not None

    def validated(self, epoch: int, loss: float, crps: float | None, *, selects: bool) -> bool:
        """Takes over an epoch's validation and returns whether its weights are the best so far.

        The CRPS decides where there is one, else the loss. A validation that does not select leaves the best as it is.
        """
        if self.initial_loss is None:
            self.initial_loss, self.initial_crps = loss, crps
        self.epoch = epoch
        if not selects:
            return False
        value, best = (loss, self.best_loss) if crps is None else (crps, self.best_crps)
        if best is not None and value >= best:
            self.validations_since_best += 1
            return False
        self.best_loss, self.best_crps, self.best_step, self.validations_since_best = loss, crps, self.step, 0
        return True


@dataclass
class Speed:
    """How fast windows are trained: since the last log line, and over this attempt."""

    windows: int = 0
    seconds: float = 0.0
    _since: tuple[float, int] = field(default=(0.0, 0), repr=False)

    def start(self, now: float, windows: int) -> None:
        """Training begins or goes on: what was before counts no longer."""
        self._since = (now, windows)

    def pause(self, seconds: float) -> None:
        """Leaves out time in which nothing was trained."""
        self._since = (self._since[0] + seconds, self._since[1])

    def measure(self, now: float, windows: int) -> float:
        """Windows per second since the last call or start."""
        seconds, trained = now - self._since[0], windows - self._since[1]
        self._since = (now, windows)
        self.seconds += seconds
        self.windows += trained
        return trained / seconds
