"""What was drawn -> rows: averages, quantiles or every path. Called by the command and for notebooks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.forecast.consistency import consistent
from kronos_trainer.forecast.drawing import Drawn
from kronos_trainer.forecast.kind import Kind

PATH, QUANTILE = "path", "quantile"


def columns_of(drawn: Drawn, kind: Kind) -> tuple[pd.DataFrame, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Rows with FEATURES, after `path` (from 1) or `quantile` if requested, and which bar each row is of.

    The rows of a path follow one another; of quantiles, all of one bar do.
    """
    horizon = len(drawn.average)
    if kind.paths:
        samples = len(drawn.paths)
        frame = _frame(drawn.paths.reshape(-1, len(FEATURES)))
        frame.insert(0, PATH, np.repeat(np.arange(1, samples + 1), horizon))
        return frame, np.tile(np.arange(horizon), samples)
    if kind.quantiles:
        bars = np.quantile(drawn.paths, kind.quantiles, axis=0).swapaxes(0, 1).reshape(-1, len(FEATURES))
        if drawn.repairs is not None:
            bars, _ = consistent(bars, bars)  # interpolation may be off by a last digit
        frame = _frame(bars)
        frame.insert(0, QUANTILE, np.tile(kind.quantiles, horizon))
        return frame, np.repeat(np.arange(horizon), len(kind.quantiles))
    return _frame(drawn.average), np.arange(horizon)


def _frame(bars: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> pd.DataFrame:
    return pd.DataFrame(bars, columns=list(FEATURES))
