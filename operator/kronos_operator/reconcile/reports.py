"""What the trainer reports, from the lines of rank 0's log. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kronos_operator.api import CheckpointState, Progress
from kronos_operator.durations import round_duration
from kronos_operator.reconcile.times import seconds_of
from kronos_operator.text import plain
from kronos_trainer.config import (
    CheckpointSkippedEvent,
    ErrorEvent,
    Event,
    NoteEvent,
    ProgressEvent,
    ResultEvent,
    StageName,
    StageResult,
    parse_line,
)

_LONGEST_ETA = 1e9  # seconds
_LONGEST_SKIPPED = _LONGEST_NOTE = 256
MOST_SKIPPED = MOST_NOTES = 8


@dataclass(frozen=True, kw_only=True)
class Report:
    """The newest of each kind of line."""

    logged_at: float | None = None  # by the clock of the trainer's node
    alive_at: float | None = None  # by ours: when something new was read, or nothing could be
    has_progress: bool = False
    progress: ProgressEvent | None = None
    checkpoint: CheckpointState | None = None
    result: StageResult | None = None
    error: str = ""
    cause: str = ""  # the trainer's reason for stopping
    skipped: tuple[str, ...] = ()  # checkpoints that were damaged and passed over
    notes: tuple[str, ...] = ()  # the first few


def read_report(lines: Iterable[str], before: Report | None = None) -> Report:
    """What lines of a log add to what was known. What is not the trainer's, or cut off, is passed over.

    Lines that were read before change nothing.
    """
    report = before or Report()
    for line in lines:
        for event in parse_line(line):
            report = _heard(report, event)
    return report


def progress_of(report: Report, attempt: int, stage: StageName) -> Progress:
    """status.progress of the newest progress line."""
    said = report.progress or ProgressEvent(event="progress")
    percent, left = _bounded(said.percent, 100.0), _bounded(said.eta_seconds, _LONGEST_ETA)
    at = report.logged_at or 0.0
    return Progress(
        stage=stage,
        attempt=attempt,
        epoch=said.epoch,
        epochs=said.epochs,
        step=said.step,
        steps=said.steps,
        percent=percent,
        summary=plain(said.phase)[:32] or None if percent is None else f"{percent:.0f}%",
        eta=None if left is None else round_duration(left),
        estimated_completion_time=None if left is None else float(int(at + left)),
        loss=said.loss,
        validation_loss=said.validation_loss,
        samples_per_second=None if said.samples_per_second is None else max(0.0, said.samples_per_second),
        updated_at=float(int(at)),
    )


def result_of(report: Report, stage: StageName) -> StageResult | None:
    """The result of a stage; None if the report has no result of that stage."""
    result = report.result
    return None if result is None or result.stage != stage.value else result


def _heard(report: Report, event: Event) -> Report:
    report = replace(report, logged_at=max(seconds_of(event.time) or 0.0, report.logged_at or 0.0) or None)
    match event:
        case ProgressEvent():
            has_progress = report.has_progress or bool(event.step)
            return replace(report, progress=event, checkpoint=_saved(report, event), has_progress=has_progress)
        case ResultEvent():
            return replace(report, result=event.result, has_progress=True)
        case ErrorEvent():
            return replace(report, error=plain(event.message), cause=_word(event.cause))
        case CheckpointSkippedEvent():
            which = "checkpoint" if event.step is None else f"step {event.step}"
            text = f"{which}: {plain(event.reason)}"[:_LONGEST_SKIPPED]
            if text not in report.skipped:
                return replace(report, skipped=(*report.skipped, text)[-MOST_SKIPPED:])
        case NoteEvent():
            text = plain(event.message)
            text = text if len(text) <= _LONGEST_NOTE else f"{text[: _LONGEST_NOTE - 1]}…"
            if text and text not in report.notes:
                return replace(report, notes=(*report.notes, text)[:MOST_NOTES])
    return report


def _saved(report: Report, event: ProgressEvent) -> CheckpointState | None:
    """The newest checkpoint, with the time at which it was first heard of."""
    moment = seconds_of(event.time)
    known = report.checkpoint is not None and report.checkpoint.step == event.checkpoint
    if event.checkpoint is None or moment is None or known:
        return report.checkpoint
    return CheckpointState(step=event.checkpoint, time=float(int(moment)))


def _bounded(value: float | None, most: float) -> float | None:
    return None if value is None else min(most, max(0.0, value))


def _word(text: str) -> str:
    """A reason as conditions have them, in one CamelCase word; empty for anything else."""
    text = plain(text)
    return text if re.fullmatch(r"[A-Z][A-Za-z0-9]{0,63}", text) else ""
