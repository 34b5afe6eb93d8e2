"""What earlier local runs left of a model, and writing what the next one reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kronos_operator.api import KronosModel, RunStage, TrainedStage
from kronos_operator.local.bars_record import BarsRecord
from kronos_operator.local.writing import write
from kronos_trainer.config import (
    Candidate,
    Current,
    Decision,
    ModelRef,
    RunConfig,
    RunPaths,
    StageName,
    StagePaths,
    WarmStart,
    load_run,
)

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model's directory as it is now."""

    started: tuple[RunConfig, ...]  # the latest run.json of every stage of every run, newest first
    trained: tuple[TrainedStage, ...]  # newest first
    held: Mapping[str, RunStage]  # the stage by whose verdict the candidate was held, by the run's id
    published: str  # id of the run that current.json names
    current: WarmStart | None  # the same with the digests of its weights

    @property
    def next_attempt(self) -> int:
        """A number that no attempt had before."""
        return max((run.attempt + 1 for run in self.started), default=0)


def read_model(root: Path, model: ModelRef) -> ModelFiles:
    """Everything that is known of a model; empty if it was never run."""
    runs = RunPaths(root, model, "none").runs
    directories = [entry for entry in runs.iterdir() if entry.is_dir()] if runs.is_dir() else []
    started: list[tuple[float, RunConfig]] = []
    trained: list[tuple[float, TrainedStage]] = []
    held: dict[str, RunStage] = {}
    candidate = _candidate(root, model)
    for directory in directories:
        paths = RunPaths(root, model, directory.name)
        for stage in StageName:
            files = paths.stage(stage)
            result = files.completed()
            if result is not None:
                fact = TrainedStage(run=directory.name, stage=stage, hash=result.hash)
                trained.append((files.result.stat().st_mtime, fact))
                # Of any other held run the trainer is asked what is left to do: a pointer may not be in place yet, or
                # another run be published than the one that it was compared with.
                decided = result.promotion
                if directory.name == candidate and decided is not None and decided.decision == Decision.HELD:
                    held[directory.name] = RunStage(
                        stage=stage, hash=result.hash, done=True, promotion=Decision.HELD, publish=True
                    )
            if files.config.is_file():
                try:
                    started.append((files.config.stat().st_mtime, load_run(files.config)))
                except ValueError:
                    continue  # of another version; its results count all the same
    return ModelFiles(
        started=tuple(run for _, run in sorted(started, key=lambda item: -item[0])),
        trained=tuple(fact for _, fact in sorted(trained, key=lambda item: -item[0])),
        held=held,
        published=published_run(root, model),
        current=_current(root, model),
    )


def saved_step(paths: StagePaths) -> int | None:
    """The optimizer step of a stage's newest checkpoint, None where none was saved."""
    try:
        return int(json.loads(paths.pointer.read_text())["latest"]["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _current(root: Path, model: ModelRef) -> WarmStart | None:
    try:
        return WarmStart.published(RunPaths(root, model, "none").current.read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _candidate(root: Path, model: ModelRef) -> str:
    """Id of the run that was held beside what is published now, empty without one."""
    paths = RunPaths(root, model, "none")
    try:
        candidate = Candidate.read(json.loads(paths.candidate.read_text()))
        current = Current.read(json.loads(paths.current.read_text())) if paths.current.exists() else None
    except (OSError, ValueError):
        return ""
    return candidate.run if candidate.is_open(current) else ""


def published_run(root: Path, model: ModelRef) -> str:
    """Id of the run that current.json names, empty without one."""
    try:
        current = json.loads(RunPaths(root, model, "none").current.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return ""
    return str(current.get("run", "")) if isinstance(current, dict) else ""


def stored_model(root: Path, model: ModelRef) -> Loaded | None:
    """The model as it was when it was last run here, None if that is not known. Raises InvalidModel."""
    from kronos_operator.loading import load_models

    started = read_model(root, model).started
    path = _model_file(RunPaths(root, model, started[0].run)) if started else None
    if path is None or not path.is_file():
        return None
    # A relative path in the copy is the one that was written, which did not start where the copy lies.
    return replace(load_models([path])[0], bars=started[0].bars)


def write_model(model: KronosModel, paths: RunPaths) -> None:
    """Keeps the model beside its run, for `stored_model`. Raises LocalError (74)."""
    body = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    identity = {"apiVersion": model.api_version, "kind": model.kind}
    write(json.dumps({**identity, **body}, indent=2), _model_file(paths))


def write_bars(bars: BarsRecord | None, paths: RunPaths) -> None:
    """Keeps what the run reads of its bars, for the reasons of a later plan. Raises LocalError (74)."""
    if bars is not None:
        write(bars.dump(), bars_file(paths))


def bars_file(paths: RunPaths) -> Path:
    """Where that is kept."""
    return paths.run_dir / "bars.json"


def write_run(run: RunConfig, path: Path) -> None:
    """Writes a run.json so that it is never read half. Raises LocalError (74)."""
    write(run.dump(), path)


def next_file(paths: RunPaths) -> Path:
    """The run config of the stage that a process is to go on with.

    It becomes the stage's run.json when that begins: until then its attempt is not the latest.
    """
    return paths.run_dir / "next.json"


def _model_file(paths: RunPaths) -> Path:
    return paths.run_dir / "model.json"
