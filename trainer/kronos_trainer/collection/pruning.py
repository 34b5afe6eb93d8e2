"""Removes old runs of a model: never the published one, the one before, the candidate, or what a run that stays needs.

A run goes in one step, out of the directory of runs, before its files are removed: after a crash there is no half a run
that could be read as whole, and the next pruning clears up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kronos_trainer.config import ASIDE, ModelRef, RunPaths, StageName, bytes_below, load_run
from kronos_trainer.errors import StorageError
from kronos_trainer.report.showing import last_written, latest_first
from kronos_trainer.storage import durable
from kronos_trainer.storage.lock import command_lock
from kronos_trainer.storage.pointers import candidate, current, runs


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of the model. `stays` says why it does; empty: it goes."""

    run: str
    bytes: int
    written: datetime | None  # when it was last at work; None if it has left nothing to tell
    finished: bool  # whether its weights are complete
    stays: str


def plan(paths: RunPaths, keep: int) -> list[Run]:
    """Every run, the newest first, and what becomes of it where the `keep` newest stay.

    Raises InputMissing where a pointer is damaged: then nobody knows which run is published.
    """
    newest = [one.run_dir.name for one in latest_first(paths.root, _model(paths))]
    ordered = newest + [run for run in runs(paths) if run not in newest and not run.startswith(".")]
    reasons = dict.fromkeys(ordered[:keep], f"one of the {keep} newest" if keep > 1 else "the newest") | _named(paths)
    for run in [run for run in ordered if run in reasons]:
        for needed in _needs(RunPaths(paths.root, _model(paths), run)):
            reasons.setdefault(needed, f"run {run} started from it")
    return [_run(paths, run, reasons.get(run, "")) for run in ordered]


def prune(paths: RunPaths, keep: int, agreed: Collection[str]) -> None:
    """Removes the runs that `plan` lets go, all of which somebody has agreed to.

    Raises StorageError if a training holds the model, or if others would go meanwhile.
    """
    with command_lock(paths):
        going = [one.run for one in plan(paths, keep) if not one.stays]
        if not set(going) <= set(agreed):
            raise StorageError(f"the runs of {paths.model_dir} have changed meanwhile; repeat the command")
        aside = _aside(paths)
        with durable.storing(aside):
            durable.remove(aside)  # of a pruning that was interrupted
        durable.make_directory(aside)
        for run in going:
            durable.move(paths.runs / run, aside / run)
        with durable.storing(aside):
            durable.remove(aside)


def interrupted(paths: RunPaths) -> bool:
    """Whether an earlier pruning has left files to remove."""
    return _aside(paths).exists()


def _aside(paths: RunPaths) -> Path:
    return paths.model_dir / f"{ASIDE}pruned"


def _named(paths: RunPaths) -> dict[str, str]:
    """The runs that the pointers name, with what they are."""
    published, held = current(paths), candidate(paths)
    found = {} if held is None else {held.run: "candidate"}
    if published is not None:
        found |= {published.previous: "published before"} if published.previous else {}
        found |= {published.run: "published"}
    return found


def _needs(paths: RunPaths) -> Iterator[str]:
    """The runs whose weights a run has begun with, which it reads again to be resumed or judged once more."""
    for stage in StageName:
        files = paths.stage(stage)
        result = files.completed()
        if result is not None and result.origin.startswith("published:"):
            yield result.origin.removeprefix("published:").partition("@")[0]
        try:
            config = load_run(files.config)
        except ValueError:
            continue  # not begun, or of another release
        if config.warm_start is not None:
            yield config.warm_start.run
        for other in StageName.with_weights():
            reuse = config.reuse_of(other)
            if reuse is not None and paths.stage(other).completed(reuse.hash) is None:
                yield reuse.run


def _run(paths: RunPaths, run: str, stays: str) -> Run:
    of_run = RunPaths(paths.root, _model(paths), run)
    told = last_written(of_run)
    return Run(
        run=run,
        bytes=bytes_below(of_run.run_dir),
        written=datetime.fromtimestamp(told / 1e9, UTC) if told else None,
        finished=all(of_run.stage(stage).completed() is not None for stage in StageName.with_weights()),
        stays=stays,
    )


def _model(paths: RunPaths) -> ModelRef:
    return ModelRef(namespace=paths.model_dir.parent.name, name=paths.model_dir.name)
