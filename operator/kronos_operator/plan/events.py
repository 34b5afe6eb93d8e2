"""What has happened to a run in one decision, for whoever reports it. Returned by plan."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from kronos_operator.api import Run
from kronos_trainer.config import StageName


class EventKind(StrEnum):
    """What happened."""

    RUN_BEGAN = "RunBegan"
    STAGE_SUCCEEDED = "StageSucceeded"  # and with it the attempt
    ATTEMPT_FAILED = "AttemptFailed"  # for a cause of its own or of others; it starts again unless the run ends
    ATTEMPT_STOPPED = "AttemptStopped"  # by request
    RUN_ENDED = "RunEnded"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened, to which attempt at which stage, and why."""

    kind: EventKind
    run: str
    attempt: int
    stage: StageName | None
    reason: str = ""
    message: str = ""


class Change(NamedTuple):
    """A run after something has happened to it."""

    run: Run
    events: tuple[Event, ...] = ()


def event(kind: EventKind, run: Run, reason: str = "", message: str = "") -> Event:
    """An event of the run's current attempt."""
    stage = run.next_stage
    return Event(
        kind=kind,
        run=run.id,
        attempt=run.attempt,
        stage=None if stage is None else stage.stage,
        reason=reason,
        message=message,
    )
