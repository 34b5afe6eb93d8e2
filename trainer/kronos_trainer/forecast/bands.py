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

    At a calibrated level both ends of the band move to the multiple of their distance from the median, but never inside
    a narrower band. A quantile between two levels keeps its place between their ends; within the innermost band, and
    beyond the outermost, it moves as that band does. Steps beyond the calibrated horizon have the last step's factors.
    Prices may be relative to that of the origin or not.
    """
    wanted = np.asarray(quantiles, np.float64)
    if not calibration.factors:
        return np.asarray(np.quantile(paths, wanted, axis=-2, method=METHOD))
    levels = np.asarray(calibration.levels)
    median, far = distances(paths, np.concatenate([(1 - levels) / 2, (1 + levels) / 2, wanted]))
    steps = np.minimum(np.arange(paths.shape[-1]), calibration.horizon - 1)
    factors = np.asarray(calibration.factors)[:, steps].reshape(len(levels), *(1,) * (median.ndim - 1), -1)
    sides = [_Side(ends, factors) for ends in (far[: len(levels)], far[len(levels) : 2 * len(levels)])]
    found = np.empty((len(wanted), *median.shape))
    for index, (quantile, distance) in enumerate(zip(wanted, far[2 * len(levels) :], strict=True)):
        beyond = int(np.searchsorted(levels, abs(2 * quantile - 1)))
        found[index] = median + np.sign(quantile - 0.5) * sides[int(quantile > 0.5)].moved(distance, beyond)
    return found


class _Side:
    """Distances of the ends of the bands on one side of the median, [levels + 1, ..., H] from 0 on."""

    def __init__(self, ends: Floats, factors: Floats) -> None:
        nothing = np.zeros((1, *ends.shape[1:]))
        self.sampled = np.concatenate([nothing, ends])
        self.calibrated = np.concatenate([nothing, np.maximum.accumulate(factors * ends, axis=0)])

    def moved(self, distance: Floats, beyond: int) -> Floats:
        """Where a sampled distance [..., H] goes that is beyond so many of the levels."""
        if beyond == len(self.sampled) - 1:
            return np.asarray(distance * self.calibrated[-1] / self.sampled[-1])
        room = self.sampled[beyond + 1] - self.sampled[beyond]
        part = np.divide(distance - self.sampled[beyond], room, out=np.zeros_like(distance), where=room > 0)
        return np.asarray(
            self.calibrated[beyond] + part.clip(0, 1) * (self.calibrated[beyond + 1] - self.calibrated[beyond])
        )


def apply_to_paths(calibration: Calibration, paths: Floats) -> Floats:
    """The paths [..., S, H] themselves, moved to the calibrated quantile of their rank: their dependence stays."""
    samples = paths.shape[-2]
    moved = apply(calibration, paths, np.arange(1, samples + 1) / (samples + 1))
    ranks = paths.argsort(axis=-2, kind="stable").argsort(axis=-2, kind="stable")
    return np.take_along_axis(np.moveaxis(moved, 0, -2), ranks, axis=-2)
