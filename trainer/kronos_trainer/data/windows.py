"""Windows of bars: which ones each split has, in which order an epoch takes them, and their normalised values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kronos_trainer.config import Data, Window
from kronos_trainer.data.bars import Bars
from kronos_trainer.data.quality.findings import some
from kronos_trainer.data.scaling import EPSILON, PRICES, price_scale
from kronos_trainer.errors import DataError

if TYPE_CHECKING:  # torch takes seconds to import, and `kronos data check` counts windows without it
    from torch import Tensor

Int64 = npt.NDArray[np.int64]

SHORTEST = 4  # bars of the smallest window that a model may have: lookback 2, horizon 1, and 1
BLOCK = 4_000_000  # timestamps sorted at once when the distinct ones are counted


class Windows:
    """The windows of one split, numbered from 0, symbol by symbol. None crosses a symbol or leaves the split.

    Nothing is stored per window: a number is found by binary search over the symbols.
    """

    def __init__(self, bars: Bars, starts: Int64, counts: Int64, *, length: int, lookback: int, clip: float) -> None:
        """`starts` [S] is the row of each symbol's first window, `counts` [S] how many begin there, one row apart."""
        used = counts > 0
        self.length = length  # bars per window
        self.lookback = lookback
        self.clip = np.float32(clip)
        self._starts = starts[used]
        self._ends = np.cumsum(counts[used])  # number after each symbol's last window
        self._shifts = self._starts - (self._ends - counts[used])  # window number -> first row
        usable = len(bars.values) >= length
        view = np.lib.stride_tricks.sliding_window_view
        # [N-T+1, 6, T] and [N-T+1, 5, T]: views, not copies
        self._values = view(bars.values, length, axis=0) if usable else None
        self._stamps = view(bars.stamps, length, axis=0) if usable else None
        self.bar_stamps = bars.stamps  # uint8 [N, 5], of all rows, which `rows` numbers

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def rows(self, indices: Tensor) -> Int64:
        """First row of each window: int64 [B] -> [B]. Raises IndexError outside 0 <= index < len(self)."""
        numbers = indices.numpy()
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(self)):
            raise IndexError(f"window {int(numbers.min())}..{int(numbers.max())} of {len(self)}")
        return numbers + self._shifts[np.searchsorted(self._ends, numbers, side="right")]

    def values(self, indices: Tensor) -> Tensor:
        """Values in standard deviations of each window's lookback, clipped: int64 [B] -> float32 [B, T, 6].

        Mean and population deviation of the first `lookback` bars only; upstream finetune/dataset.py. Reduced over the
        last axis of a contiguous [B, 6, T] array, which gives upstream's float32 sums to the bit. Tiny prices come out
        as if they had been scaled up before: what is added to their deviation is scaled down instead.
        """
        from torch import from_numpy

        assert self._values is not None
        x = np.ascontiguousarray(self._values[self.rows(indices)])
        past = x[:, :, : self.lookback]
        mean = past.mean(axis=2, keepdims=True)
        deviation = past.std(axis=2, keepdims=True)
        scale = price_scale(mean[:, :, 0], deviation[:, :, 0])
        divisor = deviation + EPSILON
        tiny = scale != 1
        if tiny.any():
            added = (EPSILON / scale[tiny]).astype(np.float32)
            divisor[tiny, :PRICES] = deviation[tiny, :PRICES] + added[:, None, None]
        x -= mean
        x /= divisor
        np.clip(x, -self.clip, self.clip, out=x)
        return from_numpy(x).transpose(1, 2)

    def stamps(self, indices: Tensor) -> Tensor:
        """Minute, hour, weekday, day and month: int64 [B] -> int64 [B, T, 5]."""
        from torch import from_numpy

        assert self._stamps is not None
        return from_numpy(self._stamps[self.rows(indices)].astype(np.int64)).transpose(1, 2)


@dataclass(frozen=True)
class Splits:
    """Windows by time. `spans` are the instants (wall-clock ns, end exclusive) of each split."""

    train: Windows
    validation: Windows
    test: Windows  # lookback + horizon bars; only the horizon lies in the split
    spans: dict[str, tuple[int, int]]
    notes: tuple[str, ...]  # symbols left out

    def span_texts(self) -> dict[str, tuple[str, str]]:
        """The spans that are not empty, in ISO 8601."""
        return {
            name: (instant_text(start), instant_text(end)) for name, (start, end) in self.spans.items() if start < end
        }


