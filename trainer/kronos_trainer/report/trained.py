"""What a report says of the stages that train: losses, curves, speed, interruptions, hours. Called by facts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kronos_trainer.config import StagePaths, StageResult

MOST_POINTS = 240  # of a curve: more cannot be told apart in a figure


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A number over the optimizer steps."""

    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Training:
    """One stage that trains. Losses are those of the stage; curves of many points have means of neighbours."""

    stage: str
    outcome: str
    initial_validation_loss: float | None = None
    best_validation_loss: float | None = None
    selected_by: str = ""  # loss or crps
    initial_crps: float | None = None
    best_crps: float | None = None
    best_step: int | None = None
    best_epoch: int | None = None
    final_train_loss: float | None = None
    epochs: int | None = None
    steps: int | None = None
    seconds: float | None = None
    processes: int | None = None
    device: str = ""
    precision: str = ""
    samples_per_second: float | None = None
    peak_gpu_bytes: int | None = None
    gpu_hours: float | None = None  # None: it was trained without one
    interruptions: int = 0  # that its lines know of
    train_windows: int | None = None
    validation_windows: int | None = None
    loss: Curve = Curve()
    validation_loss: Curve = Curve()
    validation_crps: Curve = Curve()
    learning_rate: Curve = Curve()
    throughput: Curve = Curve()

    @property
    def trained(self) -> bool:
        """Whether there is anything to show of it."""
        return bool(self.epochs or self.loss.steps or self.validation_loss.steps)


@dataclass(frozen=True, kw_only=True)
class LastStep:
    """How far a stage came that is not complete."""

    step: int
    epoch: int | None
    loss: float | None
    validation_loss: float | None
    checkpoint: int | None  # the step that the next attempt resumes from


def training(stage: str, files: StagePaths, result: StageResult) -> Training:
    """The facts of a stage; `result` is empty for one that is not complete."""
    lines = _lines(files.metrics)
    windows = result.windows
    if not result.stage and lines:  # as far as it came
        result = result.model_copy(update=_so_far(lines))
    processes = result.world_size or 0
    on_gpu = bool(result.device) and not result.device.lower().startswith("cpu")
    return Training(
        stage=stage,
        outcome=outcome(result),
        initial_validation_loss=result.initial_validation_loss,
        best_validation_loss=result.best_validation_loss,
        selected_by=result.selected_by,
        initial_crps=result.initial_crps,
        best_crps=result.best_crps,
        best_step=result.best_step,
        best_epoch=result.best_epoch,
        final_train_loss=result.final_train_loss,
        epochs=result.epochs,
        steps=result.steps,
        seconds=result.seconds,
        processes=result.world_size,
        device=result.device,
        precision=result.precision,
        samples_per_second=result.samples_per_second,
        peak_gpu_bytes=result.peak_gpu_bytes,
        gpu_hours=(result.seconds or 0.0) * processes / 3600 if on_gpu and result.epochs else None,
        interruptions=max(0, len({line["attempt"] for line in lines if "attempt" in line}) - 1),
        train_windows=None if windows is None else windows.train,
        validation_windows=None if windows is None else windows.validation,
        loss=_curve(lines, "loss"),
        validation_loss=_curve(lines, "validationLoss"),
        validation_crps=_curve(lines, "crps"),
        learning_rate=_curve(lines, "learningRate"),
        throughput=_curve(lines, "samplesPerSecond"),
    )


def _so_far(lines: Sequence[dict[str, float]]) -> dict[str, float | int]:
    losses = [line["loss"] for line in lines if "loss" in line]
    validations = [line["validationLoss"] for line in lines if "validationLoss" in line]
    found: dict[str, float | int] = {"steps": int(lines[-1]["step"])}
    if validations:
        found |= {"initial_validation_loss": validations[0], "best_validation_loss": min(validations)}
    return found | ({"final_train_loss": losses[-1]} if losses else {})


def outcome(result: StageResult) -> str:
    """What a training has come to, in words."""
    if not result.stage:
        return "not complete"
    if not result.epochs:
        return "not trained, the initial weights were used unchanged"
    before, after = result.initial_validation_loss, result.best_validation_loss
    if before is None or after is None:
        return "trained without a validation loss"
    by, was, best = "validation loss", before, after
    if result.selected_by == "crps" and result.initial_crps is not None and result.best_crps is not None:
        by, was, best = "CRPS of forecasts on the validation span", result.initial_crps, result.best_crps
    if result.best_step == 0:
        return f"training did not improve on the initial {by} {was:.4f}, so the initial weights were kept"
    change = f" ({100 * (best - was) / abs(was):+.1f} %)" if was else ""
    return f"{by} {was:.4f} → {best:.4f}{change.replace('-', '−')}"


def last_step(files: StagePaths) -> LastStep | None:
    """How far a stage came, by its own lines; None if it has left none."""
    lines = _lines(files.metrics)
    if not lines:
        return None
    last = lines[-1]
    losses = [line["loss"] for line in lines if "loss" in line]
    validations = [line["validationLoss"] for line in lines if "validationLoss" in line]
    try:
        saved = json.loads(files.pointer.read_text())["latest"]["step"]
    except (OSError, ValueError, KeyError, TypeError):
        saved = None
    return LastStep(
        step=int(last["step"]),
        epoch=next((int(line["epoch"]) for line in reversed(lines) if "epoch" in line), None),
        loss=losses[-1] if losses else None,
        validation_loss=validations[-1] if validations else None,
        checkpoint=saved if isinstance(saved, int) else None,
    )


def _lines(file: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl with their finite numbers; one that cannot be read is passed over."""
    try:
        texts = file.read_text().splitlines()
    except (OSError, ValueError):
        return []
    lines = []
    for text in texts:
        try:
            found = json.loads(text)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("step"), int):
            lines.append({name: value for name, value in found.items() if _finite(value)})
    return lines


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _curve(lines: Sequence[dict[str, float]], name: str) -> Curve:
    points = [(int(line["step"]), float(line[name])) for line in lines if name in line]
    size = -(-len(points) // MOST_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return Curve(
        steps=tuple(group[-1][0] for group in groups),
        values=tuple(sum(value for _, value in group) / len(group) for group in groups),
    )
