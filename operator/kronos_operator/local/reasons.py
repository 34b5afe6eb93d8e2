"""Why a stage is to be trained, in words: what differs from its latest run here, or how its last attempt ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kronos_operator.leaves import leaves
from kronos_operator.local.attempt_log import failure
from kronos_operator.local.bars_record import BarsRecord, load_record, what_changed
from kronos_operator.local.files import ModelFiles, bars_file, saved_step
from kronos_trainer.config import RunConfig, RunPaths, StageName

_LONGEST = 200  # characters of a trainer's message
_SHARED = ("timeframe", "data", "window", "training")


def why_again(config: RunConfig, files: ModelFiles) -> str | None:
    """Why a stage of a run goes on or starts again; None if that run has never begun with it."""
    last = next((run for run in files.started if (run.run, run.stage) == (config.run, config.stage)), None)
    if last is None or last.stage_hashes.get(config.stage) != config.stage_hashes[config.stage]:
        return None  # not begun, or scored with other settings
    paths = config.paths()
    step = saved_step(paths.stage(config.stage))
    failed = failure(paths.log(last.run, last.stage, last.attempt))
    how = "" if failed is None else f"the last attempt failed ({failed[0]}): {_cut(failed[1])}"
    if step is not None:
        return f"resumes from the checkpoint of step {step}" + (f"; {how}" if how else "")
    return f"starts again: {how or 'the last attempt ended before saving anything'}"


def why_new(config: RunConfig, files: ModelFiles, bars: BarsRecord | None, *, retrained: Sequence[StageName]) -> str:
    """What differs from the latest run of the stage. `retrained`: stages before it that the same run trains anew."""
    last = next((run for run in files.started if run.stage is config.stage), None)
    if last is None:
        return "not trained yet" if config.stage.has_weights else "not scored yet"
    reasons = [f"its {stage} is trained again" for stage in retrained]
    own_parts = (config.stage.value,) if config.stage.has_weights else (config.stage.value, "promotion")
    parts = own_parts if retrained else (*_SHARED, *own_parts)
    reasons += _fields_that_differ(last, config, parts, with_source=bars is None)
    if not retrained:
        reasons += _bars_that_differ(last, config, bars)
        reasons = reasons or [
            f"its {stage} changed"
            for stage in config.stages[: config.stages.index(config.stage)]
            if config.stage_hashes[stage] != last.stage_hashes.get(stage)
        ]
    warm, before = config.warm_start, last.warm_start
    own = config.weights_stages().get(config.stage)
    if warm is not None and own is not None and own.init.published and warm != before:
        reasons.append(f"it starts from the weights of run {warm.run}, now published")
    return "; ".join(reasons) or (
        f"run {last.run} used other bars, other initial weights, or a release with other numerics"
    )


def _fields_that_differ(
    last: RunConfig, config: RunConfig, parts: tuple[str, ...], *, with_source: bool
) -> Iterator[str]:
    old, new = _leaves(last, parts), _leaves(config, parts)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name) and (with_source or not name.startswith("data.source.")):
            yield f"{name} {_text(old.get(name))} → {_text(new.get(name))}"


def _bars_that_differ(last: RunConfig, config: RunConfig, bars: BarsRecord | None) -> list[str]:
    before = load_record(bars_file(RunPaths(config.paths().root, last.model, last.run)))
    if bars is None or before is None or before.digest == bars.digest:
        return []
    return what_changed(before, bars, Path(config.bars))


def _leaves(config: RunConfig, parts: tuple[str, ...]) -> dict[str, Any]:
    document = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {".".join(path): value for path, value in leaves({part: document[part] for part in parts})}


def _text(value: Any) -> str:
    return "unset" if value is None else str(value)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
