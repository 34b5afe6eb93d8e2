"""Volatility that clusters: GARCH(1,1) with t innovations, by the library arch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kronos_trainer.evaluation.baselines.past import Past
from kronos_trainer.evaluation.baselines.returns import finite, generator, log_returns, priced
from kronos_trainer.evaluation.cells import Floats, Forecast, Origin
from kronos_trainer.evaluation.garman_klass import garman_klass
from kronos_trainer.evaluation.origins import evenly
from kronos_trainer.forecast.consistency import CLOSE

FEWEST = 250  # returns that it is fitted to
FITTED = 2000  # bars before the test span that it is fitted to at most
FILTERED = 1000  # bars before the origin that its volatility is computed from; older ones hardly count
SYMBOLS = 50  # a fit takes about 0.2 s


@dataclass(frozen=True)
class _Fit:
    """Parameters in deviations of the returns."""

    mean: float
    omega: float
    alpha: float
    beta: float
    freedom: float
    deviation: float  # of the returns of 100 x log close
    share: float  # Garman-Klass variance of a bar over its squared return, both in the mean


class Garch:
    """Fitted once per symbol before the test span; at each origin filtered and simulated with these parameters.

    Its variance is that of returns from close to close, times the share of it that lies within bars.
    """

    name = "garch"
    label = "GARCH(1,1)-t: simulated from past volatility"

    def __init__(self, past: Past) -> None:
        symbols = list(past.histories)
        chosen = [symbols[at] for at in evenly(len(symbols), SYMBOLS)]
        self._past = {symbol: past.histories[symbol].bars for symbol in chosen}
        self._fits: dict[str, _Fit | None] = {}

    @staticmethod
    def absent(past: Past) -> str:
        """Why it does not apply; empty: it does."""
        longest = max((len(history.bars) for history in past.histories.values()), default=0)
        needed = FEWEST + 1
        return "" if longest >= needed else f"it needs {needed} bars before the test span; there are {longest}"

    @staticmethod
    def partly(past: Past) -> str:
        """Why it forecasts some symbols only; empty: it forecasts all."""
        symbols = len(past.histories)
        return "" if symbols <= SYMBOLS else f"only {SYMBOLS} of {symbols} symbols, evenly spaced: each needs a fit"

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Paths of closes and variances; NaN where the symbol is left out, has too few bars, or did not converge."""
        horizon = origins[0].horizon if origins else 0
        close = np.full((len(origins), samples, horizon), np.nan)
        variance = np.full(len(origins), np.nan)
        for cell, origin in enumerate(origins):
            fit = self._fit(origin.symbol)
            returns = finite(log_returns(origin.bars[-FILTERED - 1 :, CLOSE]))
            if fit is None or not len(returns) or not priced(origin):
                continue
            following = _filtered(fit, returns)
            close[cell] = _simulated(fit, following, generator(origin, seed), (samples, horizon))
            variance[cell] = _expected(fit, following, horizon) * fit.deviation**2 * fit.share
        return Forecast(close=close, variance=variance)

    def _fit(self, symbol: str) -> _Fit | None:
        if symbol not in self._fits:
            bars = self._past.get(symbol)
            self._fits[symbol] = None if bars is None else _fit(bars[-FITTED:])
        return self._fits[symbol]


def _fit(bars: npt.NDArray[np.float32]) -> _Fit | None:
    returns = finite(log_returns(bars[:, CLOSE]))
    deviation = float(returns.std()) if len(returns) >= FEWEST else 0.0
    within = finite(garman_klass(bars))
    if deviation == 0 or not len(within):
        return None
    from arch.univariate import GARCH, ConstantMean, StudentsT  # with statsmodels and pandas: seconds

    model = ConstantMean(returns / deviation, volatility=GARCH(p=1, q=1), distribution=StudentsT(), rescale=False)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # what goes wrong on the way shows in the flag and in the parameters
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            result = model.fit(disp="off", show_warning=False)
        except (ValueError, np.linalg.LinAlgError):
            return None
    parameters = np.asarray(result.params, np.float64)
    if result.convergence_flag != 0 or not np.isfinite(parameters).all():
        return None
    share = float(within.mean() / np.mean(returns**2))
    mean, omega, alpha, beta, freedom = parameters.tolist()
    return _Fit(mean, omega, alpha, beta, freedom, deviation, share if share > 0 else np.nan)


def _filtered(fit: _Fit, returns: Floats) -> float:
    """Variance of the bar after these returns [N], in units of the fit: its recursion, written as a sum."""
    shocks = fit.omega + fit.alpha * (returns / fit.deviation - fit.mean) ** 2
    decay = fit.beta ** np.arange(len(returns), dtype=np.float64)[::-1]
    return float(decay @ shocks + fit.beta ** len(returns))


def _simulated(fit: _Fit, following: float, random: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Paths of 100 x log close relative to the origin."""
    innovations = random.standard_t(fit.freedom, shape) * np.sqrt((fit.freedom - 2) / fit.freedom)
    variance = np.full(shape[0], following)
    steps = np.empty(shape)
    for step in range(shape[1]):
        shock = np.sqrt(variance) * innovations[:, step]
        steps[:, step] = fit.mean + shock
        variance = fit.omega + fit.alpha * shock**2 + fit.beta * variance
    return np.asarray(steps.cumsum(axis=1) * fit.deviation)


def _expected(fit: _Fit, following: float, horizon: int) -> float:
    """Sum of the expected variances of all steps, in units of the fit."""
    total, variance = 0.0, following
    for _ in range(horizon):
        total += variance
        variance = fit.omega + (fit.alpha + fit.beta) * variance
    return total
