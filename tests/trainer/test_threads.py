"""Threads of torch sleep while they wait, in every process that computes; test_launch.py has the launcher's part."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kronos_trainer.config import RunConfig
from kronos_trainer.storage import durable


@pytest.fixture
def forecast(bars_file: Path, tmp_path: Path) -> list[str]:
    """A forecast that fails at its weights, after torch was imported."""
    for name in ("config.json", "model.safetensors"):
        durable.write_text(tmp_path / "weights" / name, "damaged")
    weights = ["--tokenizer", str(tmp_path / "weights"), "--predictor", str(tmp_path / "weights")]
    bars = ["--input", str(bars_file), "--symbol", "AAA", "--horizon", "1", "--output", str(tmp_path / "out.csv")]
    return ["kronos_trainer.forecast", *weights, *bars]


@pytest.fixture
def rank(trainable: Callable[..., RunConfig], tmp_path: Path) -> list[str]:
    """A rank as torchrun starts it, without our launcher, that fails at its bars."""
    durable.write_text(tmp_path / "run.json", trainable(bars=str(tmp_path / "absent")).dump())
    return ["kronos_trainer", "--run", str(tmp_path / "run.json")]


@pytest.mark.parametrize("command", ["forecast", "rank"])
def test_threads_sleep_while_they_wait(command: str, request: pytest.FixtureRequest) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-m", *request.getfixturevalue(command)],
        env=environment | {"OMP_DISPLAY_ENV": "VERBOSE", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 66, done.stderr
    # GNU's OpenMP gives account of its settings when torch loads it; its policy reads PASSIVE even when none is set.
    assert "GOMP_SPINCOUNT = '0'" in done.stderr
