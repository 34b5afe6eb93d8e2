"""How one token is drawn from logits. Pure: the randomness is an argument. Called by the generation loop."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kronos_trainer.forecast.sampling import Sampling


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
