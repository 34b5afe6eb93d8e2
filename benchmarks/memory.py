"""Memory of two ranks over 5,000 symbols x 2,500 bars: summed PSS, in which shared pages count once."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from kronos_trainer.config import RunConfig

SYMBOLS, BARS, FILES = 5_000, 2_500, 10
GOAL_GIB = 3.0
SPLIT = {"train": 0.95, "validation": 0.042, "test": 0.008}


def _write_bars(directory: Path) -> None:
    """Random walks of daily bars; what they are worth does not matter to memory."""
    rng = np.random.default_rng(0)
    days = np.datetime64("2014-01-01", "ns") + np.arange(BARS) * np.timedelta64(1, "D")
    for part in range(FILES):
        count = SYMBOLS // FILES
        names = [f"S{part * count + i:04d}" for i in range(count)]
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (count, BARS)), axis=1))
        opening = close * np.exp(rng.normal(0, 0.003, close.shape))
        table = {
            "symbol": pa.array(np.repeat(names, BARS)).dictionary_encode(),
            "timestamps": np.tile(days, count),
            "open": opening.ravel(),
            "high": (np.maximum(opening, close) * 1.002).ravel(),
            "low": (np.minimum(opening, close) * 0.998).ravel(),
            "close": close.ravel(),
            "volume": rng.lognormal(12, 1, close.size),
        }
        pq.write_table(pa.table(table), directory / f"part-{part}.parquet")


def _config(bars: Path, output: Path) -> RunConfig:
    stage = {"epochs": 1, "init": {"scratch": {"size": "tiny"}}}
    return RunConfig.model_validate(
        {
            "model": {"name": "memory"},
            "run": "bench",
            "stage": "tokenizer",
            "stageHashes": {"tokenizer": "0" * 16, "predictor": "1" * 16},
            "publish": False,
            "timeframe": "1d",
            # A short validation split: all of it is scored twice, which takes time and no memory.
            "data": {"source": {"path": str(bars)}, "split": {"fractions": SPLIT}},
            "window": {},
            "tokenizer": stage,
            "predictor": stage,
            "training": {"windowsPerEpoch": 2000},
            "evaluation": {"enabled": False},
            "checkpoint": {},
            "bars": str(bars),
            "output": str(output),
        }
    )


def _pss(process: psutil.Process) -> int:
    """Summed proportional set size of a process and all its descendants, in bytes."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            rollup = Path(f"/proc/{member.pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
    return total


def run() -> None:
    """Train one tiny tokenizer epoch with two ranks and print the peak."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        bars = root / "bars"
        bars.mkdir()
        _write_bars(bars)
        config = root / "run.json"
        config.write_text(_config(bars, root / "outputs").dump())
        command = [sys.executable, "-m", "kronos_trainer", "launch", "--run", str(config), "--nproc", "2"]
        with (root / "log").open("w") as log:
            launcher = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        peak, start = 0, time.monotonic()
        process = psutil.Process(launcher.pid)
        while launcher.poll() is None:
            peak = max(peak, _pss(process))
            time.sleep(0.2)
        if launcher.returncode:
            raise SystemExit(f"the run ended with {launcher.returncode}:\n{(root / 'log').read_text()[-2000:]}")
    gib = peak / 2**30
    print(f"\nMemory, 2 ranks, {SYMBOLS:,} symbols x {BARS:,} bars from Parquet, windowsPerEpoch 2,000")
    verdict = "met" if gib < GOAL_GIB else "MISSED"
    print(f"  peak summed PSS {gib:.2f} GiB in {time.monotonic() - start:.0f} s   goal < {GOAL_GIB} GiB: {verdict}")
