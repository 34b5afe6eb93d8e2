"""What a stage works with, and what it gives the loop: the loss of a training batch, the score of a validation batch.

A step calls `batch` and `loss`, with the model as wrapped for its processes; the loop calls `score`, in eval mode and
without gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from kronos_trainer.config import RunConfig, RunPaths, StageName
from kronos_trainer.data.bars import Bars
from kronos_trainer.data.windows import Splits
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.precision import Precision
from kronos_trainer.training.progress import Progress

if TYPE_CHECKING:
    from kronos_trainer.training.selection import Forecasts


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one attempt at a stage works with, on one rank."""

    run: RunConfig
    ranks: Ranks
    bars: Bars
    splits: Splits
    notes: tuple[str, ...]  # what is odd about the bars
    precision: Precision
    progress: Progress
    cache: Path  # directory for what may be computed again
    beat: Callable[[], None]  # shows life during long work, and raises Stopped when asked to stop
    weights: Callable[[StageName], Path]  # where the weights of an earlier stage lie; to be called on rank 0
    paths: RunPaths  # the run's files; rank 0 alone writes there
    keep: Callable[[], None]  # makes what was written there outlive the node; to be called on rank 0


class Task(Protocol):
    """A net and its objective. Indices are windows of the train or the validation split, int64 [B]."""

    @property
    def upstream_beta2(self) -> float | None:
        """AdamW's second coefficient with upstreamExact; None: the configured one."""

    @property
    def model(self) -> KronosTokenizer | KronosPredictor:
        """The bare model."""

    @property
    def forecasts(self) -> Forecasts | None:
        """Those whose CRPS selects the best weights; None: the loss does."""

    def batch(self, indices: Tensor) -> tuple[Tensor, ...]:
        """What the loss of these training windows is computed from, on the device. Draws nothing."""

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Mean loss of a batch, a scalar with gradients; `model` is the wrapped model. Never waits for the device."""

    def score(self, indices: Tensor) -> Tensor:
        """Sum of these validation windows' losses, a float64 scalar."""
