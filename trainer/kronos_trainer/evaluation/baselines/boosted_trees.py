"""Trees on lagged returns, by the library LightGBM: what a practitioner without a foundation model would use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kronos_trainer.evaluation.baselines.past import Past
from kronos_trainer.evaluation.baselines.returns import generator, log_returns
from kronos_trainer.evaluation.cells import Floats, Forecast, Int64, Origin
from kronos_trainer.forecast.consistency import CLOSE

if TYPE_CHECKING:
    from lightgbm import Booster

WINDOW = 61  # bars that features are computed from
SINGLE = 5  # the latest returns, one by one
SUMS = (5, 10, 20, 60)  # bars
DEVIATIONS = (5, 20)  # bars
ROWS = 200_000  # of all symbols together, evenly spaced in each
FEWEST = 1000  # rows
HELD_OUT = 0.2  # of the time, for residuals
ROUNDS = 100
PARAMETERS: dict[str, Any] = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 100,  # returns are nearly noise
    "lambda_l2": 1.0,
    "seed": 0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True)
class _Rows:
    features: Floats  # [N, F]
    scale: Floats  # [N]
    ahead: Floats  # [N, H]: 100 x log close after the bar, relative to it
    times: Int64  # [N], of the bar
    ends: Int64  # [N], of the last bar of its horizon


@dataclass(frozen=True)
class _Fit:
    booster: Booster
    residuals: Floats  # [N, H]: held-out paths minus their forecast, in units of scale; their mean is 0


class BoostedTrees:
    """One LightGBM model of all symbols, fitted before the test span to the return over the horizon.

    Features and target are in deviations of the last 60 returns, so that calm and wild symbols count alike. A path is
    the point forecast, spread evenly over the horizon, plus the error of a forecast of the fit span's last fifth,
    which is not fitted to.
    """

    name = "lightgbm"
    label = "LightGBM: trees on lagged returns and volatility"

    def __init__(self, past: Past) -> None:
        self._past = past

    @staticmethod
    def absent(past: Past) -> str:
        """Why it does not apply; empty: it does."""
        try:
            import lightgbm  # noqa: F401
        except (ImportError, OSError):  # OSError: libgomp is missing
            return "LightGBM is not installed: pip install 'kronos-operator[lightgbm]'"
        found = sum(_count(len(history.bars), past.horizon) for history in past.histories.values())
        if found < FEWEST:
            return f"it needs {FEWEST} bars before the test span, after {WINDOW} of each symbol; there are {found}"
        return ""

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Paths of closes and ranks; NaN with fewer than 61 bars, without any change, or where nothing was fitted."""
        horizon = origins[0].horizon if origins else 0
        close = np.full((len(origins), samples, horizon), np.nan)
        rank = np.full(len(origins), np.nan)
        long = [cell for cell, origin in enumerate(origins) if len(origin.bars) >= WINDOW]
        if self._fit is None or not long:
            return Forecast(close=close, rank=rank)
        features, scale = _features(np.stack([origins[cell].bars[-WINDOW:, CLOSE] for cell in long]))
        usable = np.isfinite(features).all(axis=1)
        cells = np.array(long)[usable]
        scale = scale[usable]
        if not len(cells):
            return Forecast(close=close, rank=rank)
        points = _predicted(self._fit.booster, features[usable])
        rank[cells] = points * scale * np.sqrt(horizon)
        evenly = np.arange(1, horizon + 1) / horizon
        for cell, size in zip(cells, scale, strict=True):
            drawn = generator(origins[cell], seed).integers(len(self._fit.residuals), size=samples)
            close[cell] = rank[cell] * evenly + self._fit.residuals[drawn] * size
        return Forecast(close=close, rank=rank)

    @cached_property
    def _fit(self) -> _Fit | None:
        rows = _rows(self._past)
        if len(rows.times) < FEWEST:
            return None
        cut = np.partition(rows.times, int(len(rows.times) * (1 - HELD_OUT)))[int(len(rows.times) * (1 - HELD_OUT))]
        fitted, held_out = rows.ends < cut, rows.times >= cut
        if np.count_nonzero(fitted) < FEWEST // 2:
            return None
        import lightgbm

        horizon = self._past.horizon
        target = rows.ahead[:, -1] / (rows.scale * np.sqrt(horizon))
        data = lightgbm.Dataset(rows.features[fitted], target[fitted])
        booster = lightgbm.train(PARAMETERS, data, num_boost_round=ROUNDS)
        points = _predicted(booster, rows.features[held_out])
        evenly = np.arange(1, horizon + 1) / np.sqrt(horizon)
        residuals = rows.ahead[held_out] / rows.scale[held_out, None] - points[:, None] * evenly
        return _Fit(booster, residuals - residuals.mean(axis=0))


def _predicted(booster: Booster, features: Floats) -> Floats:
    return np.asarray(booster.predict(features, num_threads=1), np.float64)


def _count(bars: int, horizon: int) -> int:
    return max(bars - WINDOW + 1 - horizon, 0)


def _rows(past: Past) -> _Rows:
    total = sum(_count(len(history.bars), past.horizon) for history in past.histories.values())
    stride = max(-(-total // ROWS), 1)
    view = np.lib.stride_tricks.sliding_window_view
    parts: list[_Rows] = []
    for history in past.histories.values():
        count = _count(len(history.bars), past.horizon)
        if count == 0:
            continue
        windows = view(history.bars[:, CLOSE], WINDOW + past.horizon)[::stride]
        features, scale = _features(windows[:, :WINDOW])
        ahead = log_returns(windows[:, WINDOW - 1 :]).cumsum(axis=1)
        usable = np.isfinite(features).all(axis=1) & np.isfinite(ahead).all(axis=1)
        last = np.arange(WINDOW - 1, WINDOW - 1 + count, stride)[usable]
        times, ends = history.times[last], history.times[last + past.horizon]
        parts.append(_Rows(features[usable], scale[usable], ahead[usable], times, ends))
    return _Rows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.scale for part in parts]),
        np.concatenate([part.ahead for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.ends for part in parts]),
    )


def _features(closes: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Of windows of closes [N, 61]: features [N, F], NaN where there are none, and the deviation of returns [N]."""
    returns = log_returns(closes)
    scale = returns.std(axis=1)
    scale[~(scale > 0)] = np.nan
    single = returns[:, -SINGLE:] / scale[:, None]
    sums = [returns[:, -bars:].sum(axis=1) / (scale * np.sqrt(bars)) for bars in SUMS]
    deviations = [returns[:, -bars:].std(axis=1) / scale for bars in DEVIATIONS]
    return np.column_stack([single, *sums, *deviations, np.log(scale)]), scale
