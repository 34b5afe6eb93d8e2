"""A split's ids on the device, where a batch is gathered without the host. Made of a complete token cache."""

from __future__ import annotations

import torch
from torch import Tensor

from kronos_trainer.training.tokens import TokenCache, size_of
from kronos_trainer.training.transfers import to_device

SHARE = 8  # one part in so many of a GPU's memory may be a split's ids


def fits(cache: TokenCache, device: torch.device) -> bool:
    """Whether the ids of a split, and what belongs to them, are to live on this device."""
    if device.type != "cuda":
        return False
    windows = cache.windows
    room = torch.cuda.get_device_properties(device).total_memory // SHARE
    return size_of(windows) + windows.bar_stamps.nbytes + 8 * len(windows) <= room


class ResidentTokens:
    """A TokenSource whose ids, first rows and stamps are on the device."""

    def __init__(self, cache: TokenCache, device: torch.device) -> None:
        windows = cache.windows
        self._ids = torch.tensor(cache.ids, device=device)  # int16 [windows, 2, T]
        self._rows = torch.from_numpy(windows.rows(torch.arange(len(windows)))).to(device)  # int64 [windows]
        self._stamps = torch.tensor(windows.bar_stamps, device=device)  # uint8 [rows, 5]
        self._span = torch.arange(windows.length, device=device)

    def gather(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """As TokenSource. Only the numbers of the windows leave the host."""
        there = to_device(indices, device)
        pair = self._ids[there].long()
        stamps = self._stamps[self._rows[there][:, None] + self._span].long()
        return pair[:, 0], pair[:, 1], stamps
