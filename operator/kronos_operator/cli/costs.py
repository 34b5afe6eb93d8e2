"""GPU hours that a training would take, from the last one that was measured. Used by `kronos diff --against`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kronos_trainer.config import ModelRef, RunPaths, StageName

if TYPE_CHECKING:
    from kronos_operator.api import KronosModel, Spec
    from kronos_operator.cli.target import Target


@dataclass(frozen=True)
class Measured:
    """Hours of GPUs, by stage, that the last run of a model took."""

    hours: Mapping[StageName, float]


@dataclass(frozen=True)
class Cost:
    """GPU hours, or why they are not known."""

    gpu_hours: float | None
    note: str = ""

    @classmethod
    def of_nothing(cls) -> Cost:
        """Of what trains nothing."""
        return cls(0.0)

    @classmethod
    def of(cls, stages: Sequence[str], before: Spec | None, after: Spec, measured: Measured | None) -> Cost:
        """Of training these stages, where the last run had the spec `before`."""
        if not stages:
            return cls.of_nothing()
        if before is None or measured is None:
            return cls(None, "not measured yet")
        hours = 0.0
        for stage in map(StageName, stages):
            ratio = _work(before, after, stage)
            if stage not in measured.hours or ratio is None:
                return cls(None, f"{stage} not measured yet" if ratio is not None else f"{stage} is of another size")
            hours += measured.hours[stage] * ratio
        return cls(hours)

    @property
    def in_words(self) -> str:
        """For a table."""
        return self.note if self.gpu_hours is None else "–" if not self.gpu_hours else f"{self.gpu_hours:.1f}"


def total(costs: Iterable[Cost]) -> tuple[float | None, int]:
    """The sum of those that are known, None if none is, and how many are not."""
    every = list(costs)
    known = [cost.gpu_hours for cost in every if cost.gpu_hours is not None]
    return (sum(known) if known else None), len(every) - len(known)


def measured_here(root: Path, models: Sequence[ModelRef]) -> dict[str, Measured]:
    """Of the runs on this machine, by the model's key."""
    from kronos_operator.local.files import read_model

    found = {}
    for model in models:
        hours: dict[StageName, float] = {}
        for fact in read_model(root, model).trained:
            result = RunPaths(root, model, fact.run).stage(fact.stage).completed(fact.hash)
            if result is not None and result.seconds and result.epochs and result.device.startswith("cuda"):
                hours.setdefault(fact.stage, result.seconds * (result.world_size or 1) / 3600)
        found[model.key] = Measured(hours)
    return found


def measured_in_cluster(target: Target) -> dict[str, Measured]:
    """Of the models of a namespace, from their status."""
    from kronos_operator.cli.cluster.session import connected, parsed

    with connected(target) as session:
        return dict(_of_status(parsed(body)) for body in session.models())


def _of_status(model: KronosModel) -> tuple[str, Measured]:
    run = model.status.run if model.status else None
    seconds = {} if run is None else {stage.stage: stage.metrics.get("seconds") for stage in run.stages}
    gpus = 0 if run is None else run.gpus or 0
    return model.ref.key, Measured({stage: gpus * one / 3600 for stage, one in seconds.items() if one and gpus})


def _work(before: Spec, after: Spec, stage: StageName) -> float | None:
    """How many times as many bars the stage trains; None where the seconds of a bar are others."""
    old, new = before.weights_stages()[stage], after.weights_stages()[stage]
    limits = before.training.windows_per_epoch, after.training.windows_per_epoch
    if old.init != new.init or (limits[0] is None) != (limits[1] is None) or not old.epochs:
        return None
    bars = [spec.window.lookback + spec.window.horizon for spec in (before, after)]
    return new.epochs / old.epochs * bars[1] / bars[0] * ((limits[1] or 1) / (limits[0] or 1))
