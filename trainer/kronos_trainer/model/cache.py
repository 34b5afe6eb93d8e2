"""Keys and values of earlier positions, so that generating a bar costs one position; used by the predictor."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class AttentionMemory:
    """Keys and values of one attention, in room for `capacity` positions."""

    def __init__(self, keys: Tensor, values: Tensor, length: int = 0) -> None:
        """keys and values [B, capacity, H, head_dim], of which the first `length` positions are filled."""
        self._keys = keys
        self._values = values
        self.length = length

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int], like: Tensor) -> AttentionMemory:
        """Memory of shape [B, capacity, H, head_dim] with the dtype and device of a tensor."""
        return cls(like.new_empty(shape), like.new_empty(shape))

    @property
    def filled(self) -> tuple[Tensor, Tensor]:
        """Keys and values [B, length, H, head_dim]."""
        return self._keys[:, : self.length], self._values[:, : self.length]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Everything filled, after adding keys and values [B, t, H, head_dim]. Raises ValueError when full."""
        start, stop = self.length, self.length + keys.shape[1]
        if stop > self._keys.shape[1]:
            raise ValueError(f"position {stop} does not fit in a cache of {self._keys.shape[1]} positions")
        self._keys[:, start:stop] = keys
        self._values[:, start:stop] = values
        self.length = stop
        return self.filled

    def expand(self, copies: int) -> AttentionMemory:
        """Memory of B * copies rows; the copies of one row lie together."""
        batch, *rest = self._keys.shape
        expanded = AttentionMemory.empty((batch * copies, *rest), like=self._keys)  # type: ignore[arg-type]
        expanded.append(*(part.repeat_interleave(copies, dim=0) for part in self.filled))
        return expanded


class KeyValueCache:
    """Memories of every block of a predictor and of its dependency layer."""

    def __init__(self, layers: Sequence[AttentionMemory], dependency: AttentionMemory) -> None:
        self.layers = layers
        self.dependency = dependency

    @property
    def length(self) -> int:
        """Number of cached positions."""
        return self.dependency.length

    def expand(self, copies: int) -> KeyValueCache:
        """Cache of B * copies rows: prefill once, then draw several paths of each series."""
        return KeyValueCache([layer.expand(copies) for layer in self.layers], self.dependency.expand(copies))
