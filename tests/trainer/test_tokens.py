"""The token cache holds what the tokenizer says, whoever fills it and however often it is cut short."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kronos_trainer.config import Data, Fractions, Source, Split, Window
from kronos_trainer.data.bars import Bars, time_stamps
from kronos_trainer.data.windows import Windows
from kronos_trainer.errors import StorageError
from kronos_trainer.training import tokens
from kronos_trainer.training.resident import ResidentTokens
from kronos_trainer.training.tokens import EncodedTokens, TokenCache, cache_key, chunk_of, size_of, worth_caching

LENGTH = 8
BIG = 10**9
CPU = torch.device("cpu")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Windows:
    monkeypatch.setattr(tokens, "CHUNK_BARS", 256 * LENGTH)
    rng = np.random.default_rng(0)
    times = np.arange(1, 1301) * 3_600_000_000_000
    bars = Bars(("A",), np.array([0, 1300]), rng.random((1300, 6), np.float32), times, time_stamps(times), "d", ())
    return Windows(bars, np.array([0]), np.array([1300 - LENGTH + 1]), length=LENGTH, lookback=5, clip=5.0)


class Encoder:
    """Ids that depend on every value, and a record of the chunks asked for."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.sizes: list[int] = []
        self.stop_after = stop_after

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if len(self.sizes) == self.stop_after:
            raise KeyboardInterrupt
        self.sizes.append(len(x))
        s1 = (x.sum(dim=2) * 97).to(torch.int64) % 1024
        return s1, (s1 * 7 + (x[:, :, 3] * 31).to(torch.int64)) % 1024


def beat() -> None:
    pass


def expect(cache: TokenCache, windows: Windows) -> None:
    everything = torch.arange(len(windows))
    shuffled = everything[torch.randperm(len(windows))]
    for order in (everything, shuffled):
        encoded = EncodedTokens(windows, Encoder()).gather(order, CPU)
        for source in (cache, ResidentTokens(cache, CPU)):
            for found, expected in zip(source.gather(order, CPU), encoded, strict=True):
                assert found.dtype == torch.int64
                assert torch.equal(found, expected)


@pytest.mark.parametrize("world", [1, 3])
def test_every_rank_fills_its_chunks_and_all_read_the_same(tmp_path: Path, windows: Windows, world: int) -> None:
    caches = [TokenCache(tmp_path / "node", "k", windows) for _ in range(world)]
    encoders = [Encoder() for _ in range(world)]
    beats = []
    for rank, (cache, encoder) in enumerate(zip(caches, encoders, strict=True)):
        cache.fill(encoder, rank=rank, world=world, beat=lambda: beats.append(1))
        assert not cache.complete
    caches[0].finish()
    assert len(beats) == 6
    assert sorted(size for encoder in encoders for size in encoder.sizes) == [1293 - 5 * 256, *[256] * 5]
    assert [entry.name for entry in (tmp_path / "node").iterdir()] == ["tokens-k"]
    assert caches[0].path.stat().st_size == size_of(windows)
    for cache in caches:
        assert cache.complete
        expect(cache, windows)
    again = Encoder()
    caches[-1].fill(again, rank=0, world=1, beat=beat)
    caches[-1].finish()
    assert again.sizes == []
    caches[0].remove()
    assert not caches[0].complete


def test_an_interrupted_fill_goes_on_and_a_torn_chunk_is_encoded_again(tmp_path: Path, windows: Windows) -> None:
    with pytest.raises(KeyboardInterrupt):
        TokenCache(tmp_path, "k", windows).fill(Encoder(stop_after=3), rank=0, world=1, beat=beat)
    partial = tmp_path / "tokens-k.partial"
    with partial.open("r+b") as stream:  # as after a power cut: the second chunk's last page is lost
        stream.seek(2 * 256 * LENGTH * 4 - 100)
        stream.write(bytes(100))
    cache, encoder = TokenCache(tmp_path, "k", windows), Encoder()
    cache.fill(encoder, rank=0, world=1, beat=beat)
    cache.finish()
    assert encoder.sizes == [256, 256, 256, 1293 - 5 * 256]
    expect(cache, windows)


def test_a_stop_between_chunks_passes_through(tmp_path: Path, windows: Windows) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    encoder = Encoder()
    with pytest.raises(KeyboardInterrupt):
        TokenCache(tmp_path, "k", windows).fill(encoder, rank=0, world=1, beat=stop)
    assert encoder.sizes == [256]


def test_a_full_disk_is_a_storage_error(tmp_path: Path, windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match=r"tokens-k\.partial: No space left on device"):
        TokenCache(tmp_path, "k", windows).fill(Encoder(), rank=0, world=1, beat=beat)


def test_a_cache_is_worth_it_when_windows_come_again_and_fit(windows: Windows) -> None:
    assert tokens.DTYPE.itemsize == 2
    assert size_of(windows) == 1293 * LENGTH * 4
    assert worth_caching(windows, passes=2, limit=size_of(windows))
    assert not worth_caching(windows, passes=1, limit=BIG)
    assert not worth_caching(windows, passes=2, limit=size_of(windows) - 1)


def test_a_chunk_has_so_many_bars_however_long_its_windows_are() -> None:
    """Longer windows need no more memory, and at least one is encoded at a time."""
    assert [chunk_of(length) for length in (128, 136, 512, 10**6)] == [256, 240, 64, 1]


def test_the_key_follows_everything_that_changes_the_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    data, window = Data(source=Source(path="here")), Window(lookback=90, horizon=10)

    def key(
        tokenizer: str = "t",
        bars: str = "b",
        split: str = "train",
        data: Data = data,
        window: Window = window,
        owner: str = "me",
    ) -> str:
        return cache_key(owner=owner, tokenizer=tokenizer, bars=bars, split=split, data=data, window=window)

    other = Split(fractions=Fractions(train=0.7, validation=0.2, test=0.1))
    keys = {
        key(),
        key(tokenizer="u"),
        key(owner="you"),
        key(bars="c"),
        key(split="validation"),
        key(data=data.model_copy(update={"clip": 4.0})),
        key(data=data.model_copy(update={"split": other})),
        key(window=Window(lookback=89, horizon=11)),
    }
    monkeypatch.setattr(tokens, "CHUNK_BARS", 2 * tokens.CHUNK_BARS)
    assert len(keys | {key()}) == 9
    monkeypatch.undo()
    assert (
        key(data=Data(source=Source(path="there")))
        == key(window=Window(lookback=90, horizon=10, max_context=400))
        == key()
    )
