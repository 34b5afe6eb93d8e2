"""A whole run through the command line, from start to published, as users start it; and several models on one GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from typing import Any

import yaml

from benchmarks.gpu.place import SMALL, Results, bars, directory


def run(results: Results) -> None:
    """As many windows and epochs as manifests/examples/model_a_4h.yaml has on its own bars, from random weights."""
    model = _model("one", size="tiny" if SMALL else "small", epochs=1 if SMALL else 30, windows=64 if SMALL else 1186)
    results.attempt("a run of model_a_4h's size, start to published", partial(_kronos, [model]))


def packing(results: Results) -> None:
    """Eight small models, one after the other and several at once on the same GPU."""
    count = 2 if SMALL else 8
    for workers in (1, 2) if SMALL else (1, 4, 8):
        models = [
            _model(f"m{workers}-{number}", size="tiny" if SMALL else "mini", epochs=1, windows=32 if SMALL else 6400)
            for number in range(count)
        ]
        options = ("--workers", str(workers)) if SMALL else ("--workers-per-gpu", str(workers))
        results.attempt(f"{count} models, {workers} at a time", partial(_kronos, models, *options))


def _model(name: str, *, size: str, epochs: int, windows: int) -> str:
    stage = {"epochs": epochs, "batchSize": 64 if not SMALL else 8, "learningRate": 1e-4}
    spec = {
        "timeframe": "1h",
        "data": {"source": {"path": str(bars())}},
        "window": {"lookback": 20, "horizon": 5} if SMALL else {"lookback": 90, "horizon": 10},
        "tokenizer": stage | {"init": {"scratch": {"size": "tiny" if SMALL else "base"}}},
        "predictor": stage | {"init": {"scratch": {"size": size}}},
        "training": {"windowsPerEpoch": windows, "validationWindows": max(32, windows // 4)},
        "evaluation": {"enabled": False},
    }
    path = directory() / f"{name}.yaml"
    document = {"apiVersion": "kronos.io/v1alpha1", "kind": "KronosModel", "metadata": {"name": name}, "spec": spec}
    path.write_text(yaml.safe_dump(document))
    return str(path)


def _kronos(models: list[str], *options: str) -> dict[str, Any]:
    files = [argument for model in models for argument in ("-f", model)]
    environment = os.environ | {"KRONOS_OUTPUT_PATH": str(directory() / "outputs"), "COMET_MODE": "disabled"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "kronos_operator.cli", "run", *files, *options],
        env=environment,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
    return {"s": round(seconds, 1), "models/min": round(len(models) / seconds * 60, 1)}
