"""What was drawn -> rows: averages, quantiles or every path. Called by the command and for notebooks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.forecast.drawing import Drawn
from kronos_trainer.forecast.kind import Kind
from kronos_trainer.forecast.quantiles import column, quantile_bars

PATH = "path"


def columns_of(drawn: Drawn, kind: Kind) -> tuple[pd.DataFrame, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Rows with FEATURES, and which bar each row is of.

    Of paths there is one row per path and bar, with a column `path` (from 1) first. Quantiles are columns, of each of
    FEATURES in turn: open_q05, open_q50, ...
    """
    horizon = len(drawn.average)
    if kind.paths:
        samples = len(drawn.paths)
        frame = _frame(drawn.paths.reshape(-1, len(FEATURES)))
        frame.insert(0, PATH, np.repeat(np.arange(1, samples + 1), horizon))
        return frame, np.tile(np.arange(horizon), samples)
    if kind.quantiles:
        names = [column(field, quantile) for field in FEATURES for quantile in kind.quantiles]
        wide = np.transpose(quantile_bars(drawn, kind), (1, 2, 0)).reshape(horizon, -1)
        return pd.DataFrame(wide, columns=names), np.arange(horizon)
    return _frame(drawn.average), np.arange(horizon)


def _frame(bars: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> pd.DataFrame:
    return pd.DataFrame(bars, columns=list(FEATURES))
