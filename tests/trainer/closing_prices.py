"""Bars of a few closing prices."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kronos_trainer.data.bars import Bars, time_stamps


def bars_of(closes: dict[str, pd.Series]) -> Bars:
    """Bars whose four prices are these closes."""
    times = np.concatenate([series.index.to_numpy("datetime64[ns]").view("int64") for series in closes.values()])
    close = np.concatenate([series.to_numpy(np.float32) for series in closes.values()])
    return Bars(
        symbols=tuple(closes),
        offsets=np.cumsum([0, *map(len, closes.values())]),
        values=np.repeat(close[:, None], 6, axis=1),
        times=times,
        stamps=time_stamps(times),
        digest="",
        notes=(),
    )
