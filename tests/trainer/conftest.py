"""What the trainer's tests share."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kronos_trainer.config import RunConfig, StageName

# The support module beside this file; pytest's importlib mode leaves it out of the path.
sys.path.insert(0, str(Path(__file__).parent))

# Nets this small gain nothing from threads, which on a busy machine spend their time waiting for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

MakeRun = Callable[..., RunConfig]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run config of tiny models; keyword arguments replace its fields."""
    return functools.partial(tiny_run, tmp_path)


def tiny_run(directory: Path, **fields: Any) -> RunConfig:
    """`make_run` with its outputs under a directory."""
    base = {
        "model": {"name": "model-b-1d"},
        "run": "run-1",
        "stage": "tokenizer",
        "stage_hashes": {"tokenizer": "t" * 12, "predictor": "p" * 12},
        "publish": False,
        "timeframe": "1d",
        "data": {"source": {"path": "bars"}},
        "window": {"lookback": 12, "horizon": 3},
        "tokenizer": {"init": {"scratch": {"size": "tiny"}}, "epochs": 2},
        "predictor": {"init": {"scratch": {"size": "tiny"}}, "epochs": 2},
        "training": {},
        "evaluation": {},
        "checkpoint": {},
        "bars": "bars",
        "output": str(directory / "outputs"),
    }
    return RunConfig.model_validate(base | fields)


@pytest.fixture
def bars_file(tmp_path: Path) -> Path:
    """Daily bars of two symbols, 260 and 200 rows, from a seeded random walk: returns persist, so models can learn."""
    return write_bars(tmp_path / "bars.csv")


def write_bars(path: Path) -> Path:
    """Writes the bars of `bars_file`."""
    generator = np.random.default_rng(7)
    frames = []
    for symbol, rows in (("AAA", 260), ("BBB", 200)):
        noise = generator.normal(0, 0.01, rows)
        close = 100 * np.exp(np.cumsum(noise + 0.5 * np.roll(noise, 1)))
        open_ = np.append(close[0], close[:-1])
        volume = generator.lognormal(10, 0.5, rows)
        frame = {
            "timestamps": pd.bdate_range("2020-01-01", periods=rows),
            "symbol": symbol,
            "open": open_,
            "high": np.maximum(open_, close) * 1.002,
            "low": np.minimum(open_, close) * 0.998,
            "close": close,
            "volume": volume,
            "amount": volume * close,
        }
        frames.append(pd.DataFrame(frame))
    pd.concat(frames).to_csv(path, index=False)
    return path


@pytest.fixture
def trainable(bars_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeRun:
    """A run config with bars on disk that trains in about a second: 23 steps an epoch, four micro-steps each."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the trainer's cache
    return functools.partial(trainable_run, tmp_path, bars_file)


@pytest.fixture(scope="session")
def trainable_in() -> Callable[[Path], MakeRun]:
    """`trainable` in a directory, for what several tests share."""
    return lambda directory: functools.partial(trainable_run, directory, write_bars(directory / "bars.csv"))


def trainable_run(directory: Path, bars_file: Path, **fields: Any) -> RunConfig:
    """`tiny_run` with these bars and a batch of 16; `tokenizer` and `predictor` are merged into the stages."""
    base: dict[str, Any] = {"bars": str(bars_file), "training": {"precision": "fp32"}}
    for stage in ("tokenizer", "predictor"):
        base[stage] = {
            "init": {"scratch": {"size": "tiny"}},
            "epochs": 2,
            "batch_size": 16,
            "micro_batch_size": 4,
            "learning_rate": 1e-3,
        } | fields.pop(stage, {})
    return tiny_run(directory, **base | fields)


@dataclass(frozen=True)
class Gang:
    """How two ranks ended."""

    code: int
    events: list[dict[str, Any]]
    stderr: str

    @property
    def error(self) -> dict[str, Any]:
        """The error of a rank that is the gang's cause; other ranks may have printed after it."""
        return next(event for event in self.events if event["event"] == "error" and event["exitCode"] == self.code)


RunGang = Callable[..., Gang]


@pytest.fixture
def run_gang(tmp_path: Path) -> RunGang:
    """Trains a run with the real launcher and two ranks, disturbed as FAULT says (see faulty_rank.py)."""
    return functools.partial(start_gang, tmp_path)


def start_gang(directory: Path, run: RunConfig, script: str = "faulty_rank.py", **environ: str) -> Gang:
    """Starts two ranks of a script beside this file and waits for them."""
    config = directory / f"{run.run}-{run.stage}.json"
    config.write_text(run.dump())
    start = (
        "import pathlib, sys; from kronos_trainer.config import load_run; "
        "from kronos_trainer.launch.launcher import launch; from kronos_trainer.stopping import StopSignal; "
        "run, script = sys.argv[1:]; "
        "command = [sys.executable, script, '--run', run]; "
        "sys.exit(launch(load_run(pathlib.Path(run)), command, StopSignal(), processes=2))"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, str(config), str(Path(__file__).with_name(script))],
        env=os.environ | {"TMPDIR": str(directory), "OMP_NUM_THREADS": "1"} | environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return Gang(done.returncode, events, done.stderr)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunConfig]:
    """Both stages of a run, trained by two ranks that nothing disturbed."""
    directory = tmp_path_factory.mktemp("trained")
    bars = write_bars(directory / "bars.csv")
    runs = {}
    for stage in StageName.with_weights():
        runs[stage.value] = trainable_run(directory, bars, stage=stage, run="whole")
        gang = start_gang(directory, runs[stage.value])
        assert gang.code == 0, gang.stderr
    return runs
