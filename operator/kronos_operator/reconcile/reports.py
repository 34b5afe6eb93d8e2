"""What the trainer says of itself, from the lines of rank 0's log. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kronos_operator.api import CheckpointState, Progress
from kronos_operator.durations import round_duration
from kronos_operator.reconcile.times import seconds_of
from kronos_operator.text import plain
from kronos_trainer.config import StageName, StageResult

_MARK = '{"kronos":'
_DECODER = json.JSONDecoder()
_LONGEST_ETA = 1e9  # seconds
_LONGEST_SKIPPED = _LONGEST_NOTE = 256
MOST_SKIPPED = MOST_NOTES = 8


@dataclass(frozen=True, kw_only=True)
class Report:
    """The newest of each thing that was said."""

    said_at: float | None = None  # by the clock of the trainer's node
    heard_at: float | None = None  # by ours: when something new was heard, or nothing could be
    stepped: bool = False
    progress: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: CheckpointState | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    cause: str = ""  # the trainer's own word for why it stopped
    skipped: tuple[str, ...] = ()  # checkpoints that were damaged and passed over
    notes: tuple[str, ...] = ()  # the first few


def read_report(lines: Iterable[str], before: Report | None = None) -> Report:
    """What lines of a log add to what was known. What is not the trainer's, or cut off, is passed over.

    Lines that were read before change nothing.
    """
    report = before or Report()
    for line in lines:
        for message in _messages(line):
            report = _heard(report, message)
    return report


def progress_of(report: Report, attempt: int, stage: StageName) -> Progress:
    """status.progress of the newest progress line."""
    said = report.progress
    percent, left = _bounded(said, "percent", 100.0), _bounded(said, "etaSeconds", _LONGEST_ETA)
    at = report.said_at or 0.0
    return Progress(
        stage=stage,
        attempt=attempt,
        epoch=_count(said, "epoch"),
        epochs=_count(said, "epochs"),
        step=_count(said, "step"),
        steps=_count(said, "steps"),
        percent=percent,
        summary=_text(said, "phase")[:32] or None if percent is None else f"{percent:.0f}%",
        eta=None if left is None else round_duration(left),
        estimated_completion_time=None if left is None else float(int(at + left)),
        loss=_number(said, "loss"),
        validation_loss=_number(said, "validationLoss"),
        samples_per_second=_positive(_number(said, "samplesPerSecond")),
        updated_at=float(int(at)),
    )


def result_of(report: Report, stage: StageName) -> tuple[str | None, dict[str, float]]:
    """Digest of the weights and metrics of a stage's result; none if the report has no result of that stage."""
    if report.result.get("stage") != stage.value:
        return None, {}
    return _text(report.result, "digest")[:128] or None, StageResult.read(report.result).metrics


def _heard(report: Report, message: Mapping[str, Any]) -> Report:
    event = message.get("event")
    said_at = seconds_of(str(message.get("time", "")))
    report = replace(report, said_at=max(said_at or 0.0, report.said_at or 0.0) or None)
    if event in ("progress", "phase"):
        step = _count(message, "step")
        # A checkpoint is durable when the trainer goes on to something else.
        saved = report.progress.get("phase") == "saving" and message.get("phase") != "saving"
        at, before = _count(report.progress, "step"), seconds_of(str(report.progress.get("time", "")))
        checkpoint = report.checkpoint
        if saved and at is not None and before is not None:
            checkpoint = CheckpointState(step=at, time=float(int(before)))
        return replace(
            report, progress=message, checkpoint=checkpoint, stepped=report.stepped or (step is not None and step > 0)
        )
    if event == "result" and isinstance(message.get("result"), dict):
        return replace(report, result=message["result"], stepped=True)
    if event == "error":
        return replace(report, error=_text(message, "message"), cause=_word(message, "cause"))
    if event == "checkpointSkipped":
        step, reason = _count(message, "step"), _text(message, "reason")
        text = f"{'checkpoint' if step is None else f'step {step}'}: {reason}"[:_LONGEST_SKIPPED]
        if text not in report.skipped:
            return replace(report, skipped=(*report.skipped, text)[-MOST_SKIPPED:])
    if event == "note":
        text = _text(message, "message")
        text = text if len(text) <= _LONGEST_NOTE else f"{text[: _LONGEST_NOTE - 1]}…"
        if text and text not in report.notes:
            return replace(report, notes=(*report.notes, text)[:MOST_NOTES])
    return report


def _messages(line: str) -> Iterator[dict[str, Any]]:
    """The trainer's messages in a line: another writer of the same log may have left its own line without an end."""
    start = line.find(_MARK)
    while start >= 0:
        try:
            message, end = _DECODER.raw_decode(line, start)
        except (ValueError, RecursionError):
            end = start + len(_MARK)
        else:
            if isinstance(message, dict):
                yield message
        start = line.find(_MARK, end)


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    # Python reads NaN and Infinity where JSON has none; the API server would refuse the whole status.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def _bounded(values: Mapping[str, Any], name: str, most: float) -> float | None:
    value = _number(values, name)
    return None if value is None else min(most, max(0.0, value))


def _text(values: Mapping[str, Any], name: str) -> str:
    """A string that can be written as JSON and read on a terminal; empty for anything else."""
    value = values.get(name)
    return plain(value) if isinstance(value, str) else ""


def _word(values: Mapping[str, Any], name: str) -> str:
    """A reason as conditions have them, in one CamelCase word; empty for anything else."""
    value = _text(values, name)
    return value if re.fullmatch(r"[A-Z][A-Za-z0-9]{0,63}", value) else ""


def _count(values: Mapping[str, Any], name: str) -> int | None:
    value = _number(values, name)
    return None if value is None or value < 0 or value > 2**62 else int(value)


def _positive(value: float | None) -> float | None:
    return None if value is None else max(0.0, value)
