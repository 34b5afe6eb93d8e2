"""What the sections share: the device, whether this is the small mode, bars, and how results are kept."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kronos_trainer.config import Data, Timeframe, Window
from kronos_trainer.data.bars import prepare_bars
from kronos_trainer.data.windows import Splits, split_bars

SMALL = not torch.cuda.is_available()
DEVICE = torch.device("cpu" if SMALL else "cuda")
BATCH = 8 if SMALL else 64
TOKENIZER_SIZE = "tiny" if SMALL else "base"
WINDOW = Window(lookback=20, horizon=5) if SMALL else Window(lookback=90, horizon=10)


@dataclass
class Results:
    """Results of one section by name, written to a file as they come."""

    path: Path
    found: dict[str, Any] = field(default_factory=dict)

    def put(self, name: str, value: Any) -> None:
        """Adds one."""
        self.found[name] = value
        print(f"  {name}: {json.dumps(value)}", flush=True)
        self.path.write_text(json.dumps(self.found, indent=1))

    def attempt(self, name: str, work: Callable[[], Any]) -> None:
        """Adds what `work` returns, or why it failed: the other results of the section are still wanted."""
        try:
            self.put(name, work())
        except Exception as error:
            self.fail(name, error)
        if not SMALL:
            torch.cuda.empty_cache()

    def fail(self, name: str, error: Exception) -> None:
        """Adds why one is missing."""
        self.put(name, {"failed": f"{type(error).__name__}: {str(error)[:300]}"})
        error.__traceback__ = None  # its frames keep the device's memory


def wait() -> None:
    """Waits for the device."""
    if not SMALL:
        torch.cuda.synchronize()


def seconds_a_call(work: Callable[[], object], *, warm_up: int, calls: int) -> float:
    """Mean over calls in a row, until the device is done with the last."""
    for _ in range(warm_up):
        work()
    wait()
    began = time.perf_counter()
    for _ in range(calls):
        work()
    wait()
    return (time.perf_counter() - began) / calls


def gibibytes() -> float:
    """Peak memory of the device since it was last asked for; 0 on a CPU."""
    if SMALL:
        return 0.0
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return round(peak, 2)


@cache
def directory() -> Path:
    """A directory of this section, which the runner removes."""
    return Path(tempfile.mkdtemp(prefix="kronos-gpu-"))


@cache
def bars() -> Path:
    """A file of hourly bars of a random walk: values do not change the amount of work."""
    rows = 600 if SMALL else 20_000
    generator = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(generator.normal(0, 0.002, rows)))
    opening = np.append(close[0], close[:-1])
    volume = generator.lognormal(8, 1, rows)
    path = directory() / "bars.csv"
    pd.DataFrame(
        {
            "timestamps": pd.date_range("2010-01-01", periods=rows, freq="1h"),
            "open": opening,
            "high": np.maximum(opening, close) * 1.001,
            "low": np.minimum(opening, close) * 0.999,
            "close": close,
            "volume": volume,
            "amount": volume * close,
        }
    ).to_csv(path, index=False)
    return path


@cache
def splits() -> Splits:
    """Windows of these bars."""
    data = Data.model_validate({"source": {"path": "-"}})
    prepared = prepare_bars(bars(), Timeframe.H1, data, directory() / "bars", lambda: None)
    return split_bars(prepared.open(), data, WINDOW)
