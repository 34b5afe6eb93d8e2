"""Which GPUs this machine has and which model gets which. No torch: nvidia-smi is asked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from itertools import pairwise


def visible_gpus(environ: Mapping[str, str]) -> list[str]:
    """Ids of the GPUs that may be used: those of CUDA_VISIBLE_DEVICES if it is set, else all."""
    allowed = environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [part.strip() for part in allowed.split(",") if part.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line[4:].split(":")[0].strip() for line in done.stdout.splitlines() if line.startswith("GPU ")]


def divided(gpus: Sequence[str], workers: int) -> list[list[str]]:
    """A share of the GPUs for each worker, none in two shares. With GPUs, there are at most as many workers as GPUs."""
    shares = min(workers, len(gpus)) if gpus else workers
    small, larger = divmod(len(gpus), shares)
    starts = [index * small + min(index, larger) for index in range(shares + 1)]
    return [list(gpus[start:end]) for start, end in pairwise(starts)]
