"""Split conformal prediction: how far the bands of past dates were off, and so by what to widen those of the next.

A cell's score at a level is the multiple of the sampled band's distance from its median that would just have held the
close. The factor is the quantile of the scores at that level, with one part more for the date that is to come (Vovk et
al. 2005; Lei et al. 2018). Dates are the units: the cells of one date share its weight (Dunn, Wasserman and Ramdas
2023), for the symbols of a day move together. With a half-life recent dates weigh more (Barber et al. 2023), which
costs precision and is only taken if it has paid on later dates of the same span.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scoringrules

from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.forecast.bands import distances

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
JUDGED = (0.5, 0.8, 0.95)  # whose intervals choose the half-life
CERTAINTY = 1.0  # standard errors that the gain of a half-life must exceed; by chance it rather loses
BLOCKS = 4  # in which the second half of the dates is forecast from those before
LEAST_DATES = 40  # to choose a half-life from
HALF_LIVES = (0.5, 0.25)  # of the dates


class Bands:
    """Scores and central bands of B cells, step by step: [H][levels, B]."""

    def __init__(self, paths: Floats, actual: Floats, levels: Sequence[float] = LEVELS) -> None:
        """Sampled closes [B, S, H] and those that came [B, H], in 100 x log relative to the origin."""
        self.levels = np.asarray(levels)
        self.actual = actual
        ends = np.concatenate([(1 - self.levels) / 2, (1 + self.levels) / 2])
        shape = (actual.shape[1], len(levels), len(actual))
        self.median = np.empty((shape[0], shape[2]))
        self.below, self.above = np.empty(shape), np.empty(shape)
        for step in range(shape[0]):  # one at a time: all quantiles of all steps would take several times the paths
            # distances have a floor in log price
            median, far = distances(paths[:, :, step : step + 1] / 100, ends)
            self.median[step] = 100 * median[:, 0]
            self.below[step], self.above[step] = 100 * far[: len(levels), :, 0], 100 * far[len(levels) :, :, 0]

        miss = (actual.T - self.median)[:, None]
        self.scores = np.abs(miss) / np.where(miss < 0, self.below, self.above)  # [H, levels, B]

    def ends(self, factors: Floats) -> tuple[Floats, Floats]:
        """Lower and upper ends [H, levels, B] with factors [levels, H]."""
        by_step = factors.T[:, :, None]
        return self.median[:, None] - by_step * self.below, self.median[:, None] + by_step * self.above

    def covered(self, factors: Floats) -> Floats:
        """Share of cells and steps in each band [levels], with factors [levels, H]."""
        low, high = self.ends(factors)
        came = self.actual.T[:, None]
        return np.asarray(((low <= came) & (came <= high)).mean(axis=(0, 2)))


def factors(scores: Floats, dates: Int64, levels: Floats, half_life: float | None) -> tuple[Floats, int]:
    """Factors [levels, H] of scores [H, levels, B] of cells at `dates` (0.. in time order), and how many levels none of
    the scores reaches: there are too few dates, and their factor is the largest score.
    """
    weights = _weights(dates, half_life)
    order = scores.argsort(axis=-1)
    reached = weights[order].cumsum(axis=-1)  # [H, levels, B]
    short = reached < (levels - 1e-9)[:, None]
    index = np.minimum(short.sum(axis=-1, keepdims=True), scores.shape[-1] - 1)
    found = np.take_along_axis(np.take_along_axis(scores, order, axis=-1), index, axis=-1)[..., 0]
    return found.T, int(short.all(axis=-1).any(axis=0).sum())


def _weights(dates: Int64, half_life: float | None) -> Floats:
    """Of each cell; what is missing to 1 is the part of the date that is to come."""
    _, position, count = np.unique(dates, return_inverse=True, return_counts=True)
    age = len(count) - np.arange(len(count))
    of_date = np.ones(len(count)) if half_life is None else 0.5 ** (age / half_life)
    return np.asarray((of_date / count)[position] / (of_date.sum() + 1))


def chosen_half_life(bands: Bands, dates: Int64) -> float | None:
    """The half-life, in dates, that has paid when later dates were forecast from earlier ones; None: none has.

    Judged by the interval score (Gneiting and Raftery 2007) per date.
    """
    days = np.unique(dates)
    if len(days) < LEAST_DATES:
        return None
    options: tuple[float | None, ...] = (None, *(float(round(share * len(days))) for share in HALF_LIVES))
    losses = np.concatenate(
        [_forward(bands, dates, block, options) for block in np.array_split(days[len(days) // 2 :], BLOCKS)],
        axis=1,
    )
    best = int(losses.mean(axis=1).argmin())
    return options[best] if earns(losses[best], losses[0], CERTAINTY) else None


def _forward(bands: Bands, dates: Int64, block: Int64, options: Sequence[float | None]) -> Floats:
    """Mean interval score [options, dates of the block] with the factors of the dates before it."""
    before, within = dates < block[0], np.isin(dates, block)
    judged = np.isin(bands.levels, JUDGED)
    scores, came = bands.scores[..., before], bands.actual.T[:, None, within]
    losses = np.empty((len(options), len(block)))
    for index, half_life in enumerate(options):
        found, _ = factors(scores, dates[before], bands.levels, half_life)
        low, high = (end[:, judged][..., within] for end in bands.ends(found))
        score = scoringrules.interval_score(came, low, high, 1 - bands.levels[judged][:, None])
        losses[index] = date_means(np.asarray(score).mean(axis=(0, 1)), dates[within])
    return losses


def date_means(values: Floats, dates: Int64) -> Floats:
    """Mean of the cells of each date, in time order."""
    _, position, count = np.unique(dates, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(position, values) / count)


def earns(losses: Floats, of_default: Floats, certainty: float) -> bool:
    """Whether losses per date are lower than the default's, on average by more than so many standard errors."""
    gain = of_default - losses
    if len(gain) < 2 or not gain.any():
        return False
    return bool(gain.mean() > certainty * gain.std(ddof=1) / np.sqrt(len(gain)))
