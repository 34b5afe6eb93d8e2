"""A frozen tokenizer's ids for the windows of a split, from a file or on the fly; what the predictor trains on."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kronos_trainer.config import Data, Window
from kronos_trainer.data.windows import Windows
from kronos_trainer.storage.durable import make_directory, storing
from kronos_trainer.training.transfers import to_device

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]  # float32 [B, T, 6] on the CPU -> two int [B, T]

CHUNK_BARS = 256 * 128  # bars encoded together, always those of the same windows, whoever does it
DTYPE = np.dtype("<i2")


def cache_key(*, owner: str, tokenizer: str, bars: str, split: str, data: Data, window: Window) -> str:
    """Name of the cache of one split: its owner, digests of tokenizer and bars, and what shapes windows and chunks."""
    parts = [
        owner,
        tokenizer,
        bars,
        split,
        data.split.model_dump(mode="json"),
        data.clip,
        window.lookback,
        window.horizon,
        CHUNK_BARS,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def worth_caching(windows: Windows, *, passes: float, limit: int) -> bool:
    """Whether a cache saves work: each window is used more than once, and the file is at most `limit` bytes.

    `passes` is how often a window is used on average: epochs x windows per epoch / windows.
    """
    return passes > 1 and 0 < size_of(windows) <= limit


def chunk_of(length: int) -> int:
    """How many windows of so many bars are encoded together."""
    return max(1, CHUNK_BARS // length)


def size_of(windows: Windows) -> int:
    """Bytes of the cache of these windows."""
    return len(windows) * 2 * windows.length * DTYPE.itemsize


class TokenSource(Protocol):
    """Where a predictor's ids come from."""

    def gather(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """s1 and s2, int64 [B, T], and time stamps, int64 [B, T, 5], on a device, of windows int64 [B] on the CPU."""


class EncodedTokens:
    """Ids that are computed on every use, for windows that are used once or do not fit in a file."""

    def __init__(self, windows: Windows, encode: Encode) -> None:
        self._windows = windows
        self._encode = encode

    def gather(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """As TokenSource."""
        s1, s2 = self._encode(self._windows.values(indices))
        return s1.to(device), s2.to(device), to_device(self._windows.stamps(indices), device)


class TokenCache:
    """int16 [windows, 2, T] in a memory-mapped file that the processes of a node fill together, in fixed chunks.

    Usage: every process calls `fill`, then they meet at a barrier, then one calls `finish`, then, after another
    barrier, all may `gather`. A fill that was cut short goes on where it ended: each finished chunk has its checksum.
    """

    def __init__(self, directory: Path, key: str, windows: Windows) -> None:
        self.windows = windows
        self.path = directory / f"tokens-{key}"
        self._partial = directory / f"tokens-{key}.partial"
        self._sums = directory / f"tokens-{key}.sums"
        self._chunk = chunk_of(windows.length)
        self._chunks = -(-len(windows) // self._chunk)
        self._ids: npt.NDArray[np.int16] | None = None

    @property
    def complete(self) -> bool:
        """Whether every window has its ids, so that nothing needs to be filled."""
        return self.path.exists()

    def fill(self, encode: Encode, *, rank: int, world: int, beat: Callable[[], object]) -> None:
        """Encode this process's share, chunks rank, rank + world, ... `rank` and `world` are those of the node.

        `beat` is called after every chunk and may raise to stop. Raises StorageError when the disk is full.
        """
        if self.complete:
            return
        make_directory(self.path.parent)
        bytes_per_window = 2 * self.windows.length * DTYPE.itemsize
        with storing(self._partial), _shared(self._partial) as ids, _shared(self._sums) as sums:
            # to the same size in every process, and never down: neither cuts what another has written
            os.truncate(ids.fileno(), size_of(self.windows))
            os.truncate(sums.fileno(), 4 * self._chunks)
            for chunk in range(rank, self._chunks, world):
                start, stop = chunk * self._chunk, min((chunk + 1) * self._chunk, len(self.windows))
                place, length = start * bytes_per_window, (stop - start) * bytes_per_window
                written = os.pread(ids.fileno(), length, place)
                if os.pread(sums.fileno(), 4, 4 * chunk) != _checksum(written):
                    s1, s2 = encode(self.windows.values(torch.arange(start, stop)))
                    pair = torch.stack([s1, s2], dim=1).cpu().numpy()  # [B, 2, T]
                    content = pair.astype(DTYPE).tobytes()
                    _write_at(ids, content, place)
                    _write_at(sums, _checksum(content), 4 * chunk)
                beat()
            os.fsync(ids.fileno())

    def finish(self) -> None:
        """Declare the cache complete. One process of the node calls this after all have filled."""
        if self.complete:
            return
        with storing(self.path):
            self._partial.rename(self.path)
            self._sums.unlink()

    @property
    def ids(self) -> npt.NDArray[np.int16]:
        """All ids, int16 [windows, 2, T], as they lie in the file."""
        if self._ids is None:
            shape = (len(self.windows), 2, self.windows.length)
            self._ids = np.asarray(np.memmap(self.path, DTYPE, "r", shape=shape))
        return self._ids

    def gather(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """As TokenSource. The ids travel as they are kept, in one piece."""
        picked = to_device(torch.from_numpy(self.ids[indices.numpy()]), device).long()
        return picked[:, 0], picked[:, 1], to_device(self.windows.stamps(indices), device)

    def remove(self) -> None:
        """Delete the file, when training is over."""
        for file in (self.path, self._partial, self._sums):
            file.unlink(missing_ok=True)


def _shared(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)


def _write_at(file: BinaryIO, content: bytes, place: int) -> None:
    """Writes all of it: a disk that fills up accepts the first part without an error."""
    while content:
        written = os.pwrite(file.fileno(), content, place)
        content, place = content[written:], place + written


def _checksum(content: bytes) -> bytes:
    # the lowest bit is set: zero bytes of a hole never match
    return (zlib.crc32(content) | 1).to_bytes(4, "little")
