"""What the end of an attempt means for its run: the rules of restarting. Called by plan."""

from __future__ import annotations

from kronos_operator.api import LastRestart, Outcome, Run, Spec, StopReason
from kronos_operator.plan.attempt import Attempt, AttemptState
from kronos_operator.plan.events import Change, EventKind, event
from kronos_trainer.config import FINAL_CODES, ExitCode

MOST_BACKOFF = 3600.0  # seconds, as promised by retry.backoffSeconds
# The third disruption within this time, and each further one, is followed by a pause: something drives the gang away.
SOON_AGAIN = 600.0  # seconds
_FREE_IN_A_ROW = 2
_MOST_RECENT = 16  # disruptions whose times are kept
HELD = "PromotionHeld"  # the reason of a run that succeeded and that the promotion gate has held
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


def absorb(run: Run, attempt: Attempt | None, spec: Spec, now: float) -> Change:
    """The run after what is observed of its current attempt: how it ended, or what it has done and suffered so far."""
    if attempt is None:
        return _vanished(run, spec, now)
    if attempt.has_progress or attempt.state is AttemptState.SUCCEEDED:
        run = run if run.has_progress else run.evolve(has_progress=True)
    if attempt.state is AttemptState.RUNNING:
        if not run.begun or run.restarts.incomplete:
            run = run.evolve(begun=True, restarts=run.restarts.evolve(incomplete=0))
        if attempt.whole and not attempt.disrupted and run.disrupted:
            return _resumed(run, now)
    if attempt.state.live:
        if attempt.disrupted and not run.disrupted:
            run = run.evolve(disrupted=True, reason=attempt.reason, message=attempt.message)
        return Change(run)
    if attempt.state is AttemptState.SUCCEEDED:
        return _succeeded(run, attempt, spec, now)
    if run.stop is not None:
        return stopped(run, run.stop, spec, now)
    if attempt.deadline_exceeded:
        return stopped(run, StopReason.OVERTIME, spec, now)
    return _failed(run, attempt, spec, now)


def stopped(run: Run, reason: StopReason, spec: Spec, now: float) -> Change:
    """The run after its attempt was stopped, or before one was started, for this reason."""
    stage = run.next_stage
    nodes = spec.resources.nodes if stage is None else spec.resources.of_stage(stage.stage).nodes
    if reason is StopReason.STALLED:
        message = f"no sign of life for {spec.retry.progress_deadline_seconds} s"
        counted = run.evolve(restarts=run.restarts.evolve(stalls=run.restarts.stalls + 1))
        return _counted(counted, "ProgressDeadlineExceeded", message, spec, now)
    if reason is StopReason.OVERTIME:
        message = f"ran longer than maxRuntimeSeconds ({spec.retry.max_runtime_seconds} s)"
        return lost(run, "MaxRuntimeExceeded", message)
    if reason is StopReason.OUTRANKED:
        message = f"not all of its {nodes} pod(s) were scheduled, and another model's come first"
        incomplete = max(1, run.restarts.incomplete)
        return _again(run.evolve(restarts=run.restarts.evolve(incomplete=incomplete)), "GangIncomplete", message, now)
    if reason is StopReason.INCOMPLETE:
        message = f"not all of its {nodes} pod(s) were scheduled in time; it has released the places of those that were"
        incomplete = run.restarts.incomplete + 1
        counted = run.evolve(restarts=run.restarts.evolve(incomplete=incomplete))
        return _again(counted, "GangIncomplete", message, now, after=_backoff(spec, incomplete))
    if reason is StopReason.CANCELLED:
        return _ended(run, EventKind.ATTEMPT_STOPPED, Outcome.CANCELLED, "Cancelled", "cancelled by request")
    if reason is StopReason.SUPERSEDED:
        message = "a newer spec took its place"
        return _ended(run, EventKind.ATTEMPT_STOPPED, Outcome.SUPERSEDED, "Superseded", message)
    return Change(_next_attempt(run), (event(EventKind.ATTEMPT_STOPPED, run, reason.value),))


def lost(run: Run, reason: str, message: str) -> Change:
    """The run after it has failed for good."""
    return _ended(run, EventKind.ATTEMPT_FAILED, Outcome.FAILED, reason, message)