def split_bars(bars: Bars, data: Data, window: Window) -> Splits:
    """Windows of each split. Fractions become instants over the distinct timestamps of all symbols.

    Raises DataError when train or validation has no window at all.
    """
    spans = split_spans(bars, data)
    names = ("train", "validation", "test")
    edges = {name: np.zeros((2, len(bars.symbols)), np.int64) for name in names}
    for symbol in range(len(bars.symbols)):
        times = bars.ordered_times(symbol)
        for name in names:
            edges[name][:, symbol] = bars.offsets[symbol] + np.searchsorted(times, spans[name])
    notes: list[str] = []
    splits: dict[str, Windows] = {}
    for name in names:
        low, high = edges[name]
        length = window.length
        if name == "test":
            # only the horizon is scored, so the lookback may be older than the split
            low = np.maximum(low - window.lookback, bars.offsets[:-1])
            length = window.lookback + window.horizon
        counts = np.where(edges[name][1] > edges[name][0], np.maximum(high - low - length + 1, 0), 0)
        splits[name] = Windows(bars, low, counts, length=length, lookback=window.lookback, clip=data.clip)
        short = [bars.symbols[symbol] for symbol in np.flatnonzero(counts == 0)]
        if name == "test" and spans[name][0] == spans[name][1]:
            continue
        most = int((high - low).max(initial=0))
        if len(short) == len(bars.symbols) and name != "test":
            all_of = int(np.diff(bars.offsets).max(initial=0))
            remedies = [
                "add bars",
                *(["change data.split"] if all_of >= 2 * length else []),
                *(["shorten window"] if all_of >= 2 * SHORTEST else []),
            ]
            start, end = (instant_text(instant) for instant in spans[name])
            raise DataError(
                f"no symbol has a window in the {name} split: it needs {length} bars (lookback {window.lookback} + "
                f"horizon {window.horizon} + 1) between {start} and {end}, but no symbol has more than {most} there "
                f"and {all_of} in total; {' or '.join(remedies)}"
            )
        if short:
            notes.append(
                f"skipped in {name}, with fewer than {length} bars in it: {some(short)} "
                f"({len(short)} of {len(bars.symbols)} symbols)"
            )
    return Splits(splits["train"], splits["validation"], splits["test"], spans, tuple(notes))


def split_spans(bars: Bars, data: Data) -> dict[str, tuple[int, int]]:
    """Start and end (exclusive) of each split in wall-clock nanoseconds; an absent test split is empty."""
    if data.split.ranges is not None:
        ranges = data.split.ranges
        spans = {name: getattr(ranges, name) for name in ("train", "validation", "test")}
        return {name: (_instant(span.start), _instant(span.end)) if span else (0, 0) for name, span in spans.items()}
    fractions = data.split.fractions
    assert fractions is not None
    distinct = _distinct(bars.times)
    # 0.7 + 0.2 is a little less than 0.9
    first = int(len(distinct) * fractions.train + 1e-6)
    second = (
        int(len(distinct) * (fractions.train + fractions.validation) + 1e-6) if fractions.test > 0 else len(distinct)
    )
    cuts = [int(instant) for instant in np.append(distinct, distinct[-1] + 1)[[0, first, second, len(distinct)]]]
    return {name: (cuts[i], cuts[i + 1]) for i, name in enumerate(("train", "validation", "test"))}


def validation_order(count: int, *, seed: int, limit: int | None) -> Tensor:
    """Numbers of the windows that a validation scores, ascending: int64 [min(count, limit)], always the same ones."""
    return epoch_order(count, seed=seed, stage="validation", epoch=0, limit=limit).sort().values


def epoch_order(count: int, *, seed: int, stage: str, epoch: int, limit: int | None) -> Tensor:
    """Window numbers of one epoch in order: int64 [min(count, limit)], each at most once.

    Depends on the arguments alone. Memory grows with `limit` where that is a small part of `count`.
    """
    from torch import from_numpy

    key = hashlib.sha256(f"{seed}/{stage}/{epoch}".encode()).digest()[:16]
    generator = np.random.Generator(np.random.Philox(key=np.frombuffer(key, np.uint64)))
    if limit is None or limit >= count:
        return from_numpy(generator.permutation(count))
    return from_numpy(generator.choice(count, limit, replace=False))


def _distinct(times: Int64) -> Int64:
    found = np.empty(0, np.int64)
    for start in range(0, len(times), BLOCK):
        found = np.union1d(found, times[start : start + BLOCK])
    return found


def _instant(stamp: str) -> int:
    return int(np.datetime64(stamp, "ns").astype(np.int64))


def instant_text(instant: int) -> str:
    """Wall-clock ns as ISO 8601, as a date where it is midnight."""
    return str(np.datetime64(instant, "ns").astype("datetime64[s]")).replace("T", " ").removesuffix(" 00:00:00")
