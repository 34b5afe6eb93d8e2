"""How good one forecast was: pure functions on arrays of cells, without NaN unless said.

As in `cells`: B cells, S sampled paths, H steps; closes are 100 x log(close / close of the origin).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scoringrules
from scipy import stats
from scipy.spatial.distance import pdist

from kronos_trainer.evaluation.cells import Floats

WQL_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FEWEST_SYMBOLS = 5  # of a date, for a correlation across symbols
PIT_BINS = 10


def crps(close: Floats, outcome: Floats) -> Floats:
    """Continuous ranked probability score [B, H] of paths [B, S, H]: E|X - y| - E|X - X'| / 2, the unbiased estimate.

    In the form of probability-weighted moments, which equals the fair one (Zamo & Naveau, 2018) and needs S log S
    operations where that needs S squared. The usual estimator is larger by up to 1 / S of the spread.
    """
    return np.asarray(scoringrules.crps_ensemble(outcome, close, m_axis=1, estimator="pwm"))


def energy(close: Floats, outcome: Floats) -> Floats:
    """Energy score [B] of paths [B, S, H]: as the CRPS, with the distance between whole paths, the unbiased estimate.

    It sees a wrong dependence between steps, which the CRPS of each step does not (Gneiting & Raftery, 2007).
    """
    error = np.linalg.norm(close - outcome[:, None], axis=-1).mean(axis=-1)
    # Equals scoringrules.es_ensemble(estimator="fair"), which takes a hundred times as long.
    return np.asarray(error - np.array([pdist(paths).mean() for paths in close]) / 2)


def quantiles(close: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles [L, B, H] of paths [B, S, H] such that an outcome drawn as the paths are falls below as often as said.

    Hyndman & Fan's sixth definition: the k-th of S has level k / (S + 1). Levels beyond 1 / (S + 1) have none.
    """
    return np.asarray(np.quantile(close, np.asarray(levels), axis=1, method="weibull"))


def has_band(samples: int, level: float) -> bool:
    """Whether so many paths have a central band of that level: two at least beyond 1 / (S + 1)."""
    return (1 - level) / 2 * (samples + 1) >= 1 - 1e-9


def quantile_loss(predicted: Floats, levels: Sequence[float], outcome: Floats) -> Floats:
    """Twice the pinball loss, mean over levels: [B, H] of quantiles [L, B, H].

    Its sum over the sum of |outcome| is the WQL of fev and GIFT-Eval.
    """
    above = (outcome <= predicted) - np.asarray(levels)[:, None, None]
    return np.asarray(2 * np.abs((outcome - predicted) * above).mean(axis=0))


def pit(close: Floats, outcome: Floats) -> Floats:
    """Histogram of the probability integral transform of each cell, all steps together: shares [B, PIT_BINS].

    The outcome's rank among S paths is one of S + 1 equally likely intervals. Its mass is spread over that interval,
    or over all that tied paths leave possible, instead of drawn (Czado, Gneiting & Held, 2009).
    """
    samples = close.shape[1]
    low = (close < outcome[:, None]).sum(axis=1) / (samples + 1)
    high = ((close <= outcome[:, None]).sum(axis=1) + 1) / (samples + 1)
    edges = np.linspace(0, 1, PIT_BINS + 1)
    below = np.clip((edges - low[..., None]) / (high - low)[..., None], 0, 1)
    return np.asarray(np.diff(below, axis=-1).mean(axis=1))


def direction(expected: Floats, came: Floats) -> Floats:
    """Whether the sign of a return was foreseen [B]: 1 or 0, 0.5 of no sign; NaN where the price did not move."""
    hit = np.where(expected == 0, 0.5, np.sign(expected) == np.sign(came))
    return np.asarray(np.where((came == 0) | np.isnan(expected) | np.isnan(came), np.nan, hit))


def correlations(expected: Floats, came: Floats) -> tuple[float, float]:
    """IC (Pearson) and rank IC (Spearman) across the symbols [B] of one date, which may be NaN.

    NaN with fewer than `FEWEST_SYMBOLS` symbols, or where all of them are alike.
    """
    both = np.isfinite(expected) & np.isfinite(came)
    expected, came = expected[both], came[both]
    if both.sum() < FEWEST_SYMBOLS or np.ptp(expected) == 0 or np.ptp(came) == 0:
        return np.nan, np.nan
    return float(np.corrcoef(expected, came)[0, 1]), float(stats.spearmanr(expected, came).statistic)


def qlike(variance: Floats, came: Floats) -> Floats:
    """Loss of variances [B]: came / forecast - log(came / forecast) - 1 (Patton, 2011). NaN where one is not > 0."""
    known = (variance > 0) & (came > 0)
    ratio = np.where(known, came, np.nan) / np.where(known, variance, np.nan)
    return np.asarray(ratio - np.log(ratio) - 1)


def implausible(bars: Floats, close: Floats, change: Floats) -> dict[str, Floats]:
    """Shares [B] of sampled bars [B, S, H, 6] that no market makes, and how far the first of them jump.

    `firstJump` is the median over paths of |first change of the close from the origin's, `close` [B]|, in units of the
    usual change of one step: `change` [B], the median of |100 x one-step log change| over the lookback. A market has 1.
    """
    opened, high, low, closed = (bars[..., column] for column in range(4))
    shares = {
        "highBelowBody": high < np.maximum(opened, closed),
        "lowAboveBody": low > np.minimum(opened, closed),
        "negativeVolume": bars[..., 4] < 0,
        "priceNotPositive": (bars[..., :4] <= 0).any(axis=-1),
    }
    first = bars[:, :, 0, 3].astype(np.float64)
    known = (first > 0) & (close > 0)[:, None]
    ratio = np.where(known, first, 1.0) / np.where(known, close[:, None], 1.0)
    jump = np.median(np.where(known, np.abs(100 * np.log(ratio)), np.inf), axis=1)  # below any price: an endless jump
    usable = np.isfinite(jump) & (change > 0)
    return {name: share.mean(axis=(1, 2)) for name, share in shares.items()} | {
        "firstJump": np.divide(jump, change, out=np.full(len(jump), np.nan), where=usable)
    }