def _vanished(run: Run, spec: Spec, now: float) -> Change:
    """Nothing is left of the attempt, or it was not started yet."""
    if run.stop is not None:
        return stopped(run, run.stop, spec, now)
    if run.disrupted:
        return _disrupted(run, run.reason, run.message, has_progress=True, spec=spec, now=now)
    if run.begun:
        message = "the workload and its pods are gone"
        return _disrupted(run, "WorkloadGone", message, has_progress=True, spec=spec, now=now)
    return Change(run)


def _resumed(run: Run, now: float) -> Change:
    """Its queue had taken it back and has started it again: the same attempt, with nothing to be forgiven any more.

    Not counted before, for the end of its pods may still be found to have failed it, which counts too.
    """
    reason = run.reason or "Disrupted"
    failed = event(EventKind.ATTEMPT_FAILED, run, reason, run.message)
    restarts = run.restarts.evolve(
        disruptions=run.restarts.disruptions + 1,
        last=LastRestart(reason=reason, message=run.message, time=now),
    )
    return Change(run.evolve(restarts=restarts, disrupted=False, reason="", message=""), (failed,))


def _succeeded(run: Run, attempt: Attempt, spec: Spec, now: float) -> Change:
    if attempt.result is None and not attempt.stage.has_weights:
        return _unreported(run, attempt, spec, now)
    succeeded = event(EventKind.STAGE_SUCCEEDED, run)
    stages = tuple(
        stage.evolve(done=True, **_result(attempt)) if stage.stage is attempt.stage and not stage.done else stage
        for stage in run.stages
    )
    run = _next_attempt(run, restarts=run.restarts.evolve(out_of_memory=0, memory_kills=0)).evolve(stages=stages)
    if run.next_stage is not None:
        return Change(run, (succeeded,))
    judged = run.judged
    reason = HELD if run.held else "Succeeded"
    message = ("" if judged is None else judged.promotion_message) or "every stage is done"
    run = run.evolve(outcome=Outcome.SUCCEEDED, reason=reason, message=message)
    return Change(run, (succeeded, event(EventKind.RUN_ENDED, run, run.reason, run.message)))


def _unreported(run: Run, attempt: Attempt, spec: Spec, now: float) -> Change:
    """A verdict that nobody has heard: whether the run is published is not known, and the storage has the answer.

    The next attempt finds the stage complete, does nothing and reports it again.
    """
    message = (
        f"the {attempt.stage} has ended and its report was lost, so it is not known here whether run {run.id} is "
        "published; the next attempt reads it from the storage"
    )
    counted = run.evolve(restarts=run.restarts.evolve(crashes=run.restarts.crashes + 1))
    return _counted(counted, "ReportLost", message, spec, now)


def _result(attempt: Attempt) -> dict[str, object]:
    """What the trainer has reported of its result, if that was received."""
    result = attempt.result
    if result is None:
        return {}
    found, decided = result.evaluation, result.promotion
    return {
        "digest": result.digest or None,
        "bytes": result.bytes,
        "data_through": result.through or None,
        "metrics": result.metrics,
        "verdict": None if found is None else found.verdict or None,
        "promotion": None if decided is None else decided.decision or None,
        "promotion_message": None if decided is None else decided.message or None,
    }


def _failed(run: Run, attempt: Attempt, spec: Spec, now: float) -> Change:
    code, restarts = attempt.exit_code, run.restarts
    if code in FINAL_CODES or (attempt.final and code in _REASONS):
        return lost(run, _REASONS[ExitCode(code)], attempt.message or f"the trainer ended with exit code {code}")
    if code == ExitCode.OUT_OF_MEMORY:
        if restarts.out_of_memory >= spec.memory_restarts(attempt.stage):
            return lost(run, "OutOfMemory", attempt.message or "out of memory with the smallest micro-batch")
        message = attempt.message or "out of GPU memory; the next attempt uses a smaller micro-batch"
        counted = run.evolve(restarts=restarts.evolve(out_of_memory=restarts.out_of_memory + 1))
        return _again(counted, "OutOfMemory", message, now)
    if attempt.memory_killed or code == ExitCode.MEMORY_LIMIT:
        return _memory_killed(run, attempt, spec, now)
    if code == ExitCode.STOPPED or attempt.disrupted or run.disrupted:
        reason, message = attempt.reason, attempt.message
        if run.disrupted and run.reason:
            reason, message = run.reason, run.message  # what came first
        return _disrupted(run, reason, message, has_progress=attempt.has_progress, spec=spec, now=now)
    reason = _REASONS[ExitCode.STORAGE] if code == ExitCode.STORAGE else "TrainerCrashed"
    message = attempt.message or f"the trainer ended with exit code {'unknown' if code is None else code}"
    return _counted(run.evolve(restarts=restarts.evolve(crashes=restarts.crashes + 1)), reason, message, spec, now)


