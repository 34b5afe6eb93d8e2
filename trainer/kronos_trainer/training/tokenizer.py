"""The stage that trains the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from kronos_trainer.data.windows import Splits
from kronos_trainer.model.quantizer import Reducer
from kronos_trainer.model.tokenizer import KronosTokenizer, Reconstruction
from kronos_trainer.training.precision import Precision
from kronos_trainer.training.task import Work
from kronos_trainer.training.transfers import to_device


@contextmanager
def tokenizer_task(work: Work, model: KronosTokenizer) -> Iterator[TokenizerTask]:
    """The task around the stage's first weights."""
    yield TokenizerTask(model.to(work.ranks.device), work.splits, work.precision, work.ranks.mean)


class TokenizerTask:
    """Rebuild bars from their ids. Scored by the squared error of the fine reconstruction."""

    upstream_beta2 = 0.999  # upstream's script never passes its configured betas
    forecasts = None

    def __init__(self, model: KronosTokenizer, splits: Splits, precision: Precision, reduce_mean: Reducer) -> None:
        self.model = model
        self._splits = splits
        self._precision = precision
        self._reduce_mean = reduce_mean

    def batch(self, indices: Tensor) -> tuple[Tensor]:
        """Normalised bars, float32 [B, T, 6]."""
        return (to_device(self._splits.train.values(indices), self._precision.device),)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Half the sum of both squared errors and the quantizer's loss (upstream finetune/train_tokenizer.py).

        It may be negative: the quantizer rewards an even use of its codes. Under gradient accumulation that use is
        judged per micro-step over all ranks, since it is no mean over windows.
        """
        (x,) = batch
        with self._precision.autocast():
            rebuilt: Reconstruction = model(x, reduce_mean=self._reduce_mean)
        errors = F.mse_loss(rebuilt.coarse.float(), x) + F.mse_loss(rebuilt.fine.float(), x)
        return (errors + rebuilt.quantizer_loss) / 2

    def score(self, indices: Tensor) -> Tensor:
        """Squared error of the fine reconstruction, a mean over a window's bars and features."""
        x = to_device(self._splits.validation.values(indices), self._precision.device)
        with self._precision.autocast():
            fine = self.model.reconstruct(x)
        return (fine.float() - x).square().mean((1, 2)).double().sum()
