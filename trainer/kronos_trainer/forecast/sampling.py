"""How one token is drawn from logits. Pure: the randomness is an argument. Called by the generation loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kronos_trainer.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a forecast is drawn. The defaults are those of upstream's `KronosPredictor.predict`.

    Raises ConfigError naming the value that is out of range.
    """

    temperature: float = 1.0
    """Divides the logits: below 1 sharpens, above 1 flattens."""
    top_k: int = 0
    """Draw among the k likeliest tokens; 0: among all. 1 makes the forecast deterministic."""
    top_p: float = 0.9
    """Of those, draw among the likeliest that together exceed this probability; 1: among all."""
    samples: int = 1
    """Paths per series, averaged in normalised space."""
    seed: int = 0
    """The same seed, history and weights give the same forecast."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"temperature {self.temperature:g} must be above 0; for no randomness use top-k 1")
        if self.top_k < 0:
            raise ConfigError(f"top-k {self.top_k} must be 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top-p {self.top_p:g} must be above 0 and at most 1")
        if self.samples < 1:
            raise ConfigError(f"samples {self.samples} must be 1 or more")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities [N, V] that are drawn from, for logits [N, V].

    Top-k comes first and keeps ties at the k-th logit; the nucleus is then taken of what remains, renormalised, and
    includes the token that crosses top_p. Upstream's `top_k_top_p_filtering` drops top_p as soon as top_k is given.
    """
    logits = logits.float() / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        weakest = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < weakest, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        cumulative = ordered.softmax(dim=-1).cumsum(dim=-1)
        before = F.pad(cumulative[..., :-1], (1, 0))
        outside = (before > sampling.top_p).scatter(-1, order, before > sampling.top_p)
        logits = logits.masked_fill(outside, -torch.inf)
    return logits.softmax(dim=-1)


def draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """One id per row, int64 [N], by inverse transform of probabilities [N, V] at uniforms [N] in [0, 1).

    A token of probability 0 is never drawn: in double precision the target stays strictly below the total.
    """
    cumulative = weights.double().cumsum(dim=-1)
    target = uniforms.double().unsqueeze(-1) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)
