"""A whole run through the command line, from start to published, as users start it; and several models on one GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from typing import Any

import yaml

from benchmarks.gpu.place import BATCH, SMALL, TOKENIZER_SIZE, WINDOW, Results, bars, directory

_KRONOS = "import sys; from kronos_operator.cli import main; sys.exit(main())"  # installed or not


def run(results: Results) -> None:
    """As many windows and epochs as manifests/examples/model_a_4h.yaml has on its own bars, from random weights."""
    model = _model("one", size="tiny" if SMALL else "small", epochs=1 if SMALL else 30, windows=64 if SMALL else 1186)
    results.attempt("a run of model_a_4h's size, start to published", partial(_kronos, [model]))


def packing(results: Results) -> None:
    """Small models on one GPU, one alone and eight at once: windows of the predictor a second, of all together."""
    for count in (1, 2) if SMALL else (1, 8):
        names = [f"of{count}-{number}" for number in range(count)]
        models = [
            _model(name, size="tiny" if SMALL else "mini", epochs=1 if SMALL else 30, windows=32 if SMALL else 6400)
            for name in names
        ]
        share = ("--max-workers" if SMALL else "--workers-per-gpu", str(count))
        results.attempt(f"{count} models of one size at once", partial(_together, models, names, share))


def _together(models: list[str], names: list[str], share: tuple[str, str]) -> dict[str, Any]:
    taken = _kronos(models, "--mode", "parallel", *share)
    rates = []
    for name in names:
        (file,) = (directory() / "outputs").glob(f"models/*/{name}/runs/*/predictor/result.json")
        rates.append(json.loads(file.read_text())["samplesPerSecond"])
    return {"windows/s": round(sum(rates)), "each": [round(rate) for rate in rates], "s": taken["s"]}


def _model(name: str, *, size: str, epochs: int, windows: int) -> str:
    stage = {"epochs": epochs, "batchSize": BATCH, "learningRate": 1e-4}
    spec = {
        "timeframe": "1h",
        "data": {"source": {"path": str(bars())}},
        "window": {"lookback": WINDOW.lookback, "horizon": WINDOW.horizon},
        "tokenizer": stage | {"init": {"scratch": {"size": TOKENIZER_SIZE}}},
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
        [sys.executable, "-c", _KRONOS, "run", *files, *options],
        env=environment,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stdout + done.stderr)[-300:]}")
    return {"s": round(seconds, 1)}
