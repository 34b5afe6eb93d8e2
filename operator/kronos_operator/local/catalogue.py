"""What every model of an output root has to offer: its published run, its verdict, age, bars and size.

From files alone, also of models that were copied here and never run here. Called by `kronos list`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kronos_operator.local.state import ModelState, read_states
from kronos_trainer.config import Current, ModelRef, RunPaths, StageName, StageResult, bytes_below


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model. `results` are those of `run`: the published one, and where none is, the latest."""

    model: ModelRef
    state: ModelState | None  # of its latest run; None if none was run here
    run: str
    published: str  # empty without one
    results: Mapping[StageName, StageResult]
    since: datetime | None  # when it was published, else when its last stage ended
    through: str  # last day of the bars that it has read, of all splits; empty where that is not known
    bytes: int  # of all files of the model


def read_catalogue(root: Path) -> list[Entry]:
    """Every model below an output root, by namespace and name."""
    states = {(state.namespace, state.name): state for state in read_states(root)}
    entries = []
    for directory in sorted((root.absolute() / "models").glob("*/[!.]*")):
        model = ModelRef(namespace=directory.parent.name, name=directory.name)
        entry = _entry(root, model, states.get((model.namespace, model.name)))
        if entry is not None:
            entries.append(entry)
    return entries


def _entry(root: Path, model: ModelRef, state: ModelState | None) -> Entry | None:
    paths = RunPaths(root, model, run="")
    current = _current(paths)
    run = current.run if current is not None else "" if state is None else state.run
    if not run:
        return None
    stages = RunPaths(root, model, run)
    results = {stage: result for stage in StageName if (result := stages.stage(stage).completed()) is not None}
    ended = max((result.finished_at for result in results.values()), default="")
    return Entry(
        model=model,
        state=state,
        run=run,
        published="" if current is None else current.run,
        results=results,
        since=_moment(ended if current is None else current.published_at or ended),
        through=max((result.through for result in results.values()), default=""),
        bytes=bytes_below(paths.model_dir),
    )


def _current(paths: RunPaths) -> Current | None:
    try:
        return Current.read(json.loads(paths.current.read_text()))
    except (OSError, ValueError):
        return None


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
