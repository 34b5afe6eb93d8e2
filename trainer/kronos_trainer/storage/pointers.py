"""Which run of a model is published, and which one was judged and held: current.json and candidate.json.

Each is replaced in one step, and what a pointer means follows from these two files alone, so a crash between two writes
leaves a state that readers understand. Nothing here imports torch: the commands that move a pointer answer at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kronos_trainer.config import (
    By,
    Candidate,
    Current,
    ModelRef,
    RunConfig,
    RunPaths,
    StageName,
    StagePaths,
    StageResult,
    load_run,
    now_text,
)
from kronos_trainer.errors import InputMissing
from kronos_trainer.model.directory import weights_digest
from kronos_trainer.storage import durable
from kronos_trainer.storage.lock import command_lock
from kronos_trainer.storage.reading import Reading

Results = Mapping[StageName, StageResult]


class Alias(StrEnum):
    """Names of runs that change their meaning."""

    PUBLISHED = "published"
    PREVIOUS = "previous"
    CANDIDATE = "candidate"


def current(paths: RunPaths) -> Current | None:
    """What is published, None if nothing is. Raises InputMissing for a damaged file."""
    try:
        return Current.read(json.loads(paths.current.read_text()))
    except FileNotFoundError:
        return None
    except ValueError:
        raise InputMissing(
            f"{paths.current}: damaged; restore it, or name the run that is to be published: "
            f"`kronos promote {paths.model_dir.name} RUN`; {_runs_text(paths)}"
        ) from None


def candidate(paths: RunPaths) -> Candidate | None:
    """The run that was judged last and held, None if there is none. Raises InputMissing for a damaged file."""
    try:
        return Candidate.read(json.loads(paths.candidate.read_text()))
    except FileNotFoundError:
        return None
    except ValueError:
        raise InputMissing(
            f"{paths.candidate}: damaged; remove it, and name the run by its id; {_runs_text(paths)}"
        ) from None


def resolve(paths: RunPaths, name: str) -> str:
    """The id of the run that an alias or an id means. Raises InputMissing, naming what there is, if none does."""
    model = paths.model_dir.name
    if name == Alias.PUBLISHED:
        published = current(paths)
        if published is None:
            raise InputMissing(f"model {model} is not published ({paths.current} is absent); {instead(paths)}")
        return published.run
    if name == Alias.PREVIOUS:
        published = current(paths)
        if published is None or not published.previous:
            raise InputMissing(f"model {model} had no other run published before; {_runs_text(paths)}")
        return published.previous
    if name == Alias.CANDIDATE:
        held = candidate(paths)
        if held is None:
            raise InputMissing(f"model {model} has no candidate: no run was judged and held; {_runs_text(paths)}")
        if not held.is_open(current(paths)):
            raise InputMissing(
                f"model {model} has no candidate: run {held.run} was held when {held.published or 'nothing'} was "
                f"published, which is no longer so; name it by its id; {_runs_text(paths)}"
            )
        return held.run
    if name not in runs(paths):
        raise InputMissing(f"model {model} has no run {name}; {_runs_text(paths)}, or one of {', '.join(Alias)}")
    return name


def runs(paths: RunPaths) -> list[str]:
    """Ids of the runs that have a directory, sorted."""
    return sorted(entry.name for entry in paths.runs.iterdir() if entry.is_dir()) if paths.runs.is_dir() else []


def instead(paths: RunPaths) -> str:
    """What to do about a model that has nothing published."""
    held = candidate(paths)
    if held is None:
        return "train it with `kronos run`"
    return (
        f"its run {held.run} was judged and held: publish it with `kronos promote {paths.model_dir.name}`, or use it "
        f"as it is: run {Alias.CANDIDATE}"
    )


Fetch = Callable[[str], None]
"""Puts the weights of a run in its directory, where they lie elsewhere."""


def in_place(run: str) -> None:
    """Of a model that lies in this file system."""


@dataclass(frozen=True)
class Moved:
    """What a command has done: `run` is published now, `before` was, and is the same where nothing was to be done."""

    run: str
    before: str
    weights: Results  # of the published run, its stages with weights


def promote(paths: RunPaths, name: str = Alias.CANDIDATE, fetch: Fetch = in_place) -> Moved:
    """Publishes a run, an alias or an id, whatever its verdict. May be repeated.

    Raises InputMissing if there is no such run or it is not complete, StorageError if a training holds the model.
    """
    with command_lock(paths):
        try:
            before = current(paths)
        except InputMissing:
            if name in list(Alias):
                raise
            before = None  # to name a run is the way out
        held = candidate(paths) if name == Alias.CANDIDATE else None
        done = held is not None and before is not None and held.run == before.run
        return _moved(paths, resolve(paths, Alias.PUBLISHED if done else name), before, By.PROMOTE, fetch)


def rollback(paths: RunPaths, published: str | None = None, fetch: Fetch = in_place) -> Moved:
    """Publishes the run that was published before; the replaced one is `previous` then. Raises as `promote`.

    With `published`, only where that run is the published one, so that the same request does not go back twice.
    """
    with command_lock(paths):
        before = current(paths)
        done = published is not None and before is not None and before.run != published
        return _moved(paths, resolve(paths, Alias.PUBLISHED if done else Alias.PREVIOUS), before, By.ROLLBACK, fetch)


def publish(paths: RunPaths, found: Mapping[str, Any], by: By) -> None:
    """Makes a run the published one, `found` being its `document`; of a run that is published, renews the document.

    To be called with the model's lock held. Raises StorageError, InputMissing for a damaged pointer.
    """
    _replace(paths, found, current(paths), {"by": by.value})


def hold(paths: RunPaths, run: str, *, published: str, message: str) -> None:
    """Makes a run the candidate. To be called with the model's lock held. Raises StorageError."""
    held = Candidate(run=run, held_at=now_text("seconds"), published=published, message=message)
    durable.write_json(paths.candidate, held.wire)


