"""What happened a season ago happens again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kronos_trainer.data.quality.trading_hours import DAY, MONDAY, WEEK, spacing
from kronos_trainer.evaluation.baselines.returns import bootstrapped, finite, log_returns, stacked
from kronos_trainer.evaluation.cells import Floats, Forecast, Int64, Origin
from kronos_trainer.forecast.consistency import CLOSE

YEAR = int(365.25 * DAY)
RECENT = 12  # days or weeks in which the bars of a season are counted
TYPICAL = 3  # of them needed


class SeasonalNaive:
    """The changes of the last season repeated; the band is a bootstrap of how far that was off in the lookback."""

    name = "seasonalNaive"
    label = "seasonal naive: the last season's changes again"

    def forecast(self, origins: Sequence[Origin], *, samples: int, seed: int) -> Forecast:
        """Paths of closes; NaN with less than a season of bars and two, or where the last season has a bad price."""
        paths = [_paths(origin, samples=samples, seed=seed) for origin in origins]
        return Forecast(close=stacked(paths, samples=samples))


def season(times: Int64) -> int:
    """Bars in a season of a series with these times [T]: it ends with the last bar.

    A season is a day where bars are shorter than that, a week where they are shorter than a week, and a year otherwise.
    For days and weeks its bars are counted, the median of the latest full ones: 24 hourly bars of a market that never
    closes and 7 of a stock exchange, 5 daily bars of weekdays and 7 of a cryptocurrency. With fewer than three full
    ones, as many as fit; so are weekly (52) and monthly (12) bars of a year.
    """
    latest = times[-RECENT * 7 :]
    step = spacing(latest) or DAY
    if step >= WEEK:
        return max(round(YEAR / float(np.median(np.diff(latest)))), 1)  # months differ in length
    period = DAY if step < DAY else WEEK
    fit = max(period // step, 1)
    numbers = (times[-(RECENT + 1) * fit :] - MONDAY) // period
    starts = np.flatnonzero(np.diff(numbers)) + 1  # bars that begin a new day or week
    counts = np.diff(starts)  # the first and the last one may not be full
    return int(np.median(counts)) if len(counts) >= TYPICAL else fit


def _paths(origin: Origin, *, samples: int, seed: int) -> Floats:
    length = season(origin.times)
    returns = log_returns(origin.bars[-(origin.lookback + length) :, CLOSE])
    if len(returns) < length or not np.isfinite(returns[-length:]).all():
        return np.full((samples, origin.horizon), np.nan)
    repeated = np.resize(returns[-length:], origin.horizon).cumsum()
    off = finite(returns[length:] - returns[:-length])
    return np.asarray(bootstrapped(off, origin, samples=samples, seed=seed) + repeated)
