"""What differs between the two stages: the loss of a training batch and the score of a validation batch.

The loop calls `loss` with the model as wrapped for its processes, and `score` in eval mode without gradients.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronos_trainer.data.windows import Splits
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.quantizer import Reducer
from kronos_trainer.model.tokenizer import KronosTokenizer, Reconstruction
from kronos_trainer.training.precision import Precision
from kronos_trainer.training.tokens import TokenSource


class Stage(Protocol):
    """One stage's model and objective. Indices are windows of the train or the validation split, int64 [B]."""

    @property
    def model(self) -> KronosTokenizer | KronosPredictor:
        """The bare model."""

    def loss(self, model: nn.Module, indices: Tensor) -> Tensor:
        """Mean loss of these training windows, a scalar with gradients; `model` is the wrapped model."""

    def score(self, indices: Tensor) -> Tensor:
        """Sum of these validation windows' losses, a float64 scalar."""


class TokenizerTask:
    """Rebuild bars from their ids. Scored by the squared error of the fine reconstruction."""

    def __init__(self, model: KronosTokenizer, splits: Splits, precision: Precision, reduce_mean: Reducer) -> None:
        self.model = model
        self._splits = splits
        self._precision = precision
        self._reduce_mean = reduce_mean

    def loss(self, model: nn.Module, indices: Tensor) -> Tensor:
        """Half the sum of both squared errors and the quantizer's loss (upstream finetune/train_tokenizer.py).

        It may be negative: the quantizer rewards an even use of its codes. Under gradient accumulation that use is
        judged per micro-step over all ranks, since it is no mean over windows.
        """
        x = to_device(self._splits.train.gather(indices).values, self._precision.device)
        with self._precision.autocast():
            rebuilt: Reconstruction = model(x, reduce_mean=self._reduce_mean)
        errors = F.mse_loss(rebuilt.coarse.float(), x) + F.mse_loss(rebuilt.fine.float(), x)
        return (errors + rebuilt.quantizer_loss) / 2

    def score(self, indices: Tensor) -> Tensor:
        """Squared error of the fine reconstruction, a mean over a window's bars and features."""
        x = to_device(self._splits.validation.gather(indices).values, self._precision.device)
        with self._precision.autocast():
            fine = self.model.reconstruct(x)
        return (fine.float() - x).square().mean((1, 2)).double().sum()


class PredictorTask:
    """Predict the ids of the next bar. Scored by the mean of both cross entropies, in nats."""

    def __init__(
        self,
        model: KronosPredictor,
        train: TokenSource,
        validation: TokenSource,
        precision: Precision,
        *,
        upstream_exact: bool,
    ) -> None:
        self.model = model
        self._train = train
        self._validation = validation
        self._precision = precision
        self._upstream_exact = upstream_exact

    def loss(self, model: nn.Module, indices: Tensor) -> Tensor:
        """Mean of both cross entropies over all positions; fine ids are predicted given sampled coarse ids."""
        s1, s2, stamps = (to_device(tensor, self._precision.device) for tensor in self._train.gather(indices))
        with self._precision.autocast():
            coarse, fine = model(s1[:, :-1], s2[:, :-1], stamps[:, :-1])
        return _cross_entropies(coarse, fine, s1[:, 1:], s2[:, 1:]).mean()

    def score(self, indices: Tensor) -> Tensor:
        """As the loss, but fine ids are predicted given the true coarse ids, so that no chance enters.

        With upstreamExact as upstream scores: sampled coarse ids, and a dependency layer that sees later bars.
        """
        s1, s2, stamps = (to_device(tensor, self._precision.device) for tensor in self._validation.gather(indices))
        targets = s1[:, 1:]
        with self._precision.autocast():
            coarse, fine = self.model(
                s1[:, :-1],
                s2[:, :-1],
                stamps[:, :-1],
                sibling=None if self._upstream_exact else targets,
                causal=not self._upstream_exact,
            )
        return _cross_entropies(coarse, fine, targets, s2[:, 1:]).mean(1).double().sum()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without waiting for the copy."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _cross_entropies(coarse: Tensor, fine: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
    """Mean of the coarse and the fine cross entropy at each position [B, T], in float32."""
    losses = (
        F.cross_entropy(logits.float().flatten(0, 1), ids.flatten(), reduction="none")
        for logits, ids in ((coarse, s1), (fine, s2))
    )
    return torch.stack(tuple(losses)).mean(0).view(s1.shape)
