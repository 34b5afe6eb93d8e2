"""The attempts at a stage, and what the end of one means for its run: the rules of restarting. Called by plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from kronos_operator.api import Spec
from kronos_operator.plan.record import Outcome, RunRecord, StopReason
from kronos_trainer.config import FINAL_CODES, ExitCode, StageName

MOST_BACKOFF = 3600.0  # seconds, as promised by retry.backoffSeconds

_REASONS = {
    ExitCode.CONFIG: "ConfigInvalid",
    ExitCode.DATA: "DataInvalid",
    ExitCode.INPUT_MISSING: "InputMissing",
    ExitCode.DIVERGED: "TrainingDiverged",
    ExitCode.OUT_OF_MEMORY: "OutOfMemory",
    ExitCode.STORAGE: "StorageFailed",
    ExitCode.ENVIRONMENT: "EnvironmentInvalid",
}


class AttemptState(StrEnum):
    """Where a gang is. A gang of which anything is left is not yet succeeded or failed."""

    QUEUED = "queued"  # not admitted
    WAITING = "waiting"  # to be scheduled, pulled, started
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def live(self) -> bool:
        """Whether the gang holds or may soon hold resources."""
        return self not in (AttemptState.SUCCEEDED, AttemptState.FAILED)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One start of the gang of a stage, as seen by an executor. Times are seconds since the epoch."""

    run: str
    stage: StageName
    number: int
    state: AttemptState
    exit_code: int | None = None  # the gang's cause, once failed
    message: str = ""  # what the trainer said of its failure
    disrupted: bool = False  # a pod was evicted, preempted or deleted by others
    whole: bool = False  # none of its pods has ended
    stepped: bool = False  # has reported a training step
    succeeding: bool = False  # all of it is done, and about to be counted as succeeded
    started_at: float | None = None
    reported_at: float | None = None  # last sign of life


def absorb(record: RunRecord, attempt: Attempt | None, spec: Spec, now: float) -> RunRecord:
    """The record after what is seen of its current attempt: how it ended, or what it has done and suffered so far."""
    if attempt is not None and (attempt.stepped or attempt.state is AttemptState.SUCCEEDED):
        record = replace(record, stepped=True)
    if attempt is None:
        if record.stop is not None:
            return stopped(record, record.stop, spec, now)
        return _disrupted(record, stepped=True, spec=spec, now=now) if record.disrupted else record
    runs = attempt.state is AttemptState.RUNNING and attempt.whole and not attempt.disrupted
    if runs and record.disrupted:
        # Its queue had taken it back and has started it again: the same attempt, with nothing to be forgiven any more.
        # Not counted before, for the end of its pods may still be told to have failed it, which counts too.
        return replace(record, disrupted=False, disruptions=record.disruptions + 1)
    if attempt.state.live:
        return replace(record, disrupted=record.disrupted or attempt.disrupted)
    if attempt.state is AttemptState.SUCCEEDED:
        return _succeeded(record, attempt)
    if record.stop is not None:
        return stopped(record, record.stop, spec, now)
    return _failed(record, attempt, spec, now)


def stopped(record: RunRecord, reason: StopReason, spec: Spec, now: float) -> RunRecord:
    """The record after its attempt was stopped, or before one was started, for this reason."""
    if reason is StopReason.STALLED:
        message = f"no sign of life for {spec.retry.progress_deadline_seconds} s"
        return _counted(replace(record, stalls=record.stalls + 1), "ProgressDeadlineExceeded", message, spec, now)
    ended = _next_attempt(record)
    if reason is StopReason.CANCELLED:
        return replace(ended, outcome=Outcome.CANCELLED, reason="Cancelled", message="cancelled by request")
    if reason is StopReason.SUPERSEDED:
        return replace(ended, outcome=Outcome.SUPERSEDED, reason="Superseded", message="a newer spec took its place")
    if reason is StopReason.OVERTIME:
        message = f"ran longer than maxRuntimeSeconds ({spec.retry.max_runtime_seconds} s)"
        return replace(ended, outcome=Outcome.FAILED, reason="MaxRuntimeExceeded", message=message)
    return ended


def _succeeded(record: RunRecord, attempt: Attempt) -> RunRecord:
    steps = tuple(replace(step, done=step.done or step.stage is attempt.stage) for step in record.steps)
    record = replace(_next_attempt(record), steps=steps, out_of_memory=0)
    if record.next_step is not None:
        return record
    return replace(record, outcome=Outcome.SUCCEEDED, reason="Succeeded", message="every stage is trained")


def _failed(record: RunRecord, attempt: Attempt, spec: Spec, now: float) -> RunRecord:
    code = attempt.exit_code
    if code in FINAL_CODES:
        return _lost(record, _REASONS[ExitCode(code)], attempt.message or f"the trainer ended with exit code {code}")
    if code == ExitCode.OUT_OF_MEMORY:
        if record.out_of_memory >= getattr(spec, attempt.stage).memory_restarts:
            return _lost(record, "OutOfMemory", attempt.message or "out of memory with the smallest micro-batch")
        return replace(_next_attempt(record), out_of_memory=record.out_of_memory + 1)
    if code == ExitCode.STOPPED or attempt.disrupted or record.disrupted:
        return _disrupted(record, stepped=attempt.stepped, spec=spec, now=now)
    reason = _REASONS[ExitCode.STORAGE] if code == ExitCode.STORAGE else "TrainerCrashed"
    message = attempt.message or f"the trainer ended with exit code {'unknown' if code is None else code}"
    return _counted(replace(record, crashes=record.crashes + 1), reason, message, spec, now)


def _disrupted(record: RunRecord, *, stepped: bool, spec: Spec, now: float) -> RunRecord:
    """Free of charge; only a gang that was stopped before its first step waits, so that it does not spin."""
    retry_at = None if stepped else now + spec.retry.backoff_seconds
    return replace(_next_attempt(record), disruptions=record.disruptions + 1, retry_at=retry_at)


def _counted(record: RunRecord, reason: str, message: str, spec: Spec, now: float) -> RunRecord:
    counted = record.crashes + record.stalls
    if counted > spec.retry.max_restarts:
        return _lost(record, reason, f"{message}; given up after {spec.retry.max_restarts} restarts")
    # The exponent is bounded before the power: a large maxRestarts must not overflow.
    delay = min(spec.retry.backoff_seconds * 2.0 ** min(counted - 1, 30), MOST_BACKOFF)
    return replace(_next_attempt(record), retry_at=now + delay, reason=reason, message=message)


def _lost(record: RunRecord, reason: str, message: str) -> RunRecord:
    return replace(_next_attempt(record), outcome=Outcome.FAILED, reason=reason, message=message)


def _next_attempt(record: RunRecord) -> RunRecord:
    return replace(record, number=record.number + 1, stop=None, disrupted=False, retry_at=None, reason="", message="")
