"""Returns of past bars, and paths drawn from them; called by the baselines that forecast paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kronos_trainer.evaluation.cells import Floats, Origin
from kronos_trainer.evaluation.garman_klass import PERCENT
from kronos_trainer.forecast.consistency import CLOSE
from kronos_trainer.training.seeding import seed_of

FEWEST = 2  # returns that a band can be drawn from


def log_returns(closes: npt.NDArray[np.floating[Any]]) -> Floats:
    """Changes of 100 x log close: [..., T] -> [..., T - 1]; NaN beside a close that is not positive."""
    closes = np.asarray(closes, np.float64)
    usable = (closes > 0) & np.isfinite(closes)
    logs = np.log(closes, out=np.full(closes.shape, np.nan), where=usable)
    return np.asarray(np.diff(logs, axis=-1) * PERCENT)


def finite(values: Floats) -> Floats:
    """Those of them that exist: [N] -> [M]."""
    return values[np.isfinite(values)]


def priced(origin: Origin) -> bool:
    """Whether there is a close at the origin that a return can be computed from."""
    return len(origin.bars) > 0 and 0 < float(origin.bars[-1, CLOSE]) < np.inf


def generator(origin: Origin, seed: int) -> np.random.Generator:
    """Of all that is random in forecasts of this cell: it depends on seed, symbol and time of the origin alone."""
    return np.random.default_rng(seed_of(seed, "baseline", origin.symbol, int(origin.times[-1])))


def bootstrapped(returns: Floats, origin: Origin, *, samples: int, seed: int) -> Floats:
    """Sums of returns [N] drawn with replacement: paths [samples, horizon] whose median is 0 at every step.

    NaN where there are fewer than two returns, or the origin has no price. The median of the sample itself is
    subtracted, so that the point forecast of a baseline is what its name promises and not the luck of the draw.
    """
    shape = (samples, origin.horizon)
    if len(returns) < FEWEST or not priced(origin):
        return np.full(shape, np.nan)
    drawn = returns[generator(origin, seed).integers(len(returns), size=shape)] - returns.mean()
    paths = drawn.cumsum(axis=1)
    return np.asarray(paths - np.median(paths, axis=0))


def stacked(paths: list[Floats], *, samples: int) -> Floats:
    """Paths of all cells, each [samples, horizon]: [B, samples, horizon]."""
    return np.stack(paths) if paths else np.empty((0, samples, 0))
