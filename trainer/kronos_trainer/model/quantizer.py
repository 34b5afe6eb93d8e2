"""Binary spherical quantization (arXiv 2406.07548) in upstream Kronos' form; the tokenizer's bottleneck."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Maps a mean over this process's batch to the mean over the whole batch, differentiably.
Reducer = Callable[[Tensor], Tensor]


def identity(mean: Tensor) -> Tensor:
    """The reducer of a process that has the whole batch."""
    return mean


class Quantized(NamedTuple):
    """Codes [B, T, D] with straight-through gradients, and the scalar loss of the quantizer."""

    codes: Tensor
    loss: Tensor


class BinarySphericalQuantizer(nn.Module):
    """Rounds a direction in D dimensions to the nearest corner (+-1 / sqrt(D), ...) and reads it as two ids.

    The first s1_bits signs are the coarse id, the rest the fine id, each little-endian.
    """

    def __init__(
        self, s1_bits: int, s2_bits: int, *, beta: float, gamma0: float, gamma: float, zeta: float, group_size: int
    ) -> None:
        super().__init__()
        self.s1_bits = s1_bits
        self.s2_bits = s2_bits
        self.dim = s1_bits + s2_bits
        self.beta = beta
        self.gamma0 = gamma0
        self.gamma = gamma
        self.zeta = zeta
        # Nothing reads these: upstream's big-endian index bases, which its checkpoints contain.
        self.bsq = nn.Module()
        self.bsq.register_buffer("basis", 2 ** torch.arange(self.dim - 1, -1, -1))
        self.bsq.register_buffer("group_basis", 2 ** torch.arange(group_size - 1, -1, -1))

    def forward(self, u: Tensor, reduce_mean: Reducer = identity) -> Quantized:
        """Codes and loss of u [B, T, D], float32.

        The codebook entropy is no mean over windows but a function of the batch mean of each bit's probability,
        so that mean alone goes through reduce_mean.
        """
        z = F.normalize(u, dim=-1)
        codes = self._round(z)
        commitment = self.beta * (codes.detach() - z).square().sum(-1).mean()
        # Probability of the negative side. Bits are independent, so entropies add up over them (upstream
        # model/module.py, soft_entropy_loss; its grouped codebook is computed there but never used).
        p = torch.sigmoid(-4 * z / self.dim**0.5)
        per_sample = _entropy(p).sum(-1).mean()
        codebook = _entropy(reduce_mean(p.flatten(0, -2).mean(0))).sum()
        return Quantized(codes, commitment + self.zeta * (self.gamma0 * per_sample - self.gamma * codebook))

    def codes(self, u: Tensor) -> Tensor:
        """Codes [B, T, D] of u [B, T, D], without the loss."""
        return self._round(F.normalize(u, dim=-1))

    def ids(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse and fine ids, int64 [B, T], of codes [B, T, D]."""
        bits = (codes >= 0).long()
        return _read(bits[..., : self.s1_bits]), _read(bits[..., self.s1_bits :])

    def codes_of(self, s1: Tensor, s2: Tensor) -> Tensor:
        """Codes [B, T, D], float32, of ids [B, T]."""
        bits = torch.cat((_write(s1, self.s1_bits), _write(s2, self.s2_bits)), dim=-1)
        return (bits.float() * 2 - 1) * self.dim**-0.5

    def _round(self, z: Tensor) -> Tensor:
        # torch.sign would map 0 to 0; here it belongs to the negative side.
        corner = torch.where(z > 0, 1.0, -1.0)
        return (z + (corner - z).detach()) * self.dim**-0.5


def _entropy(p: Tensor) -> Tensor:
    """Entropy in nats of a coin with probability p."""
    q = 1 - p
    return -(p * torch.log(p + 1e-8) + q * torch.log(q + 1e-8))


def _read(bits: Tensor) -> Tensor:
    return (bits << torch.arange(bits.shape[-1], device=bits.device)).sum(-1)


def _write(ids: Tensor, bits: int) -> Tensor:
    return (ids.unsqueeze(-1) >> torch.arange(bits, device=ids.device)) & 1
