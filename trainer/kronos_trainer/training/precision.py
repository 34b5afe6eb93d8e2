"""Which number format the matrix products of training use. Losses, the quantizer and tokenising are always float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from kronos_trainer.config import Training
from kronos_trainer.errors import BadEnvironment


@dataclass(frozen=True)
class Precision:
    """fp32, tf32 or bf16 on a device."""

    name: str
    device: torch.device

    def autocast(self) -> AbstractContextManager[object]:
        """Context for a model's forward pass."""
        if self.name == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()


def choose_precision(training: Training, device: torch.device) -> Precision:
    """The precision that a run asks for, set up for this process. Raises BadEnvironment for TF32 without a GPU."""
    name = training.precision
    if name == "auto":
        name = "bf16" if _native_bf16(device) else "fp32"
    if name == "tf32" and device.type != "cuda":
        raise BadEnvironment("training.precision tf32 needs an NVIDIA GPU, and there is none; use fp32 or auto")
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    return Precision(name, device)


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Without AMX a processor multiplies bf16 at half the speed of float32, even where it has AVX512_BF16.
    return bool(torch.cpu._is_amx_tile_supported())
