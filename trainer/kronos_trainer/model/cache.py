"""Keys and values of earlier positions, so that generating a bar costs one position; used by both nets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


class AttentionMemory:
    """Keys and values of one attention: at most one prefix that rows share, then room of every row's own."""

    def __init__(self, keys: Tensor, values: Tensor, *, prefix: tuple[Tensor, Tensor] | None = None) -> None:
        """Room [B, H, capacity, head_dim] for keys and values, after a prefix [B / copies, H, P, head_dim]."""
        self._keys = keys
        self._values = values
        self._prefix = prefix
        self._own = 0

    @classmethod
    def empty(cls, batch: int, heads: int, capacity: int, head_dim: int, *, like: Tensor) -> AttentionMemory:
        """Memory for `capacity` positions of each row, with the dtype and device of a tensor."""
        shape = batch, heads, capacity, head_dim
        return cls(like.new_empty(shape), like.new_empty(shape))

    @classmethod
    def of(cls, keys: Tensor, values: Tensor) -> AttentionMemory:
        """Memory that holds these keys and values [B, T, H, head_dim], and has room for no more."""
        memory = cls(keys.transpose(1, 2), values.transpose(1, 2))
        memory._own = keys.shape[1]
        return memory

    @property
    def length(self) -> int:
        """Number of positions that a row has."""
        return self._own + (self._prefix[0].shape[2] if self._prefix else 0)

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Adds keys and values [B, t, H, head_dim]. Raises ValueError when they do not fit."""
        start, stop = self._own, self._own + keys.shape[1]
        if stop > self._keys.shape[2]:
            raise ValueError(f"position {stop} does not fit in a cache of {self._keys.shape[2]} positions")
        self._keys[:, :, start:stop] = keys.transpose(1, 2)
        self._values[:, :, start:stop] = values.transpose(1, 2)
        self._own = stop

    def branch(self, copies: int, capacity: int) -> AttentionMemory:
        """Memory of B * copies rows, each with this row's positions and `capacity` to come; copies lie together.

        The positions so far are kept, and multiplied with, once for all copies of a row. A single copy has nothing to
        share, and is faster with all its positions in one room.
        """
        assert self._prefix is None, "a branch does not branch"
        batch, heads, _, head_dim = self._keys.shape
        shared = self._own if copies > 1 else 0
        room = self._keys.new_empty(batch * copies, heads, self._own - shared + capacity, head_dim)
        branch = AttentionMemory(room, torch.empty_like(room), prefix=self._filled if shared else None)
        if not shared:
            branch.append(*(part.transpose(1, 2) for part in self._filled))
        return branch

    def attend(self, queries: Tensor) -> Tensor:
        """Heads [B, t, H, head_dim] for queries [B, t, H, head_dim] of the last t positions; none sees a later one."""
        q, (k, v) = queries.transpose(1, 2), self._filled
        new = queries.shape[1]
        past = self._own - new
        # is_causal aligns the first query with the first key, which is wrong after a prefix.
        mask = q.new_ones(new, self._own, dtype=torch.bool).tril(past) if new > 1 and self.length > new else None
        if self._prefix is None:
            heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=past == 0)
        else:
            heads = _branched(q, self._prefix, (k, v), mask)
        return heads.transpose(1, 2)

    @property
    def _filled(self) -> tuple[Tensor, Tensor]:
        return self._keys[:, :, : self._own], self._values[:, :, : self._own]


class KeyValueCache:
    """Memories of every block of a predictor and of its dependency layer."""

    def __init__(self, layers: Sequence[AttentionMemory], dependency: AttentionMemory) -> None:
        self.layers = layers
        self.dependency = dependency

    @property
    def length(self) -> int:
        """Number of cached positions."""
        return self.dependency.length

    def branch(self, copies: int, capacity: int) -> KeyValueCache:
        """Cache of B * copies rows: prefill once, then draw several paths of each series."""
        return KeyValueCache(
            [layer.branch(copies, capacity) for layer in self.layers], self.dependency.branch(copies, capacity)
        )


def _branched(q: Tensor, prefix: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
    """Attention of queries [R*C, H, t, d] to a prefix [R, H, P, d] and to keys and values [R*C, H, S, d] of their own.

    One matrix product a series for the C copies, where attention to C copies of the prefix would be C small ones.
    """
    rows, new = len(prefix[0]), q.shape[2]
    copies = len(q) // rows

    def together(x: Tensor) -> Tensor:  # [R*C, H, t, n] -> [R, H, C*t, n]
        return x.view(rows, copies, *x.shape[1:]).transpose(1, 2).flatten(2, 3)

    def apart(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], copies, new, x.shape[3]).transpose(1, 2).flatten(0, 1)

    q = (q * q.shape[-1] ** -0.5).contiguous()
    near = q @ own[0].transpose(-1, -2)
    if mask is not None:
        near = near.masked_fill(~mask, -torch.inf)
    scores = torch.cat((together(q) @ prefix[0].transpose(-1, -2), together(near)), dim=-1)
    far, near = scores.softmax(dim=-1).tensor_split([prefix[0].shape[2]], dim=-1)
    return apart(far @ prefix[1]) + apart(near.contiguous()) @ own[1]
