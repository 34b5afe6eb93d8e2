"""Chooses the sampling and measures the bands on the validation span. Called by the evaluation stage.

The sampling is a hyper-parameter: a small grid of temperature and top-p, coarse and then finer, is judged by CRPS per
date. Temperature 1 with top-p 1 stays unless another gains more than two standard errors of the difference. The bands
of the chosen sampling then get conformal factors. The test span is never seen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kronos_trainer.evaluation import metrics
from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.evaluation.conformal import JUDGED, LEVELS, Bands, chosen_half_life, date_means, earns, factors
from kronos_trainer.evaluation.origins import evenly
from kronos_trainer.forecast.calibration import VERSION, Calibration, Tried, coverage_names
from kronos_trainer.forecast.sampling import Sampling

Draw = Callable[[Sampling, Int64], Floats]
Point = tuple[float, float]  # temperature, top-p

PLAIN: Point = (1.0, 1.0)
COARSE: tuple[Point, ...] = tuple((temperature, top_p) for top_p in (1.0, 0.9) for temperature in (1.0, 0.7, 1.4))
FINER = 2**0.25  # between two temperatures of the coarse grid
FEW = 10  # paths, to compare samplings with: the same random numbers are behind all of them
MOST_TRIED = 150  # cells, likewise; factors take them all
CERTAINTY = 2.0  # standard errors by which the best of them must gain
DIGITS = 4  # of a factor


def calibrate(
    draw: Draw,
    actual: Floats,
    dates: Int64,
    *,
    samples: int,
    seed: int,
    beat: Callable[[], None] = lambda: None,
) -> Calibration:
    """The calibration of B cells of the validation span.

    `draw` gives the sampled closes [b, S, H] of some of the cells, by their indices, `actual` [B, H] are those that
    came, both in 100 x log relative to the origin; `dates` [B] counts the cells' dates in time order. Cells that are
    not finite are left out. `samples` is S of the factors; `beat` is called between the draws, of which there are at
    most nine.
    """
    if not len(actual) or not np.isfinite(actual).all(axis=1).any():
        return Calibration(version=VERSION, note="no forecast of the validation span can be scored")
    tried = _Grid(draw, actual, dates, min(FEW, samples), seed, beat)
    temperature, top_p = tried.chosen()
    paths = draw(Sampling(temperature=temperature, top_p=top_p, samples=samples, seed=seed), np.arange(len(actual)))
    beat()
    usable = _usable(paths, actual)
    if not usable.any():
        return Calibration(version=VERSION, note="no forecast of the validation span is finite")
    bands, of = Bands(paths[usable], actual[usable]), dates[usable]
    half_life = chosen_half_life(bands, of)
    beat()
    found, short = factors(bands.scores, of, bands.levels, half_life)
    found = np.ceil(found * 10**DIGITS) / 10**DIGITS
    judged = np.isin(bands.levels, JUDGED)
    names = coverage_names(JUDGED)
    return Calibration(
        version=VERSION,
        temperature=temperature,
        top_p=top_p,
        tried=tuple(
            Tried(temperature=one[0], top_p=one[1], crps=_finite(losses.mean())) for one, losses in tried.losses.items()
        ),
        levels=LEVELS,
        factors=tuple(tuple(row) for row in found.tolist()),
        samples=samples,
        dates=len(np.unique(of)),
        cells=int(usable.sum()),
        half_life=half_life,
        reached=(0.0, *LEVELS)[-1 - short],
        sampled=dict(zip(names, bands.covered(np.ones_like(found))[judged].tolist(), strict=True)),
        calibrated=dict(zip(names, bands.covered(found)[judged].tolist(), strict=True)),
    )


class _Grid:
    """Losses per date of the samplings that were tried."""

    def __init__(
        self, draw: Draw, actual: Floats, dates: Int64, samples: int, seed: int, beat: Callable[[], None]
    ) -> None:
        self._cells = evenly(len(actual), MOST_TRIED)
        self._draw, self._actual, self._dates, self._beat = draw, actual[self._cells], dates[self._cells], beat
        self._samples, self._seed = samples, seed
        self.losses: dict[Point, Floats] = {}

    def chosen(self) -> Point:
        """The best of all that were tried, or the plain one. A single path has no CRPS to compare."""
        if self._samples < 2:
            return PLAIN
        for point in COARSE:
            self._try(point)
        temperature, top_p = self._best()
        for finer in (temperature / FINER, temperature * FINER):
            self._try((round(finer, 2), top_p))
        best = self._best()
        return best if earns(self.losses[best], self.losses[PLAIN], CERTAINTY) else PLAIN

    def _best(self) -> Point:
        means = {point: float(losses.mean()) for point, losses in self.losses.items()}
        return min(means, key=lambda point: means[point] if np.isfinite(means[point]) else np.inf)

    def _try(self, point: Point) -> None:
        sampling = Sampling(temperature=point[0], top_p=point[1], samples=self._samples, seed=self._seed)
        paths = self._draw(sampling, self._cells)
        self._beat()
        scored = _usable(paths, self._actual)
        crps = np.full(self._actual.shape, np.nan)  # a sampling that cannot forecast a cell cannot be compared
        crps[scored] = metrics.crps(paths[scored], self._actual[scored])
        known = np.isfinite(self._actual).all(axis=1)
        self.losses[point] = date_means(crps[known].mean(axis=1), self._dates[known])


def _usable(paths: Floats, actual: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(paths).all(axis=(1, 2)) & np.isfinite(actual).all(axis=1))


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
