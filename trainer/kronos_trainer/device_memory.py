"""The memory of a GPU: what of it was used, and errors that say that there is too little of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from kronos_trainer.errors import TrainerError

# Only torch's own allocator has a class of error for it; CUDA, its libraries and NCCL say it in words.
_WORDS = re.compile(
    r"out of memory|(CUBLAS|CUDNN|CUSOLVER)_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation|Failed to CUDA calloc",
    re.IGNORECASE,
)


def is_lack_of_memory(error: BaseException | None) -> bool:
    """Whether torch, CUDA or NCCL has failed because the GPU has too little memory left."""
    return isinstance(error, RuntimeError) and (
        isinstance(error, torch.OutOfMemoryError) or _WORDS.search(str(error)) is not None
    )


@contextmanager
def lack_of_memory_as(told: Callable[[], TrainerError]) -> Iterator[None]:
    """Raises what `told` returns in place of an error that says that the GPU has too little memory."""
    try:
        yield
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
        raise told() from error


def peak_gpu_bytes(device: torch.device) -> int | None:
    """The most memory that this process's tensors have taken on its GPU so far; None on a CPU. Does not wait for it."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
