"""All symbols as one market: the mean of their returns, date by date."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.data.bars import Bars
from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.forecast.consistency import CLOSE

Mask = npt.NDArray[np.bool_]  # of bars or dates


@dataclass(frozen=True)
class Market:
    """An index of equal weights. `times` [T] are those of the bars in wall-clock ns, ascending."""

    times: Int64
    returns: Floats  # [T] 100 x log return of the bar that begins at each time
    level: Floats  # [T] 100 x log of the index after it; 0 before the first

    @property
    def dates(self) -> pd.DatetimeIndex:
        """The times as pandas has them."""
        return pd.DatetimeIndex(self.times.view("datetime64[ns]"))


def market_of(bars: Bars) -> Market:
    """The mean return over the symbols that have a bar at a time and one before it; prices of 0 or less have none."""
    symbols = np.repeat(np.arange(len(bars.symbols)), np.diff(bars.offsets))
    close = bars.values[:, CLOSE].astype(np.float64)
    logs = 100 * np.log(close, out=np.full(close.shape, np.nan), where=close > 0)
    frame = pd.DataFrame({"time": bars.times, "symbol": symbols, "log": logs})
    frame["change"] = frame.groupby("symbol")["log"].diff()
    means = frame.groupby("time")["change"].mean().dropna()
    returns = means.to_numpy()
    return Market(means.index.to_numpy(dtype=np.int64), returns, returns.cumsum())
