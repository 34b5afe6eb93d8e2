"""Which GPUs this machine has and which model gets which. No torch: nvidia-smi is asked."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from itertools import pairwise

_CARD = re.compile(r"GPU (\d+):.*\(UUID: (GPU-[^)]+)\)")
_SLICE = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)")


def visible_gpus(environ: Mapping[str, str]) -> list[str]:
    """Ids of the GPUs that may be used: those of CUDA_VISIBLE_DEVICES if it is set, else all.

    A card that is cut into MIG slices counts as these.
    """
    allowed = environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [part.strip() for part in allowed.split(",") if part.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return _listed(done.stdout)


def _listed(listing: str) -> list[str]:
    """The ids in the output of `nvidia-smi -L`, which has a card's slices below it."""
    numbers: dict[str, str] = {}
    slices: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if card := _CARD.match(line):
            numbers[card[2]] = card[1]
            slices[card[2]] = []
        elif slices and (cut := _SLICE.match(line)):
            slices[list(slices)[-1]].append(cut[1])
    if not any(slices.values()):
        return list(numbers.values())
    # CUDA does not count cards with slices: the numbers of the others are not those that nvidia-smi gives them.
    return [id_ for card in slices for id_ in slices[card] or [card]]


def divided(gpus: Sequence[str], workers: int, *, per_gpu: int = 1) -> list[list[str]]:
    """A share of the GPUs for each worker. With GPUs, there are at most `per_gpu` times as many workers as GPUs.

    No GPU is in two shares while there are enough of them; else each worker has one, and as few as possible beside it.
    """
    shares = min(workers, per_gpu * len(gpus)) if gpus else workers
    if gpus and shares > len(gpus):
        return [[gpus[index % len(gpus)]] for index in range(shares)]
    small, larger = divmod(len(gpus), shares)
    starts = [index * small + min(index, larger) for index in range(shares + 1)]
    return [list(gpus[start:end]) for start, end in pairwise(starts)]


def used_at_once(share: Sequence[str], most: int) -> list[str]:
    """What one attempt uses of a worker's share: at most that many cards, or one MIG slice.

    A process sees the first slice that it is given and nothing else, and NCCL does not connect slices.
    """
    cards = [id_ for id_ in share if not id_.startswith("MIG-")]
    return cards[:most] if cards else list(share[: min(1, most)])
