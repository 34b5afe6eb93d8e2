"""The Kronos predictor: a decoder-only transformer over pairs of ids, coarse first, then fine given coarse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronos_trainer.model.cache import AttentionMemory, KeyValueCache
from kronos_trainer.model.layers import Attention, Block, RMSNorm, Stack, rotate

# Upstream builds this layer with its own default and ignores n_heads.
DEPENDENCY_HEADS = 4


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Upstream's constructor arguments, which are also the keys of config.json."""

    s1_bits: int
    s2_bits: int
    n_layers: int
    d_model: int
    n_heads: int
    ff_dim: int
    ffn_dropout_p: float
    attn_dropout_p: float
    resid_dropout_p: float
    token_dropout_p: float
    learn_te: bool

    def __post_init__(self) -> None:
        """Raises ValueError naming the fields that do not fit together."""
        for heads in (self.n_heads, DEPENDENCY_HEADS):
            if self.d_model % (2 * heads):
                raise ValueError(
                    f"d_model {self.d_model} must be a multiple of {2 * heads}: {heads} heads of even size"
                )


class KronosPredictor(nn.Module):
    """Upstream's `Kronos`: logits of the next coarse id, and of the next fine id given a coarse one."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.token_drop = nn.Dropout(config.token_dropout_p)
        self.embedding = PairEmbedding(config)
        self.time_emb = TimeEmbedding(config)
        self.transformer = Stack(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model)
        self.dep_layer = DependencyLayer(config.d_model)
        self.head = Heads(config)
        self._initialise()

    def forward(
        self, s1: Tensor, s2: Tensor, stamps: Tensor, *, sibling: Tensor | None = None, causal: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Coarse logits [B, T, 2^s1_bits] and fine logits [B, T, 2^s2_bits] of the bar after each position.

        s1 and s2 are ids [B, T]; stamps [B, T, 5] their minute, hour, weekday, day and month. The fine logits are
        conditioned on `sibling` [B, T], or else on one draw per position from the coarse distribution.
        With causal=False the dependency layer sees later positions, as upstream's does in eval mode.
        """
        h = self.context(s1, s2, stamps)
        coarse = self.head.proj_s1(h)
        if sibling is None:
            sibling = draw(coarse)
        fine = self.head.proj_s2(self.dep_layer(h, self.embedding.emb_s1(sibling), causal=causal))
        return coarse, fine

    def context(self, s1: Tensor, s2: Tensor, stamps: Tensor) -> Tensor:
        """Normed hidden states [B, T, d] of ids [B, T] with stamps [B, T, 5]."""
        recompute = self.gradient_checkpointing and self.training
        return self.norm(self.transformer(self._embed(s1, s2, stamps), recompute=recompute))

    def new_cache(self, batch: int, capacity: int) -> KeyValueCache:
        """Empty cache for `capacity` positions of `batch` series."""
        width, like = self.config.d_model, self.norm.weight

        def memory(heads: int) -> AttentionMemory:
            return AttentionMemory.empty(batch, heads, capacity, width // heads, like=like)

        layers = [memory(self.config.n_heads) for _ in self.transformer]
        return KeyValueCache(layers, memory(DEPENDENCY_HEADS))

    @torch.no_grad()
    def extend(self, s1: Tensor, s2: Tensor, stamps: Tensor, cache: KeyValueCache) -> Tensor:
        """Normed hidden states [B, t, d] of t new positions after those in the cache, which then holds them too.

        Raises ValueError when they do not fit: positions count from the window's start, so a window that slides
        has to be computed anew with `context`.
        """
        x = self._embed(s1, s2, stamps)
        h = self.norm(self.transformer(x, start=cache.length, memories=cache.layers))
        cache.dependency.append(*self.dep_layer.remember(h))
        return h

    def coarse_logits(self, h: Tensor) -> Tensor:
        """Coarse logits [B, 2^s1_bits] after hidden states h [B, d]."""
        return self.head.proj_s1(h)

    def fine_logits(self, h: Tensor, s1: Tensor, memory: KeyValueCache | Tensor) -> Tensor:
        """Fine logits [B, 2^s2_bits] after the last hidden states h [B, d], given the next coarse ids s1 [B].

        memory is the cache, or all hidden states [B, T, d] where there is none.
        """
        if isinstance(memory, KeyValueCache):
            states = memory.dependency
        else:
            states = AttentionMemory.of(*self.dep_layer.remember(memory))
        return self.head.proj_s2(self.dep_layer.query(h, self.embedding.emb_s1(s1), states))

    def _embed(self, s1: Tensor, s2: Tensor, stamps: Tensor) -> Tensor:
        return self.token_drop(self.embedding(s1, s2) + self.time_emb(stamps))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.d_model**-0.5)


