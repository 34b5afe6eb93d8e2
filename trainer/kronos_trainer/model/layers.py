"""Transformer pieces shared by the tokenizer and the predictor; attribute names are upstream's state-dict keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kronos_trainer.model.cache import AttentionMemory

# Factors of a head and of the head with its halves swapped, each [T, head_dim] in float32.
Rotation = tuple[Tensor, Tensor]


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, computed and returned in float32."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


class RotaryEmbedding(nn.Module):
    """Angles of rotary position embedding (RoFormer, arXiv 2104.09864) with base 10000."""

    inv_freq: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        # Persistent: upstream checkpoints hold it once per attention.
        self.register_buffer("inv_freq", 1.0 / (10000 ** (torch.arange(0, head_dim, 2).float() / head_dim)))

    def forward(self, start: int, length: int) -> Rotation:
        """Rotation of positions start .. start + length - 1.

        Computed afresh each time: it is tiny, and a cached table could be of another device or start.
        """
        positions = torch.arange(start, start + length, device=self.inv_freq.device, dtype=torch.float32)
        # A plain product, since autocast would round an outer product or einsum to bfloat16.
        angles = positions[:, None] * self.inv_freq
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Heads x [B, T, H, head_dim] turned by their positions, in the half-split (not interleaved) layout."""
    cos, sin = (table[:, None] for table in rotation)
    return (x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin).type_as(x)


class Attention(nn.Module):
    """Projections and scaled dot-product attention over heads laid out as [B, T, H, head_dim]."""

    def __init__(self, d_model: int, n_heads: int, attn_dropout: float = 0.0, resid_dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attn_dropout = attn_dropout
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.rotary = RotaryEmbedding(d_model // n_heads)
        self.resid_dropout = nn.Dropout(resid_dropout)

    def queries(self, x: Tensor) -> Tensor:
        """Queries [B, T, H, head_dim] of x [B, T, d]."""
        return self.q_proj(x).unflatten(-1, (self.n_heads, -1))

    def keys(self, x: Tensor) -> Tensor:
        """Keys [B, T, H, head_dim] of x [B, T, d]."""
        return self.k_proj(x).unflatten(-1, (self.n_heads, -1))

    def values(self, x: Tensor) -> Tensor:
        """Values [B, T, H, head_dim] of x [B, T, d]."""
        return self.v_proj(x).unflatten(-1, (self.n_heads, -1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
        """Projected outputs [B, T, d] for heads [B, T, H, head_dim]."""
        heads = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            dropout_p=self.attn_dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.project(heads.transpose(1, 2))

    def project(self, heads: Tensor) -> Tensor:
        """Outputs [B, T, d] of heads [B, T, H, head_dim]."""
        return self.resid_dropout(self.out_proj(heads.flatten(-2)))


class SelfAttention(Attention):
    """Causal self-attention with rotary positions."""

    def forward(self, x: Tensor, rotation: Rotation, memory: AttentionMemory | None = None) -> Tensor:
        """Outputs [B, T, d] of x [B, T, d], which follows what is in memory and is added to it."""
        # Turned together: half as many small operations, which is what generating one bar at a time consists of.
        q, k = rotate(torch.cat((self.queries(x), self.keys(x)), dim=2), rotation).chunk(2, dim=2)
        v = self.values(x)
        if memory is None:
            return self.attend(q, k, v, causal=True)
        memory.append(k, v)
        return self.project(memory.attend(q))


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202) without biases: w1 is the gate, w3 the input, w2 the output."""

    def __init__(self, d_model: int, ff_dim: int, dropout: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(d_model, ff_dim, bias=False)
        self.w3 = nn.Linear(d_model, ff_dim, bias=False)
        self.w2 = nn.Linear(ff_dim, d_model, bias=False)
        self.ffn_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn_dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)))


class BlockConfig(Protocol):
    """The settings of a block that both networks share, by upstream's names."""

    @property
    def d_model(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def ff_dim(self) -> int: ...
    @property
    def ffn_dropout_p(self) -> float: ...
    @property
    def attn_dropout_p(self) -> float: ...
    @property
    def resid_dropout_p(self) -> float: ...


class Block(nn.Module):
    """Pre-norm transformer block: attention, then feed-forward, each added to the stream."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.d_model)
        self.self_attn = SelfAttention(config.d_model, config.n_heads, config.attn_dropout_p, config.resid_dropout_p)
        self.norm2 = RMSNorm(config.d_model)
        self.ffn = FeedForward(config.d_model, config.ff_dim, config.ffn_dropout_p)

    def forward(self, x: Tensor, rotation: Rotation, memory: AttentionMemory | None = None) -> Tensor:
        x = x + self.self_attn(self.norm1(x), rotation, memory)
        return x + self.ffn(self.norm2(x))


class Stack(nn.ModuleList):
    """Blocks one after the other, all with the same rotation."""

    def forward(
        self,
        x: Tensor,
        *,
        start: int = 0,
        memories: Sequence[AttentionMemory] = (),
        recompute: bool = False,
    ) -> Tensor:
        """Stream [B, T, d] after every block; x [B, T, d] begins at position start.

        With recompute, activations inside a block are computed again in the backward pass instead of kept.
        """
        if not len(self):
            return x
        rotation = cast(Block, self[0]).self_attn.rotary(start, x.shape[1])
        for index, block in enumerate(self):
            if recompute:
                x = checkpoint(block, x, rotation, use_reentrant=False)
            else:
                x = block(x, rotation, memories[index] if memories else None)
        return x
