"""The bars that every benchmark uses: EURUSD by the hour, 2017."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pandas as pd

from kronos_trainer.config import Data, Timeframe
from kronos_trainer.data.bars import Bars, read_bars
from kronos_trainer.data.commands.samples import write_samples
from kronos_trainer.data.reading.readers import read_frame


@functools.cache
def _series() -> tuple[Bars, pd.DataFrame]:
    with tempfile.TemporaryDirectory() as directory:
        write_samples(Path(directory))
        file = Path(directory) / "bars" / "fx" / "eurusd" / "EURUSD.csv"
        data = Data.model_validate({"source": {"path": str(file)}})
        return read_bars(file, Timeframe.H1, data), read_frame(file)[0]


def hourly_bars() -> Bars:
    """About 6,200 bars as the trainer holds them."""
    return _series()[0]


def hourly_frame() -> pd.DataFrame:
    """The same bars as upstream holds them."""
    return _series()[1]