class PairEmbedding(nn.Module):
    """Coarse and fine embeddings, scaled by sqrt(d) and fused into one vector."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.scale = config.d_model**0.5
        self.emb_s1 = nn.Embedding(2**config.s1_bits, config.d_model)
        self.emb_s2 = nn.Embedding(2**config.s2_bits, config.d_model)
        self.fusion_proj = nn.Linear(2 * config.d_model, config.d_model)

    def forward(self, s1: Tensor, s2: Tensor) -> Tensor:
        """Embeddings [B, T, d] of ids [B, T]."""
        return self.fusion_proj(torch.cat((self.emb_s1(s1), self.emb_s2(s2)), dim=-1) * self.scale)


class FrozenEmbedding(nn.Module):
    """A table that is not trained, under upstream's state-dict key."""

    def __init__(self, rows: int, d_model: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(rows, d_model).requires_grad_(False)

    @property
    def weight(self) -> Tensor:
        """The table [rows, d]."""
        return self.emb.weight


class TimeEmbedding(nn.Module):
    """Sum of one vector each for minute, hour, weekday (Monday 0), day and month (both from 1)."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        table = nn.Embedding if config.learn_te else FrozenEmbedding
        self.minute_embed = table(60, config.d_model)
        self.hour_embed = table(24, config.d_model)
        self.weekday_embed = table(7, config.d_model)
        self.day_embed = table(32, config.d_model)
        self.month_embed = table(13, config.d_model)

    def forward(self, stamps: Tensor) -> Tensor:
        """Embeddings [B, T, d] of stamps [B, T, 5]."""
        tables = (self.minute_embed, self.hour_embed, self.weekday_embed, self.day_embed, self.month_embed)
        return sum_of_rows(stamps, *(table.weight for table in tables))


class _SumOfRows(torch.autograd.Function):
    """One row of each table, added up; the gradients of all tables are one matrix product.

    An embedding's own backward pass sorts its ids, or adds with atomics in any order, and both are slow where few rows
    take many ids: those of a calendar do.
    """

    @staticmethod
    def forward(ctx: Any, stamps: Tensor, *tables: Tensor) -> Tensor:
        ctx.save_for_backward(stamps)
        ctx.rows = [len(table) for table in tables]
        minute, hour, weekday, day, month = (
            F.embedding(ids, table) for ids, table in zip(stamps.unbind(-1), tables, strict=True)
        )
        # Upstream's order of summation, for equal rounding.
        return hour + weekday + day + month + minute

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (stamps,) = ctx.saved_tensors
        grad = grads[0].flatten(0, -2)
        columns = stamps.flatten(0, -2).unbind(-1)
        shares = [
            ids[:, None] == torch.arange(rows, device=ids.device) for ids, rows in zip(columns, ctx.rows, strict=True)
        ]
        hot = torch.cat(shares, dim=1).to(grad.dtype)  # [B*T, rows of all tables], a 1 in each table's share
        with torch.autocast(grad.device.type, enabled=False):
            return None, *torch.split(hot.t() @ grad, ctx.rows)


# Of stamps [..., 5] and the tables [rows, d] of their columns: the sum [..., d].
sum_of_rows: Callable[..., Tensor] = _SumOfRows.apply


class DependencyLayer(nn.Module):
    """Lets a coarse id look at the hidden states, and adds what it finds to them."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.cross_attn = Attention(d_model, DEPENDENCY_HEADS)
        self.norm = RMSNorm(d_model)

    def forward(self, h: Tensor, sibling: Tensor, *, causal: bool) -> Tensor:
        """States [B, T, d] for the fine head, from h and the embeddings of the coarse ids, both [B, T, d]."""
        rotation = self.cross_attn.rotary(0, h.shape[1])
        keys, values = self.remember(h)
        queries = rotate(self.cross_attn.queries(sibling), rotation)
        return self.norm(h + self.cross_attn.attend(queries, rotate(keys, rotation), values, causal=causal))

    def remember(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, T, H, head_dim] of hidden states h [B, T, d], not rotated."""
        return self.cross_attn.keys(h), self.cross_attn.values(h)

    def query(self, h: Tensor, sibling: Tensor, memory: AttentionMemory) -> Tensor:
        """States [B, d] for the fine head of the last position alone: h and sibling are [B, d].

        `memory` holds what `remember` gives of the position and those before it.

        Nothing is rotated: upstream builds its angles from the number of queries, so that with one query every key
        has position 0. The released weights are used that way.
        """
        heads = memory.attend(self.cross_attn.queries(sibling[:, None]))
        return self.norm(h + self.cross_attn.project(heads)[:, 0])


class Heads(nn.Module):
    """Projections to coarse and fine logits."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.proj_s1 = nn.Linear(config.d_model, 2**config.s1_bits)
        self.proj_s2 = nn.Linear(config.d_model, 2**config.s2_bits)


@torch.no_grad()
def draw(logits: Tensor) -> Tensor:
    """One id [...] per row of logits [..., V], from softmax(logits), with the default generator of the device.

    Inverse transform: one uniform a row, where torch.multinomial draws one exponential for each of the V ids.
    """
    distribution = logits.float().softmax(-1).cumsum(-1)
    # Up to the rounded total instead of 1, so that no draw lands past the end.
    point = torch.rand_like(distribution[..., :1]) * distribution[..., -1:]
    return torch.searchsorted(distribution, point, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
