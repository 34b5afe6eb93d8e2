"""Series of bars -> sampled paths that continue them. Called by the forecast command and by the forecaster."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from kronos_trainer.data.bars import time_stamps
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.data.scaling import EPSILON, PRICES, price_scale
from kronos_trainer.device_memory import lack_of_memory_as
from kronos_trainer.errors import ConfigError, DataError, OutOfMemory
from kronos_trainer.forecast.consistency import Repairs, consistent
from kronos_trainer.forecast.generation import generate
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer

TOGETHER = 256 * 2**20  # bytes; paths computed together on a CPU take at most about this much
MOST_TOGETHER = 512  # paths; more are no faster there
GPU_SHARE = 8  # on a GPU, one part in so many of its memory
MOST_ON_GPU = 16_384  # paths


@dataclass(frozen=True)
class Drawn:
    """What was drawn for one series, in its own units, in the order of FEATURES."""

    average: npt.NDArray[np.float64]  # [H, 6]
    paths: npt.NDArray[np.float64]  # [S, H, 6]
    repairs: Repairs | None  # None: the model's own numbers


class Drawer:
    """A tokenizer and a predictor, ready to continue series of bars.

    The raw numbers are those of upstream's `KronosPredictor.predict` (equal with top_k 1) for prices from 0.01 on;
    smaller ones are scaled up by a power of ten, and their forecast back. By default sampled bars that contradict
    themselves are made consistent (`consistency`), but not those of top_k 1. Unlike upstream, top_p holds beside top_k.
    """

    def __init__(
        self,
        tokenizer: KronosTokenizer,
        predictor: KronosPredictor,
        *,
        max_context: int = 512,
        clip: float = 5.0,
        device: str | torch.device = "cpu",
    ) -> None:
        """`max_context` in bars, `clip` in standard deviations. Moves both nets to `device`, in eval mode.

        Raises OutOfMemory.
        """
        with lack_of_memory_as(_too_small):
            self.tokenizer = tokenizer.to(device).eval()
            self.predictor = predictor.to(device).eval()
        self.max_context = max_context
        self.clip = clip
        self.device = torch.device(device)

    def draw(
        self,
        histories: Sequence[pd.DataFrame],
        futures: Sequence[pd.DatetimeIndex],
        sampling: Sampling | None = None,
        *,
        raw: bool | None = None,
    ) -> list[Drawn]:
        """What follows each history at the times of its future; each gets the numbers that it would get alone.

        A history has columns timestamps and FEATURES, ascending in time, as `readers.read_frame` returns it. All its
        rows give the mean and standard deviation, and the last `max_context` are the predictor's context. Histories of
        one length are computed together. `raw` leaves bars as the model drew them; by default only those of top_k 1.

        Raises DataError for bars that are not finite, ConfigError for a horizon beyond the context, OutOfMemory.
        """
        sampling = sampling or Sampling()
        raw = sampling.top_k == 1 if raw is None else raw
        self._check(histories, futures)
        drawn: dict[int, Drawn] = {}
        for together in self._batches(histories, futures, sampling.samples):
            batch = self._draw([histories[i] for i in together], [futures[i] for i in together], sampling, raw)
            drawn |= dict(zip(together, batch, strict=True))
        return [drawn[index] for index in range(len(histories))]

    def draw_rows(
        self,
        values: npt.NDArray[np.float32],
        stamps: npt.NDArray[np.uint8],
        sampling: Sampling,
        *,
        beat: Callable[[], None] = lambda: None,
    ) -> Iterator[npt.NDArray[np.float64]]:
        """As `draw` with raw, from arrays: paths [b, S, H, 6] of some series at a time, in their order and units.

        `values` [B, T, 6] are the bars of B series, `stamps` [B, T+H, 5] those of `data.bars.time_stamps`.
        """
        horizon = stamps.shape[1] - values.shape[1]
        size = max(1, self._room(stamps.shape[1], horizon) // sampling.samples)
        for first in range(0, len(values), size):
            part = values[first : first + size]
            scale = price_scale(part.mean(axis=1), part.std(axis=1))
            scaled = part.copy()
            scaled[..., :PRICES] *= scale[:, None, None].astype(np.float32)
            uniforms = torch.stack([_uniforms(bars, sampling, horizon) for bars in scaled])
            _, paths = self._continued(scaled, stamps[first : first + size], uniforms, sampling)
            found = paths.astype(np.float64)
            found[..., :PRICES] /= scale[:, None, None, None]
            yield found
            beat()

    def _draw(
        self, histories: Sequence[pd.DataFrame], futures: Sequence[pd.DatetimeIndex], sampling: Sampling, raw: bool
    ) -> list[Drawn]:
        values, scales = zip(*map(_scaled, histories), strict=True)
        times = [
            pd.concat([frame["timestamps"], future.to_series()])
            for frame, future in zip(histories, futures, strict=True)
        ]
        stamps = np.stack([time_stamps(pd.DatetimeIndex(series).as_unit("ns").asi8) for series in times])
        uniforms = torch.stack([_uniforms(bars, sampling, len(futures[0])) for bars in values])
        averages, paths = self._continued(np.stack(values), stamps, uniforms, sampling)
        return [
            _drawn(bars, average, path, scale, raw)
            for bars, average, path, scale in zip(values, averages, paths, scales, strict=True)
        ]

    def _continued(
        self,
        values: npt.NDArray[np.float32],
        stamps: npt.NDArray[np.uint8],
        uniforms: Tensor,
        sampling: Sampling,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The average [B, H, 6] and the paths [B, S, H, 6] that continue bars [B, T, 6], in the units of these."""
        means = values.mean(axis=1)[:, None]
        deviations = values.std(axis=1)[:, None] + EPSILON
        normalised = torch.from_numpy(((values - means) / deviations).clip(-self.clip, self.clip))
        paths = self._generate(normalised, torch.from_numpy(stamps).to(torch.int64), uniforms, sampling)
        return paths.mean(axis=1) * deviations + means, paths * deviations[:, None] + means[:, None]

    def _generate(
        self, normalised: Tensor, stamps: Tensor, uniforms: Tensor, sampling: Sampling
    ) -> npt.NDArray[np.float32]:
        """Normalised paths [B, S, H, 6], as many samples at a time as there is room for."""
        most = max(1, self._room(stamps.shape[1], uniforms.shape[2]) // len(normalised))
        with lack_of_memory_as(_too_small):
            pieces = [
                generate(
                    self.tokenizer,
                    self.predictor,
                    normalised.to(self.device),
                    stamps.to(self.device),
                    part.to(self.device),
                    sampling,
                    max_context=self.max_context,
                )
                for part in torch.split(uniforms, most, dim=1)
            ]
            return np.asarray(torch.cat(pieces, dim=1).cpu().numpy())

    def _room(self, bars: int, horizon: int) -> int:
        """How many paths of this length, history and horizon, are computed together."""
        predictor, tokenizer = self.predictor.config, self.tokenizer.config
        # Paths share the keys and values of their history, unless the window slides over it.
        own = horizon if bars <= self.max_context else self.max_context
        kept = 2 * predictor.n_layers * predictor.d_model * own
        decoded = 2 * tokenizer.n_heads * horizon * min(bars, self.max_context)
        most, room = MOST_TOGETHER, TOGETHER
        if self.device.type == "cuda":
            most = MOST_ON_GPU
            room = torch.cuda.get_device_properties(self.device).total_memory // GPU_SHARE
        return max(1, min(most, room // (4 * max(kept, decoded))))

    def _batches(
        self, histories: Sequence[pd.DataFrame], futures: Sequence[pd.DatetimeIndex], samples: int
    ) -> Iterator[list[int]]:
        """Series of one length, as many at a time as there is room for their paths."""
        alike: dict[tuple[int, int], list[int]] = {}
        for index, (history, future) in enumerate(zip(histories, futures, strict=True)):
            alike.setdefault((len(history), len(future)), []).append(index)
        for (rows, horizon), members in alike.items():
            size = max(1, self._room(rows + horizon, horizon) // samples)
            yield from (members[first : first + size] for first in range(0, len(members), size))

    def _check(self, histories: Sequence[pd.DataFrame], futures: Sequence[pd.DatetimeIndex]) -> None:
        if len(histories) != len(futures):
            raise ConfigError(
                f"{len(histories)} histories and {len(futures)} futures: give one future for each history"
            )
        for name, series in (("histories", histories), ("futures", futures)):
            if min(map(len, series), default=1) == 0:
                raise ConfigError(f"one of the {name} is empty")
        longest = max(map(len, futures), default=1)
        if longest > self.max_context:
            raise ConfigError(
                f"horizon {longest} exceeds the model's context of {self.max_context} bars; "
                "lower the horizon, or raise max-context if the model was trained with more"
            )


def _too_small() -> OutOfMemory:
    return OutOfMemory("the device has too little memory; lower the samples or max-context, or use --device cpu")


def _drawn(
    history: npt.NDArray[np.float32],
    average: npt.NDArray[np.float32],
    paths: npt.NDArray[np.float32],
    scale: np.float64,
    raw: bool,
) -> Drawn:
    """The paths [S, H, 6] in the units of the series, whose prices were scaled; likewise their average [H, 6]."""
    middle, every, repairs = average.astype(np.float64), paths.astype(np.float64), None
    if not raw:
        every, repairs = consistent(every, history.astype(np.float64))
        middle = every.mean(axis=0)
    for bars in (middle, every):
        bars[..., :PRICES] /= scale
    return Drawn(middle, every, repairs)


def _values(history: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Bars float32 [T, 6], all there and finite."""
    missing = [name for name in FEATURES if name not in history]
    if missing:
        raise DataError(f"history lacks the column(s) {', '.join(missing)}")
    values = history[list(FEATURES)].to_numpy(dtype=np.float32, copy=True)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise DataError(f"history row {row}, column {FEATURES[column]}: {values[row, column]} is not a finite number")
    return values


def _scaled(history: pd.DataFrame) -> tuple[npt.NDArray[np.float32], np.float64]:
    """Bars float32 [T, 6], and by how much tiny prices among them are scaled up; volume and amount are not."""
    values = _values(history)
    scale = price_scale(values.mean(axis=0)[None], values.std(axis=0)[None])[0]
    if scale != 1:
        # from the digits that were given, so that the bars are those of a series ten or a thousand times as dear
        values[:, :PRICES] = history[list(FEATURES[:PRICES])].to_numpy(dtype=np.float64) * scale
    return values, scale


def _uniforms(bars: npt.NDArray[np.float32], sampling: Sampling, horizon: int) -> Tensor:
    """Random numbers [S, H, 2] in [0, 1) that depend on the seed and the series, not on what it is forecast with."""
    key = hashlib.sha256(f"{sampling.seed} ".encode() + bars.tobytes()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big", signed=True))
    return torch.rand((sampling.samples, horizon, 2), generator=generator)
