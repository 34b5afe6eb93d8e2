"""What local runs have come to, from their files alone. Called by `kronos status` and `kronos list`."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from kronos_operator.local.attempt_log import last_events
from kronos_operator.local.files import published_run, read_model
from kronos_operator.local.holding import holder_of
from kronos_trainer.config import (
    EndedEvent,
    ErrorEvent,
    Event,
    ExitCode,
    ModelRef,
    ProgressEvent,
    RunConfig,
    RunPaths,
    StageName,
    StageResult,
    StartedEvent,
)

Kind = TypeVar("Kind", bound=Event)
State = Literal["running", "succeeded", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """A model that was run on this machine; `run`, `stage` and `attempt` are of its latest attempt."""

    namespace: str
    name: str
    run: str
    stage: StageName
    hash: str  # of what determines the stage
    attempt: int
    state: State
    exit_code: int | None  # of the latest attempt, None while it runs or if it was cut off
    message: str
    progress: ProgressEvent | None  # the latest
    results: dict[StageName, StageResult]  # of this run's complete stages
    published: str  # id of the published run, empty without one
    report: Path | None  # of the run
    log: Path | None
    trainer: int | None  # process id of the launcher while it runs
    executor: int | None  # process id of the command that runs it, also while it waits to start the trainer again
    started_at: datetime | None  # when this attempt began and ended, so far as its log tells
    ended_at: datetime | None

    @property
    def key(self) -> str:
        """Name of the model, with its namespace unless that is the default one."""
        return ModelRef(namespace=self.namespace, name=self.name).key


def read_states(root: Path) -> list[ModelState]:
    """Every model below an output root, by namespace and name."""
    states = []
    root = root.absolute()  # as trainers are told
    for directory in sorted((root / "models").glob("*/*")):
        model = ModelRef(namespace=directory.parent.name, name=directory.name)
        started = read_model(root, model).started
        if started:
            states.append(_state(root, model, started[0], newest=True))
    return states


def read_runs(root: Path, model: ModelRef) -> list[ModelState]:
    """Every stage of every run of a model, as its latest attempt left it: newest run first, stages in their order."""
    root = root.absolute()
    started = read_model(root, model).started
    runs = list(dict.fromkeys(config.run for config in started))
    return [
        _state(root, model, config, newest=config is started[0])
        for run in runs
        for config in sorted(started, key=lambda one: list(StageName).index(one.stage))
        if config.run == run
    ]


def _state(root: Path, model: ModelRef, latest: RunConfig, *, newest: bool) -> ModelState:
    paths = RunPaths(root, model, latest.run)
    log = paths.log(latest.run, latest.stage, latest.attempt)
    events = list(last_events(log))
    ended = _last(events, EndedEvent)
    progress = _last(events, ProgressEvent)
    error = _last(events, ErrorEvent)
    started = _last(events, StartedEvent)
    results = {stage: result for stage in StageName if (result := paths.stage(stage).completed()) is not None}
    code = None if ended is None else ended.exit_code
    trainer = _trainer(paths, latest, events) if code is None else None
    holder = holder_of(paths) if newest else None
    return ModelState(
        namespace=model.namespace,
        name=model.name,
        run=latest.run,
        stage=latest.stage,
        hash=latest.stage_hashes.get(latest.stage, ""),
        attempt=latest.attempt,
        state=_word(code, running=trainer is not None or holder is not None, complete=latest.stage in results),
        exit_code=code,
        message="" if error is None else error.message,
        progress=progress,
        results=results,
        published=published_run(root, model),
        report=paths.report if paths.report.is_file() else None,
        log=log if log.is_file() else None,
        trainer=trainer,
        executor=None if holder is None else holder.pid,
        started_at=_time(started),
        ended_at=_time(ended),
    )


def _last(events: Sequence[Event], kind: type[Kind]) -> Kind | None:
    return next((event for event in reversed(events) if isinstance(event, kind)), None)


def _time(event: StartedEvent | EndedEvent | None) -> datetime | None:
    try:
        return None if event is None else datetime.fromisoformat(event.time)
    except ValueError:
        return None


def _word(code: int | None, *, running: bool, complete: bool) -> State:
    if running:
        return "running"
    if complete:
        return "succeeded"
    # Without a word of how it ended it was cut off, and the same command goes on.
    return "stopped" if code in (None, ExitCode.STOPPED) else "failed"


def _trainer(paths: RunPaths, latest: RunConfig, events: Sequence[Event]) -> int | None:
    """The launcher that started last, or else the rank that holds the model's lock, if it works on this attempt."""
    pids = [event.pid for event in reversed(events) if isinstance(event, StartedEvent)]
    try:
        holder = json.loads(paths.lock.read_text())
        same = (holder["run"], holder["attempt"]) == (latest.run, latest.attempt)
        if same and holder["host"] == socket.gethostname():
            pids.append(holder["pid"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        pass
    config = str(paths.stage(latest.stage).config)
    return next((pid for pid in pids if isinstance(pid, int) and _runs_stage(pid, config)), None)


def _runs_stage(pid: int, config: str) -> bool:
    """Whether the process exists and is a trainer of this stage; ids are used again, so its command line is read."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        try:  # no /proc on this system: the id has to do
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return config in command or any(word == "kronos_trainer" for word in command)