def _memory_killed(run: Run, attempt: Attempt, spec: Spec, now: float) -> Change:
    limit = spec.resources.memory
    bound = f"its limit is {limit} a pod" if limit else "its pods have no limit, so the node itself ran out"
    advice = "raise resources.memory" if limit else "set resources.memory, so that its pods go where there is enough"
    if spec.resources.of_stage(attempt.stage).processes > 1:
        advice += ", or lower resources.processesPerNode"
    message = attempt.message or f"a process was killed for lack of main memory: {bound}; {advice}"
    if run.restarts.memory_kills >= _MEMORY_RESTARTS:
        return lost(run, "MemoryLimitExceeded", f"{message}; it was killed again after a restart")
    counted = run.evolve(restarts=run.restarts.evolve(memory_kills=run.restarts.memory_kills + 1))
    return _again(counted, "MemoryLimitExceeded", message, now, after=spec.retry.backoff_seconds)


def _disrupted(run: Run, reason: str, message: str, *, has_progress: bool, spec: Spec, now: float) -> Change:
    """Free of charge. It waits if it was stopped before its first step, or time and again, so that it does not spin."""
    reason, message = reason or "Disrupted", message or "a pod was evicted, preempted or deleted"
    most = spec.retry.max_disruptions
    recent = (*(at for at in run.disrupted_at if now - at < SOON_AGAIN), now)[-_MOST_RECENT:]
    restarts = run.restarts.evolve(disruptions=run.restarts.disruptions + 1)
    run = run.evolve(restarts=restarts, disrupted_at=recent)
    if restarts.disruptions > most:
        return lost(run, "TooManyDisruptions", f"{message}; given up after {most} disruptions")
    delay = 0.0 if has_progress else float(spec.retry.backoff_seconds)
    if len(recent) > _FREE_IN_A_ROW:
        delay = _backoff(spec, len(recent) - _FREE_IN_A_ROW)
    return _again(run, reason, message, now, after=delay)


def _counted(run: Run, reason: str, message: str, spec: Spec, now: float) -> Change:
    counted = run.restarts.crashes + run.restarts.stalls
    if counted > spec.retry.max_restarts:
        return lost(run, reason, f"{message}; given up after {spec.retry.max_restarts} restarts")
    return _again(run, reason, message, now, after=_backoff(spec, counted))


def _backoff(spec: Spec, count: int) -> float:
    """Seconds before the restart after the `count`th failure in a row."""
    # The exponent is bounded before the power: a large maxRestarts must not overflow.
    return float(min(spec.retry.backoff_seconds * 2.0 ** min(count - 1, 30), MOST_BACKOFF))


def _again(run: Run, reason: str, message: str, now: float, after: float = 0.0) -> Change:
    """The run with its next attempt to come, `after` so many seconds."""
    last = LastRestart(reason=reason, message=message, time=now)
    retry_at = now + after if after > 0 else None
    following = _next_attempt(
        run, retry_at=retry_at, reason=reason, message=message, restarts=run.restarts.evolve(last=last)
    )
    return Change(following, (event(EventKind.ATTEMPT_FAILED, run, reason, message),))


def _ended(run: Run, how: EventKind, outcome: Outcome, reason: str, message: str) -> Change:
    ended = (event(how, run, reason, message), event(EventKind.RUN_ENDED, run, reason, message))
    return Change(_next_attempt(run, outcome=outcome, reason=reason, message=message), ended)


def _next_attempt(run: Run, **changes: object) -> Run:
    fresh = {"stop": None, "disrupted": False, "begun": False, "retry_at": None, "reason": "", "message": ""}
    return run.evolve(**fresh | {"attempt": run.attempt + 1} | changes)
