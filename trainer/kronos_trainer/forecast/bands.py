"""Sampled paths -> quantiles of the log price, with the distances from the median that calibration has measured.

Pure. The evaluation measures the factors with `distances`, and a forecast applies them with `apply`: both see the same
bands. Quantiles are at the (S + 1) x q-th smallest of S paths, below which the next outcome falls with probability q if
it is one more such path; so factors that were measured with many paths hold for fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from kronos_trainer.forecast.calibration import Calibration

Floats = npt.NDArray[np.float64]

METHOD: Literal["weibull"] = "weibull"  # what NumPy calls these quantiles
NARROWEST = 0.25  # of a normal band with the paths' deviation: paths that share a token would have no width to multiply
RESOLUTION = 1e-7  # of log price: about that of float32, in which paths are drawn


def distances(paths: Floats, quantiles: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    """Median [..., H] of paths of log prices [..., S, H], and how far off each quantile is, [Q, ..., H], > 0."""
    wanted = np.asarray(quantiles, np.float64)
    found = np.quantile(paths, np.concatenate([[0.5], wanted]), axis=-2, method=METHOD)
    median, far = found[0], np.abs(found[1:] - found[0])
    normal = [abs(NormalDist().inv_cdf(min(max(quantile, 1e-4), 1 - 1e-4))) for quantile in wanted.tolist()]
    least = NARROWEST * np.multiply.outer(np.asarray(normal), paths.std(axis=-2))
    return median, np.maximum(far, np.maximum(least, RESOLUTION))


def apply(calibration: Calibration, paths: Floats, quantiles: Sequence[float] | Floats) -> Floats:
    """Calibrated quantiles [Q, ..., H] of paths of log prices [..., S, H], in the order of `quantiles`.

    The factor of a quantile q is that of the central band 1 - 2 min(q, 1 - q), interpolated between the calibrated
    levels and constant beyond; steps beyond the calibrated horizon have the last step's. A wider band never ends inside
    a narrower one. Prices relative to that of the origin, or not, are the same here.
    """
    wanted = np.asarray(quantiles, np.float64)
    if not calibration.factors:
        return np.asarray(np.quantile(paths, wanted, axis=-2, method=METHOD))
    levels = np.asarray(calibration.levels)
    every = np.unique(np.concatenate([(1 - levels) / 2, [0.5], (1 + levels) / 2, wanted]))
    median, far = distances(paths, every)
    factors = _factors(calibration, np.abs(2 * every - 1), paths.shape[-1])
    far *= factors.reshape(len(every), *(1,) * (far.ndim - 2), -1)
    middle = int(np.searchsorted(every, 0.5))
    far[middle] = 0
    far[middle:] = np.maximum.accumulate(far[middle:], axis=0)
    far[middle::-1] = np.maximum.accumulate(far[middle::-1], axis=0)
    signs = np.sign(every - 0.5).reshape(-1, *(1,) * (far.ndim - 1))
    return np.asarray((median + signs * far)[np.searchsorted(every, wanted)])


def apply_to_paths(calibration: Calibration, paths: Floats) -> Floats:
    """The paths [..., S, H] themselves, moved to the calibrated quantile of their rank: their dependence stays."""
    samples = paths.shape[-2]
    moved = apply(calibration, paths, np.arange(1, samples + 1) / (samples + 1))
    ranks = paths.argsort(axis=-2, kind="stable").argsort(axis=-2, kind="stable")
    return np.take_along_axis(np.moveaxis(moved, 0, -2), ranks, axis=-2)


def _factors(calibration: Calibration, central: Floats, horizon: int) -> Floats:
    """[levels of `central`, horizon]."""
    steps = np.asarray(calibration.factors)[:, np.minimum(np.arange(horizon), calibration.horizon - 1)]
    return np.stack([np.interp(central, calibration.levels, step) for step in steps.T], axis=1)
