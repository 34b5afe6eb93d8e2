"""Runs as a report finds them: all files of a run, with invented but plausible numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from statsmodels.tsa.stattools import diebold_mariano_test

from kronos_trainer.config import RunConfig, RunPaths, StageName, StageResult
from kronos_trainer.evaluation.document import Evaluation

HASHES = {"tokenizer": "1f0c5a77d2b4", "predictor": "90ab33c1e5f2", "evaluation": "5be2c07d41aa"}
SOFTWARE = {"python": "3.11.7", "torch": "2.9.0", "kronos-operator": "0.1.0"}
SPANS = {
    "train": ("2001-01-02T00:00:00", "2010-11-15T00:00:00"),
    "validation": ("2010-11-15T00:00:00", "2011-12-30T00:00:00"),
    "embargo": ("2011-12-30T00:00:00", "2012-01-24T00:00:00"),
    "test": ("2012-01-24T00:00:00", "2013-03-02T00:00:00"),
}
RIVALS = {
    "start": ("the weights it started from", 1.0),
    "naive": ("naive: last close, band from past returns", 1.02),
    "drift": ("drift: mean of past returns", 1.03),
    "garch": ("GARCH(1,1) with t tails", 0.985),
    "momentum": ("momentum of 5 bars", 1.06),
}
LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
HORIZON = 15
NOTES = (
    "AAPL: 2 splits are not adjusted: 2005-02-28 (2 for 1), 2000-06-21 (2 for 1); data.adjust: splits adjusts them",
    "IBM: 1 gap of 9 bars from 2001-09-10 to 2001-09-17, all other symbols have it too",
    "skipped in test, with fewer than 105 bars in it: FB (1 of 6 symbols)",
)


class Example:
    """A run and where its files lie."""

    def __init__(self, root: Path, name: str = "model-b-1d", **fields: Any) -> None:
        base = {
            "model": {"name": name},
            "run": "run-7d21c0",
            "stage": "evaluation",
            "stage_hashes": HASHES,
            "publish": True,
            "timeframe": "1d",
            "data": {"source": {"path": "data/us-daily"}},
            "window": {"lookback": 90, "horizon": HORIZON},
            "tokenizer": {"epochs": 6},
            "predictor": {"epochs": 12, "learningRate": 4e-5},
            "training": {"windowsPerEpoch": 6400},
            "evaluation": {},
            "checkpoint": {},
            "bars": "data/us-daily",
            "output": str(root),
        }
        self.run = RunConfig.model_validate(base | fields)
        self.paths: RunPaths = self.run.paths()

    def write(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def trained(
    root: Path, name: str = "model-b-1d", *, stages: Sequence[str] = ("tokenizer", "predictor"), **fields: Any
) -> Example:
    """A run whose stages are trained and which nobody has judged."""
    if "stage_hashes" not in fields and "evaluation" not in fields:
        fields |= {"stage_hashes": {name: HASHES[name] for name in ("tokenizer", "predictor")}, "stage": "predictor"}
        fields["evaluation"] = {"enabled": False}
    example = Example(root, name, **fields)
    for number, stage in enumerate(stages):
        _train(example, StageName(stage), number)
    return example


def judged(
    root: Path,
    *,
    name: str = "model-b-1d",
    symbols: Sequence[str] = ("IBM",),
    dates: int = 40,
    gain: float = 0.1,
    seed: int = 1,
    noise: float = 0.16,
    verdicts: Mapping[str, Mapping[str, Any]] | None = None,
    summary: Mapping[str, Any] | None = None,
    promotion: Mapping[str, Any] | None = None,
    fans: int = 6,
    **document: Any,
) -> Example:
    """A run with an evaluation. `verdicts` replace fields of comparisons, `summary` of the whole."""
    example = trained(root, name, stage_hashes=HASHES, evaluation={})
    found = evaluation(symbols, dates=dates, gain=gain, seed=seed, noise=noise, fans=fans)
    for one in found["comparisons"]:
        one |= (verdicts or {}).get(one["rival"], {})
    found |= document
    spoken = {one["rival"]: one["verdict"] for one in found["comparisons"] if one["rival"] in ("start", "naive")}
    overall = (
        "Worse" if "Worse" in spoken.values()
        else "Better" if set(spoken.values()) == {"Better"}
        else "NotOutOfSample" if "NotOutOfSample" in spoken.values()
        else "Undecided"
    )  # fmt: skip
    fields = ("rival", "verdict", "dates", "improvement", "low", "high", "pBetter", "pWorse", "smallestGain", "refused")
    found["summary"] = {
        "verdict": overall,
        "metric": "crps",
        "loss": found["forecasters"]["finetuned"]["metrics"]["crps"],
        "dates": dates,
        "symbols": len(symbols),
        "first": found["dates"][0],
        "last": found["dates"][-1],
        "readings": len(found["readings"]),
        "comparisons": [{field: one[field] for field in fields if field in one} for one in found["comparisons"]],
        "coverage80": 0.71,
        "calibrated80": 0.79,
        "note": "",
    } | dict(summary or {})
    files = example.paths.stage(StageName("evaluation"))
    example.write(files.evaluation, Evaluation.read(found).dump())
    example.write(
        files.result,
        StageResult.read(
            {
                "stage": "evaluation", "hash": HASHES["evaluation"], "run": example.run.run, "attempt": 3,
                "startedAt": "2026-03-01T09:02:10Z", "finishedAt": "2026-03-01T09:14:41Z", "seconds": 751.0,
                "data": _bars(len(symbols)), "device": "NVIDIA H100",
                "scores": {"crps": found["summary"]["loss"]},
                "evaluation": found["summary"], "software": SOFTWARE,
                "promotion": dict(promotion) if promotion else {
                    "decision": "Held",
                    "message": "held: the test span cannot tell whether it is better; run run-55aa01 stays published",
                    "published": "run-55aa01",
                },
            }
        ).dump(),
    )  # fmt: skip
    example.write(example.paths.calibration, json.dumps(CALIBRATION))
    return example


CALIBRATION = {
    "version": 1,
    "run": "run-7d21c0",
    "temperature": 1.1,
    "topP": 1.0,
    "tried": [{"temperature": 1.0, "topP": 1.0, "crps": 2.9}, {"temperature": 1.1, "topP": 1.0, "crps": 2.8}],
    "levels": [0.5, 0.8, 0.95],
    "factors": [[1.1] * HORIZON, [1.14] * HORIZON, [1.05] * HORIZON],
    "samples": 100,
    "dates": 19,
    "cells": 95,
    "halfLife": None,
    "sampled": {"50": 0.41, "80": 0.71, "95": 0.86},
    "calibrated": {"50": 0.5, "80": 0.8, "95": 0.95},
    "reached": 0.9,
    "note": "",
}


def evaluation(
    symbols: Sequence[str], *, dates: int, gain: float, seed: int, noise: float, fans: int
) -> dict[str, Any]:
    """The JSON object of an evaluation.json; its p-values are those of its losses."""
    random = np.random.default_rng(seed)
    days = [(date(2012, 1, 24) + timedelta(days=21 * number)).isoformat() for number in range(dates)]
    common = 3 * random.lognormal(0, 0.35, dates)
    losses = {"finetuned": common * (1 - gain) * random.lognormal(0, noise / 2, dates)}
    losses |= {rival: common * level * random.lognormal(0, noise / 2, dates) for rival, (_, level) in RIVALS.items()}
    losses["calibrated"] = losses["finetuned"] * 0.985
    forecasters = {
        name: _forecaster(name, losses[name], symbols, random) for name in ("finetuned", "calibrated", *RIVALS)
    }
    return {
        "version": 1,
        "model": {"namespace": "default", "name": "model-b-1d"},
        "run": "run-7d21c0",
        "hash": HASHES["evaluation"],
        "timeframe": "1d",
        "lookback": 90,
        "horizon": HORIZON,
        "stride": HORIZON,
        "samples": 100,
        "seed": 100,
        "temperature": 1.0,
        "topP": 1.0,
        "confidence": 0.9,
        "digest": "d41c" * 16,
        "spans": {name: {"start": start, "end": end} for name, (start, end) in SPANS.items()},
        "pretrainedUntil": "",
        "contaminated": "",
        "planned": dates,
        "cut": "",
        "dates": days,
        "symbols": list(symbols),
        "readings": [
            {"run": run, "hash": "h", "span": {"start": SPANS["test"][0], "end": SPANS["test"][1]}, "at": at}
            for run, at in (("run-55aa01", "2026-02-20T07:31:00Z"), ("run-7d21c0", "2026-03-01T09:14:40Z"))
        ],
        "forecasters": forecasters,
        "comparisons": [
            _compared(rival, losses["finetuned"], losses[rival]) for rival in RIVALS if rival != "momentum"
        ],
        "leftOut": {"lightgbm": "lightgbm is not installed; pip install 'kronos-operator[lightgbm]'"},
        "fans": [fan for symbol in symbols[:fans] for fan in _fans(symbol, random)],
        "seconds": 702.4,
    }


def _compared(rival: str, model: np.ndarray, loss: np.ndarray) -> dict[str, Any]:
    test = diebold_mariano_test(
        np.zeros(len(model)), model, loss, criterion=lambda _, one: one, harvey_adj=True, horizon=1, lags=0
    )
    half = float(test.pvalue) / 2
    better = half if model.mean() < loss.mean() else 1 - half
    improvement = float(1 - model.mean() / loss.mean())
    error = float(np.std(model - loss, ddof=1) / np.sqrt(len(model)) / loss.mean())
    verdict = "Better" if better < 0.05 else "Worse" if better > 0.95 else "Undecided"  # the second reading
    return {
        "rival": rival,
        "verdict": verdict if len(model) >= 20 else "Undecided",
        "dates": len(model),
        "improvement": improvement,
        "low": improvement - 1.645 * error,
        "high": improvement + 1.645 * error,
        "pBetter": better,
        "pWorse": 1 - better,
        "smallestGain": 2.12 * error,
        "refused": "",
        "alpha": 0.05,
        "lags": 0,
        "indices": list(range(len(model))),
        "model": [float(value) for value in model],
        "loss": [float(value) for value in loss],
    }


def _forecaster(name: str, losses: np.ndarray, symbols: Sequence[str], random: np.random.Generator) -> dict[str, Any]:
    crps = float(losses.mean())
    steps = [crps * (0.42 + 1.16 * np.sqrt((step + 1) / HORIZON) / 1.35) for step in range(HORIZON)]
    wide = {"finetuned": 0.71, "calibrated": 0.79, "start": 0.66}.get(name, 0.78)
    found: dict[str, Any] = {
        "name": name,
        "label": RIVALS[name][0] if name in RIVALS else name,
        "losses": {"crps": [float(value) for value in losses]},
        "metrics": {
            "crps": crps, "mae": 1.38 * crps, "rmse": 1.9 * crps, "mase": 3.9 * crps / 3, "wql": 0.031 * crps,
            "energy": 6.2 * crps, "coverage50": wide - 0.3, "coverage80": wide, "coverage95": wide + 0.14,
            "width50": 3.1, "width80": 6.4, "width95": 10.2, "qlike": 0.31 * crps / 3,
            "direction": 0.53, "majority": 0.56, "ic": 0.04, "rankIc": 0.05, "rankIcir": 0.31,
        },
        "intervals": {"coverage80": [wide - 0.06, wide + 0.06]},
        "byStep": {
            "crps": steps, "absoluteError": [1.38 * value for value in steps],
            "coverage80": [wide - 0.05 + 0.08 * step / HORIZON for step in range(HORIZON)],
            "width80": [2.0 * value for value in steps],
        },
        "bySymbol": {symbol: {"crps": float(crps * random.lognormal(0, 0.2))} for symbol in symbols},
    }  # fmt: skip
    if name in ("finetuned", "calibrated"):
        bend = 0.05 if name == "finetuned" else 0.01
        shares = 0.1 + bend * np.array([1.6, 0.4, -0.4, -0.7, -0.8, -0.8, -0.7, -0.3, 0.4, 1.3])
        found["pit"] = (shares / shares.sum()).tolist()
    if name in ("finetuned", "start"):
        found["metrics"] |= {
            "highBelowBody": 0.031, "lowAboveBody": 0.027, "negativeVolume": 0.0, "priceNotPositive": 0.0,
            "firstJump": 1.12,
        }  # fmt: skip
    return found


def _fans(symbol: str, random: np.random.Generator) -> list[dict[str, Any]]:
    fans = []
    for which, crps in (("best", 0.92), ("median", 2.7), ("worst", 7.9)):
        returns = random.normal(0.0002, 0.013, 45 + 1 + HORIZON)
        returns[46:] += {"best": 0.0, "median": 0.003, "worst": -0.011}[which]
        close = 180 * np.exp(np.cumsum(returns))
        open_ = np.append(close[0], close[:-1]) * np.exp(random.normal(0, 0.003, len(close)))
        high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0, 0.005, len(close))))
        low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0, 0.005, len(close))))
        first = date(2012, 5, 1)
        times = [
            (first + timedelta(days=int(7 * (day // 5) + day % 5))).isoformat() + "T00:00:00"
            for day in range(len(close))
        ]
        steps = np.sqrt(np.arange(1, HORIZON + 1))
        z = np.array([-1.96, -1.28, -0.67, 0, 0.67, 1.28, 1.96])
        sampled = close[45] * np.exp(np.outer(z, 0.011 * steps))
        calibrated = close[45] * np.exp(np.outer(z, 0.013 * steps))
        fans.append(
            {
                "symbol": symbol, "which": which, "date": times[45], "crps": crps, "times": times,
                "bars": np.column_stack([open_, high, low, close]).tolist(), "levels": list(LEVELS),
                "sampled": sampled.tolist(), "calibrated": calibrated.tolist(),
            }
        )  # fmt: skip
    return fans


def _bars(symbols: int) -> dict[str, Any]:
    spans = {name: list(span) for name, span in SPANS.items() if name != "embargo"}
    return {"digest": "d41c" * 16, "symbols": symbols, "bars": 3270 * symbols, "spans": spans, "notes": list(NOTES)}


def _train(example: Example, stage: StageName, number: int) -> None:
    """result.json and metrics.jsonl of a stage that went on once after an interruption."""
    epochs, per_epoch = (6, 100) if number == 0 else (12, 100)
    random = np.random.default_rng(number)
    lines: list[dict[str, Any]] = [
        {"attempt": 1, "step": 0},
        {"step": 0, "epoch": 0, "validationLoss": 0.52 - 0.2 * number},
    ]
    if number:  # the predictor is selected by its forecasts
        lines[-1]["crps"] = 3.4
    floor = 0.31 - 0.1 * number
    for step in range(10, epochs * per_epoch + 1, 10):
        done = step / (epochs * per_epoch)
        if step == epochs * per_epoch // 2:
            lines.append({"attempt": 2, "step": step - 10})
        loss = floor + 0.2 * np.exp(-5 * done) + random.normal(0, 0.004)
        rate = 1e-4 * min(1.0, done / 0.05) * (1 + np.cos(np.pi * done)) / 2
        lines.append(
            {"step": step, "epoch": (step - 1) // per_epoch + 1, "loss": float(loss),
             "learningRate": float(rate), "gradientNorm": 0.4, "samplesPerSecond": float(1850 + random.normal(0, 40))}
        )  # fmt: skip
        if step % per_epoch == 0:
            loss = floor + 0.02 + 0.18 * np.exp(-6 * done) + 0.03 * max(0.0, done - 0.6)
            lines.append({"step": step, "epoch": step // per_epoch, "validationLoss": float(loss)})
            if number:
                lines[-1]["crps"] = float(2.8 + 0.6 * np.exp(-6 * done) + 0.1 * max(0.0, done - 0.5))
    validations = [(line["validationLoss"], line["step"]) for line in lines if "validationLoss" in line]
    best, at = min(validations)
    crps = {line["step"]: line["crps"] for line in lines if "crps" in line}
    if crps:
        at = min(crps, key=lambda step: crps[step])
        best = next(loss for loss, step in validations if step == at)
    files = example.paths.stage(stage)
    example.write(files.metrics, "".join(json.dumps(line) + "\n" for line in lines))
    example.write(files.config, example.run.dump())
    result = {
        "stage": stage.value, "hash": HASHES[stage.value], "run": example.run.run, "attempt": number + 1,
        "startedAt": "2026-03-01T08:00:00Z", "finishedAt": f"2026-03-01T0{8 + number}:0{2 * number}:05Z",
        "seconds": 1725.4 + 600 * number, "epochs": epochs, "steps": epochs * per_epoch,
        "parameters": 3_960_000 + 20_700_000 * number, "worldSize": 2, "initialValidationLoss": validations[0][0],
        "bestValidationLoss": best, "bestStep": at, "bestEpoch": at // per_epoch, "finalTrainLoss": lines[-2]["loss"],
        "windows": {"train": 11_840, "validation": 1_120}, "data": _bars(5),
        "origin": f"hub:NeoQuasar/Kronos-{('Tokenizer-base', 'small')[number]}@0e0117387f39",
        "pretrainedUntil": "2024-07-01", "precision": "bf16", "device": "NVIDIA H100 80GB HBM3",
        "samplesPerSecond": 1847.2, "peakGpuBytes": 11_400_000_000, "digest": f"{number + 3}f8e" * 16,
        "bytes": 16_000_000 + 83_000_000 * number,
        "software": SOFTWARE, "selectedBy": "crps" if crps else "loss", "initialCrps": crps.get(0),
        "bestCrps": crps.get(at),
    }  # fmt: skip
    example.write(files.result, StageResult.read(result).dump())