def document(paths: RunPaths, run: RunConfig, results: Results) -> dict[str, Any]:
    """What current.json says of a run: what a forecast needs, and where it lies, relative to the model's directory."""
    calibration = paths.calibration
    return {
        "run": paths.run_dir.name,
        "model": run.model.model_dump(),
        "timeframe": run.timeframe.value,
        "window": run.window.model_dump(by_alias=True),
        **{stage.value: _stage(paths, stage, result) for stage, result in results.items()},
        **({"calibration": str(calibration.relative_to(paths.model_dir))} if calibration.is_file() else {}),
        "data": {"digest": _data_digest(results), **Reading.of(run.data).model_dump(by_alias=True)},
    }


def verify(paths: StagePaths, result: StageResult) -> None:
    """Raises InputMissing unless the weights of a stage are those that its result describes."""
    if not paths.best.is_dir() or weights_digest(paths.best) != result.digest:
        raise InputMissing(
            f"{paths.best} does not contain the weights that {paths.result} describes; restore the files, or remove "
            f"{paths.directory} and run again to retrain the stage"
        )


def _moved(paths: RunPaths, run: str, before: Current | None, by: By, fetch: Fetch) -> Moved:
    """Publishes a run by hand."""
    fetch(run)
    there = _of(paths, run)
    config, results = _facts(there)
    if before is None or before.run != run:
        own = {"by": by.value, "overrules": _complete(paths)}
        _replace(paths, document(there, config, results), before, own)
    weights = {stage: results[stage] for stage in StageName.with_weights()}
    return Moved(run, "" if before is None else before.run, weights)


def _replace(paths: RunPaths, found: Mapping[str, Any], before: Current | None, own: Mapping[str, Any]) -> None:
    if before is not None and before.run == found["run"]:
        kept = ("publishedAt", "previous", "by", "overrules")
        own = {name: before.wire[name] for name in kept if name in before.wire}
    else:
        own = {"publishedAt": now_text("seconds"), **own, **({} if before is None else {"previous": before.run})}
    durable.write_json(paths.current, {"run": found["run"], **own, **found})


def _facts(paths: RunPaths) -> tuple[RunConfig, Results]:
    """The config and the results of a run, from its directory, with its weights verified. Raises InputMissing."""
    run = paths.run_dir.name
    results = {stage: result for stage in StageName if (result := paths.stage(stage).completed()) is not None}
    for stage in StageName.with_weights():
        if stage not in results:
            raise InputMissing(
                f"run {run} is not complete: it has no weights of the {stage} ({paths.stage(stage).result} is absent); "
                f"finish it with `kronos run`, or name another; {_runs_text(paths)}"
            )
        verify(paths.stage(stage), results[stage])
    configs = [paths.stage(stage).config for stage in reversed(StageName) if paths.stage(stage).config.is_file()]
    if not configs:
        raise InputMissing(
            f"run {run} has no run.json below {paths.run_dir}, which says how to forecast with it: publish it with "
            "`kronos run`"
        )
    try:
        return load_run(configs[0]), results
    except ValueError as error:
        raise InputMissing(f"{error}; run {run} cannot be published by hand") from None


def _complete(paths: RunPaths) -> dict[str, list[str]]:
    """The hashes of all complete stages, by run."""
    results = {run: [_of(paths, run).stage(stage).completed() for stage in StageName] for run in runs(paths)}
    return {run: [one.hash for one in found if one is not None] for run, found in results.items()}


def _of(paths: RunPaths, run: str) -> RunPaths:
    """The files of another run of the model."""
    model = ModelRef(namespace=paths.model_dir.parent.name, name=paths.model_dir.name)
    return RunPaths(paths.root, model, run)


def _stage(paths: RunPaths, stage: StageName, result: StageResult) -> dict[str, str]:
    """Where a stage's weights lie; of one with scores, which ones they are."""
    if not stage.has_weights:
        return {"hash": result.hash}
    best = paths.stage(stage).best.relative_to(paths.model_dir)
    return {"path": str(best), "digest": result.digest, "hash": result.hash}


def _data_digest(results: Results) -> str | None:
    """Digest of the bars that the last trained stage read."""
    read = (results[stage].data for stage in reversed(StageName.with_weights()))
    return next((data.digest for data in read if data is not None), None)


def _runs_text(paths: RunPaths) -> str:
    there = runs(paths)
    return f"its runs: {', '.join(there)}" if there else f"{paths.runs} has no runs"
