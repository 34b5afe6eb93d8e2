"""The Kronos tokenizer: a causal auto-encoder that turns each bar into a coarse and a fine id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kronos_trainer.model.cache import AttentionMemory
from kronos_trainer.model.layers import Block, Stack
from kronos_trainer.model.quantizer import BinarySphericalQuantizer, Reducer, identity


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Upstream's constructor arguments, which are also the keys of config.json."""

    d_in: int
    d_model: int
    n_heads: int
    ff_dim: int
    n_enc_layers: int
    n_dec_layers: int
    ffn_dropout_p: float
    attn_dropout_p: float
    resid_dropout_p: float
    s1_bits: int
    s2_bits: int
    beta: float
    gamma0: float
    gamma: float
    zeta: float
    group_size: int

    def __post_init__(self) -> None:
        """Raises ValueError naming the fields that do not fit together."""
        if self.d_model % (2 * self.n_heads):
            raise ValueError(f"d_model {self.d_model} must be a multiple of 2 * n_heads, which is {2 * self.n_heads}")
        if (self.s1_bits + self.s2_bits) % self.group_size:
            raise ValueError(f"s1_bits + s2_bits must be a multiple of group_size {self.group_size}")


class Reconstruction(NamedTuple):
    """Bars rebuilt from coarse ids alone and from both ids, each [B, T, d_in], and the quantizer's scalar loss."""

    coarse: Tensor
    fine: Tensor
    quantizer_loss: Tensor


class KronosTokenizer(nn.Module):
    """Encoder, binary spherical quantizer and one decoder for both the coarse and the fine reconstruction."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embed = nn.Linear(config.d_in, config.d_model)
        self.head = nn.Linear(config.d_model, config.d_in)
        # Upstream builds one block fewer than configured, in both stacks.
        self.encoder = Stack(Block(config) for _ in range(config.n_enc_layers - 1))
        self.decoder = Stack(Block(config) for _ in range(config.n_dec_layers - 1))
        self.quant_embed = nn.Linear(config.d_model, config.s1_bits + config.s2_bits)
        self.post_quant_embed_pre = nn.Linear(config.s1_bits, config.d_model)
        self.post_quant_embed = nn.Linear(config.s1_bits + config.s2_bits, config.d_model)
        self.tokenizer = BinarySphericalQuantizer(  # the quantizer, under upstream's state-dict key
            config.s1_bits,
            config.s2_bits,
            beta=config.beta,
            gamma0=config.gamma0,
            gamma=config.gamma,
            zeta=config.zeta,
            group_size=config.group_size,
        )

    def forward(self, x: Tensor, *, reduce_mean: Reducer = identity) -> Reconstruction:
        """Both reconstructions of normalised bars x [B, T, d_in], and the quantizer's loss."""
        directions = self._directions(x)
        with _no_autocast(x):
            codes, loss = self.tokenizer(directions, reduce_mean)
        coarse = self.post_quant_embed_pre(codes[..., : self.config.s1_bits])
        fine = self.post_quant_embed(codes)
        # Same weights for both, so one pass over the stacked batch.
        coarse, fine = self._decode(torch.cat((coarse, fine))).chunk(2)
        return Reconstruction(coarse, fine, loss)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Fine reconstruction [B, T, d_in] of normalised bars x [B, T, d_in], as `forward` gives it."""
        directions = self._directions(x)
        with _no_autocast(x):
            codes = self.tokenizer.codes(directions)
        return self._decode(self.post_quant_embed(codes))

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse and fine ids, int64 [B, T], of normalised bars x [B, T, d_in].

        Always in full float32: lower precision flips some per cent of the ids.
        """
        with _exact_matmul(), _no_autocast(x):
            return self.tokenizer.ids(self.tokenizer.codes(self._directions(x)))

    def decode(self, s1: Tensor, s2: Tensor, memories: Sequence[AttentionMemory] = ()) -> Tensor:
        """Normalised bars [B, T, d_in] of ids [B, T], which follow those in the memories and are added to them.

        Raises ValueError when they do not fit.
        """
        return self._decode(self.post_quant_embed(self.tokenizer.codes_of(s1, s2)), memories)

    def new_memories(self, batch: int, capacity: int) -> list[AttentionMemory]:
        """Empty memories of the decoder's blocks, for `capacity` positions of `batch` series."""
        heads, like = self.config.n_heads, self.head.weight
        head_dim = self.config.d_model // heads
        return [AttentionMemory.empty(batch, heads, capacity, head_dim, like=like) for _ in self.decoder]

    def _directions(self, x: Tensor) -> Tensor:
        """What is quantized, [B, T, D] in float32: ids hang on the sign of each number."""
        h = self.encoder(self.embed(x).float(), recompute=self._recompute)
        with _no_autocast(x):
            return self.quant_embed(h)

    def _decode(self, embedded: Tensor, memories: Sequence[AttentionMemory] = ()) -> Tensor:
        start = memories[0].length if memories else 0
        h = self.decoder(embedded.float(), start=start, memories=memories, recompute=self._recompute)
        with _no_autocast(h):
            return self.head(h)

    @property
    def _recompute(self) -> bool:
        return self.gradient_checkpointing and self.training


def _no_autocast(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)


@contextmanager
def _exact_matmul() -> Iterator[None]:
    """Float32 products in float32, where the trainer may have allowed TF32."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)
