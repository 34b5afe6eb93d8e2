"""Bars in, bars out. Called by the forecast command, and by code that judges a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from kronos_trainer.bars import time_stamps
from kronos_trainer.columns import FEATURES
from kronos_trainer.errors import ConfigError, DataError
from kronos_trainer.forecast.generation import generate
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.scaling import EPSILON, PRICES, price_scale


class Forecaster:
    """A tokenizer and a predictor, ready to continue series of bars.

    The numbers are those of upstream's `KronosPredictor.predict` (equal with top_k 1) for prices from 0.01 on; smaller
    ones are scaled up by a power of ten, and their forecast back. Nothing else is corrected afterwards: a sampled bar
    may have a negative volume, or a high below its open. Unlike upstream, top_p holds beside top_k.
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
        """`max_context` in bars, `clip` in standard deviations. Moves both nets to `device`, in eval mode."""
        self.tokenizer = tokenizer.to(device).eval()
        self.predictor = predictor.to(device).eval()
        self.max_context = max_context
        self.clip = clip
        self.device = torch.device(device)

    def forecast(
        self, history: pd.DataFrame, future: pd.DatetimeIndex, sampling: Sampling | None = None
    ) -> pd.DataFrame:
        """The bars at the `future` times, with columns timestamps, open, high, low, close, volume, amount.

        `history` has the same columns, ascending in time, as `readers.read_frame` returns it. All its rows give the
        mean and standard deviation, and the last `max_context` are the predictor's context. Raises DataError for bars
        that are not finite, ConfigError for a horizon beyond the context.
        """
        return self.forecast_many([history], [future], sampling)[0]

    def forecast_many(
        self,
        histories: Sequence[pd.DataFrame],
        futures: Sequence[pd.DatetimeIndex],
        sampling: Sampling | None = None,
    ) -> list[pd.DataFrame]:
        """`forecast` for series of equal length, computed together; each gets the numbers it would get alone."""
        sampling = sampling or Sampling()
        self._check(histories, futures)
        horizon = len(futures[0])
        values, scales = zip(*map(_scaled, histories), strict=True)
        means = np.stack([bars.mean(axis=0) for bars in values])[:, None]
        deviations = np.stack([bars.std(axis=0) for bars in values])[:, None] + EPSILON
        normalised = ((np.stack(values) - means) / deviations).clip(-self.clip, self.clip)
        times = [
            pd.concat([frame["timestamps"], future.to_series()])
            for frame, future in zip(histories, futures, strict=True)
        ]
        stamps = np.stack([time_stamps(pd.DatetimeIndex(series).as_unit("ns").asi8) for series in times])
        uniforms = torch.stack([_uniforms(bars, sampling, horizon) for bars in values])
        paths = generate(
            self.tokenizer,
            self.predictor,
            torch.from_numpy(normalised).to(self.device),
            torch.from_numpy(stamps).to(self.device, torch.int64),
            uniforms.to(self.device),
            sampling,
            max_context=self.max_context,
        )
        forecasts = paths.cpu().numpy().mean(axis=1) * deviations + means
        for bars, scale in zip(forecasts, scales, strict=True):
            if scale != 1:
                bars[:, :PRICES] /= scale
        return [_frame(future, bars) for future, bars in zip(futures, forecasts, strict=True)]

    def _check(self, histories: Sequence[pd.DataFrame], futures: Sequence[pd.DatetimeIndex]) -> None:
        if len(histories) != len(futures) or not histories:
            raise ConfigError(
                f"{len(histories)} histories and {len(futures)} futures: give one future for each history"
            )
        for name, series in (("histories", histories), ("futures", futures)):
            lengths = sorted({len(one) for one in series})
            if len(lengths) > 1 or lengths[0] == 0:
                raise ConfigError(f"{name} forecast together must have one length above 0; found {lengths}")
        if len(futures[0]) > self.max_context:
            raise ConfigError(
                f"horizon {len(futures[0])} exceeds the model's context of {self.max_context} bars; "
                "lower the horizon, or raise max-context if the model was trained with more"
            )


def _values(history: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Bars float32 [T, 6], all there and finite."""
    missing = [name for name in FEATURES if name not in history]
    if missing:
        raise DataError(f"history lacks the column(s) {', '.join(missing)}")
    values = history[list(FEATURES)].to_numpy(dtype=np.float32)
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


def _frame(times: pd.DatetimeIndex, bars: npt.NDArray[np.float32]) -> pd.DataFrame:
    return pd.concat([pd.Series(times, name="timestamps"), pd.DataFrame(bars, columns=list(FEATURES))], axis=1)
