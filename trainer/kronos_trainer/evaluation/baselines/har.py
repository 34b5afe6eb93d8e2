"""Volatility from its own past day, week and month: the heterogeneous autoregressive model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kronos_trainer.evaluation.baselines.past import Past
from kronos_trainer.evaluation.cells import Floats, Forecast, Origin
from kronos_trainer.evaluation.garman_klass import garman_klass

LAGS = (1, 5, 22)  # bars
FITTED = 5000  # bars before the test span that are read
FEWEST = 100  # of them with a known target, for four coefficients
FLOOR = 0.01  # of the median variance: bars that stand still have a variance of 0, which has no logarithm


@dataclass(frozen=True)
class _Fit:
    coefficients: Floats  # [4]
    smearing: float  # mean of exp(residual)
    floor: float


class Har:
    """HAR on log Garman-Klass variance of bars, fitted by least squares to the sum over the horizon directly.

    Corsi (2009), with logarithms; their forecast becomes a variance by Duan's smearing (1983).
    """

    name = "har"
    label = "HAR: log variance on its past 1, 5 and 22 bars"

    def __init__(self, past: Past) -> None:
        self._past = past
        self._fits: dict[str, _Fit | None] = {}

    @staticmethod
    def absent(past: Past) -> str:
        """Why it does not apply; empty: it does."""
        longest = max((len(history.bars) for history in past.histories.values()), default=0)
        needed = FEWEST + max(LAGS) + past.horizon
        return "" if longest >= needed else f"it needs {needed} bars before the test span; there are {longest}"

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Expected variance over the horizon; NaN where the symbol has too few bars before the test span."""
        return Forecast(variance=np.array([self._variance(origin) for origin in origins], np.float64))

    def _variance(self, origin: Origin) -> float:
        if origin.symbol not in self._fits:
            history = self._past.histories.get(origin.symbol)
            self._fits[origin.symbol] = None if history is None else _fit(history.bars[-FITTED:], self._past.horizon)
        fit = self._fits[origin.symbol]
        if fit is None or len(origin.bars) < max(LAGS):
            return np.nan
        variances = garman_klass(origin.bars[-max(LAGS) :])
        expected = _regressors(np.log(np.maximum(variances, fit.floor)))[-1] @ fit.coefficients
        return float(np.exp(expected) * fit.smearing)


def _fit(bars: npt.NDArray[np.float32], horizon: int) -> _Fit | None:
    variances = garman_klass(bars)
    moving = variances[variances > 0]
    if not len(moving) or len(variances) < max(LAGS) + horizon:
        return None
    floor = FLOOR * float(np.median(moving))
    variances = np.maximum(variances, floor)
    regressors = _regressors(np.log(variances))[:-horizon]
    ahead = np.lib.stride_tricks.sliding_window_view(variances[max(LAGS) :], horizon).sum(axis=1)
    known = np.isfinite(regressors).all(axis=1) & np.isfinite(ahead)
    if np.count_nonzero(known) < FEWEST:
        return None
    target = np.log(ahead[known])
    coefficients = np.linalg.lstsq(regressors[known], target, rcond=None)[0]
    residuals = target - regressors[known] @ coefficients
    return _Fit(coefficients, float(np.exp(residuals).mean()), floor)


def _regressors(logs: Floats) -> Floats:
    """1 and the means over the last 1, 5 and 22 bars: [T] -> [T - 21, 4]."""
    windows = np.lib.stride_tricks.sliding_window_view(logs, max(LAGS))
    means = [windows[:, -lag:].mean(axis=1) for lag in LAGS]
    return np.stack([np.ones(len(windows)), *means], axis=1)
