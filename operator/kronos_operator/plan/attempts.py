"""The attempts at a stage, and what the end of one means for its run: the rules of restarting. Called by plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from kronos_operator.api import Spec
from kronos_operator.plan.record import Outcome, Restart, RunRecord, StopReason
from kronos_trainer.config import FINAL_CODES, ExitCode, StageName

MOST_BACKOFF = 3600.0  # seconds, as promised by retry.backoffSeconds
# The third disruption within this time, and each further one, is followed by a pause: something drives the gang away.
SOON_AGAIN = 600.0  # seconds
_FREE_IN_A_ROW = 2
_MOST_RECENT = 16  # disruptions whose times are kept
_MEMORY_RESTARTS = 1  # another gang on the node may have been the cause, once

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
    final: bool = False  # it failed for a reason that another start would meet again at once
    disrupted: bool = False  # a pod, or the workload, was evicted, preempted or deleted by others
    reason: str = ""  # why it was disrupted, in one CamelCase word
    memory_killed: bool = False  # a process was killed for lack of main memory
    whole: bool = False  # none of its pods has ended
    placed: int = 0  # pods that have a node
    unplaced_since: float | None = None  # since when some of its pods wait for one; None if none does
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
        if record.disrupted:
            return _disrupted(record, record.reason, record.message, stepped=True, spec=spec, now=now)
        if record.begun:
            gone = "the workload and its pods are gone"
            return _disrupted(record, "WorkloadGone", gone, stepped=True, spec=spec, now=now)
        return record
    if attempt.state is AttemptState.RUNNING:
        record = replace(record, begun=True, incomplete=0)
        if attempt.whole and not attempt.disrupted and record.disrupted:
            # Its queue had taken it back and has started it again: the same attempt, with nothing to be forgiven any
            # more. Not counted before, for the end of its pods may still be found to have failed it, which counts too.
            last = Restart(reason=record.reason, message=record.message, at=now)
            counted = replace(record, disruptions=record.disruptions + 1, last=last)
            return replace(counted, disrupted=False, reason="", message="")
    if attempt.state.live:
        if attempt.disrupted and not record.disrupted:
            return replace(record, disrupted=True, reason=attempt.reason, message=attempt.message)
        return record
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
    if reason in (StopReason.INCOMPLETE, StopReason.OUTRANKED):
        return _gave_back(record, reason, spec, now)
    if reason is StopReason.OVERTIME:
        message = f"ran longer than maxRuntimeSeconds ({spec.retry.max_runtime_seconds} s)"
        return replace(ended, outcome=Outcome.FAILED, reason="MaxRuntimeExceeded", message=message)
    return ended


def _succeeded(record: RunRecord, attempt: Attempt) -> RunRecord:
    steps = tuple(replace(step, done=step.done or step.stage is attempt.stage) for step in record.steps)
    record = replace(_next_attempt(record), steps=steps, out_of_memory=0, memory_kills=0)
    if record.next_step is not None:
        return record
    return replace(record, outcome=Outcome.SUCCEEDED, reason="Succeeded", message="every stage is trained")


def _failed(record: RunRecord, attempt: Attempt, spec: Spec, now: float) -> RunRecord:
    code = attempt.exit_code
    if code in FINAL_CODES or (attempt.final and code in _REASONS):
        return _lost(record, _REASONS[ExitCode(code)], attempt.message or f"the trainer ended with exit code {code}")
    if code == ExitCode.OUT_OF_MEMORY:
        if record.out_of_memory >= spec.memory_restarts(attempt.stage):
            return _lost(record, "OutOfMemory", attempt.message or "out of memory with the smallest micro-batch")
        message = attempt.message or "out of GPU memory; the next attempt uses a smaller micro-batch"
        counted = replace(record, out_of_memory=record.out_of_memory + 1)
        return _again(counted, "OutOfMemory", message, now)
    if attempt.memory_killed or code == ExitCode.MEMORY_LIMIT:
        return _memory_killed(record, attempt, spec, now)
    if code == ExitCode.STOPPED or attempt.disrupted or record.disrupted:
        reason, message = attempt.reason, attempt.message
        if record.disrupted and record.reason:
            reason, message = record.reason, record.message  # what came first
        return _disrupted(record, reason, message, stepped=attempt.stepped, spec=spec, now=now)
    reason = _REASONS[ExitCode.STORAGE] if code == ExitCode.STORAGE else "TrainerCrashed"
    message = attempt.message or f"the trainer ended with exit code {'unknown' if code is None else code}"
    return _counted(replace(record, crashes=record.crashes + 1), reason, message, spec, now)


def _memory_killed(record: RunRecord, attempt: Attempt, spec: Spec, now: float) -> RunRecord:
    limit = spec.resources.memory
    bound = f"its limit is {limit} a pod" if limit else "its pods have no limit, so the node itself ran out"
    advice = "raise resources.memory" if limit else "give resources.memory, so that its pods go where there is enough"
    if spec.resources.processes > 1:
        advice += ", or lower resources.processesPerNode"
    message = attempt.message or f"a process was killed for lack of main memory: {bound}; {advice}"
    if record.memory_kills >= _MEMORY_RESTARTS:
        return _lost(record, "MemoryLimitExceeded", f"{message}; it was killed again after a restart")
    counted = replace(record, memory_kills=record.memory_kills + 1)
    return _again(counted, "MemoryLimitExceeded", message, now, after=spec.retry.backoff_seconds)


def _disrupted(record: RunRecord, reason: str, message: str, *, stepped: bool, spec: Spec, now: float) -> RunRecord:
    """Free of charge. It waits if it was stopped before its first step, or time and again, so that it does not spin."""
    reason, message = reason or "Disrupted", message or "a pod was evicted, preempted or deleted"
    most = spec.retry.max_disruptions
    recent = (*(at for at in record.recent if now - at < SOON_AGAIN), now)[-_MOST_RECENT:]
    record = replace(record, disruptions=record.disruptions + 1, recent=recent)
    if record.disruptions > most:
        return _lost(record, "TooManyDisruptions", f"{message}; given up after {most} disruptions")
    delay = 0.0 if stepped else float(spec.retry.backoff_seconds)
    if len(recent) > _FREE_IN_A_ROW:
        delay = _backoff(spec, len(recent) - _FREE_IN_A_ROW)
    return _again(record, reason, message, now, after=delay)


def _gave_back(record: RunRecord, reason: StopReason, spec: Spec, now: float) -> RunRecord:
    nodes = spec.resources.nodes
    if reason is StopReason.OUTRANKED:
        message = f"not all of its {nodes} pod(s) found a place, and another model's come first"
        return _again(replace(record, incomplete=max(1, record.incomplete)), "GangIncomplete", message, now)
    counted = replace(record, incomplete=record.incomplete + 1)
    message = f"not all of its {nodes} pod(s) found a place in time; it has given back those that did"
    return _again(counted, "GangIncomplete", message, now, after=_backoff(spec, counted.incomplete))


def _counted(record: RunRecord, reason: str, message: str, spec: Spec, now: float) -> RunRecord:
    counted = record.crashes + record.stalls
    if counted > spec.retry.max_restarts:
        return _lost(record, reason, f"{message}; given up after {spec.retry.max_restarts} restarts")
    return _again(record, reason, message, now, after=_backoff(spec, counted))


def _backoff(spec: Spec, count: int) -> float:
    """Seconds before the restart after the `count`th failure in a row."""
    # The exponent is bounded before the power: a large maxRestarts must not overflow.
    return float(min(spec.retry.backoff_seconds * 2.0 ** min(count - 1, 30), MOST_BACKOFF))


def _again(record: RunRecord, reason: str, message: str, now: float, after: float = 0.0) -> RunRecord:
    """The record with its next attempt to come, `after` so many seconds."""
    last = Restart(reason=reason, message=message, at=now)
    retry_at = now + after if after > 0 else None
    return replace(_next_attempt(record), retry_at=retry_at, reason=reason, message=message, last=last)


def _lost(record: RunRecord, reason: str, message: str) -> RunRecord:
    return replace(_next_attempt(record), outcome=Outcome.FAILED, reason=reason, message=message)


def _next_attempt(record: RunRecord) -> RunRecord:
    return replace(
        record, number=record.number + 1, stop=None, disrupted=False, begun=False, retry_at=None, reason="", message=""
    )
