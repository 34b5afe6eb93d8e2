"""The decision itself.

An executor loops: observe, `plan`, write down `Plan.run`, carry out `Plan.actions`, wait for a change or `wake_at`.
The run must be durable before the first action. Every action may be repeated: starting an attempt that exists and
stopping one that is gone do nothing. So the loop may be cut anywhere and taken up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kronos_operator.api import KronosModel, Outcome, Phase, Run, Spec, StopReason, UpdatePolicy
from kronos_operator.plan.actions import Action, Deletions, StartAttempt, StopAttempt, start_of
from kronos_operator.plan.attempt import Attempt, AttemptState
from kronos_operator.plan.begin import begin
from kronos_operator.plan.conditions import Condition, Situation, conditions, phase_of
from kronos_operator.plan.events import Event, EventKind, event
from kronos_operator.plan.observed import Observed
from kronos_operator.plan.obstacle import Obstacle
from kronos_operator.plan.pointing import Pointing, point
from kronos_operator.plan.request import Request
from kronos_operator.plan.restarts import absorb, lost, stopped
from kronos_operator.plan.retention import deletions
from kronos_trainer.config import StageName

_ENDS_OF_ATTEMPTS = (EventKind.STAGE_SUCCEEDED, EventKind.ATTEMPT_FAILED, EventKind.ATTEMPT_STOPPED)
_PROMOTING = Obstacle(reason="Promoting", message="waits for the end of a promotion or rollback, which takes seconds")
START_PATIENCE = 600.0  # seconds from a gang's start to its first line


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to write down, what to do, what to report, and when to look again (seconds since the epoch)."""

    run: Run | None
    actions: tuple[Action, ...]
    deletions: Deletions
    events: tuple[Event, ...]
    phase: Phase
    stage: StageName | None
    conditions: tuple[Condition, ...]
    wake_at: float | None
    pointing: Pointing = field(default_factory=Pointing)  # what to do for promotions and rollbacks
    queue_position: int | None = None  # in whichever queue it waits, 1 being the next

    @property
    def ends_attempt(self) -> bool:
        """Whether the current attempt is over."""
        return any(one.kind in _ENDS_OF_ATTEMPTS for one in self.events)

    @property
    def begins(self) -> bool:
        """Whether a run begins."""
        return any(one.kind is EventKind.RUN_BEGAN for one in self.events)

    @property
    def settled(self) -> bool:
        """Whether all that is asked for is done, and no gang is to be started; what others left may have to go."""
        finished = any(one.type == "Finished" and one.status for one in self.conditions)
        return finished and not self.pointing.busy

    @property
    def starts(self) -> bool:
        """Whether an attempt is to be started."""
        return any(isinstance(action, StartAttempt) for action in self.actions)


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """The run as it is to be, and what to do for it at once."""

    run: Run | None
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    wake_at: float | None = None


def plan(model: KronosModel, observed: Observed, now: float) -> Plan:
    """The next moves for `model`. `now` is in seconds since the epoch."""
    request = Request.of(model, observed)
    decision = _decide(request, observed, now)
    run, actions, events, wake_at = decision.run, decision.actions, decision.events, decision.wake_at
    if observed.rejected is not None and run is not None and run.outcome is None:
        run, failed = lost(run, observed.rejected.reason, observed.rejected.message)
        actions, events, wake_at = _stop_strays(run, observed.attempts), (*events, *failed), now
    refused = observed.refused or observed.pointer_refused
    pointing = point(observed.asked, observed.pointer_pods, observed.attempts, refused, now)
    if pointing.busy:
        observed = replace(observed, waiting=observed.waiting or _PROMOTING)
    if pointing.answer is not None and pointing.answer.published is not None:
        observed = replace(observed, published=pointing.answer.published.run)
        if run is not None and run.outcome is Outcome.SUCCEEDED:
            # What the gate has decided of it counts no longer.
            run = run.evolve(reason=pointing.answer.reason, message=pointing.answer.message)
    current = None if run is None else _current(run, observed.attempts)
    situation = Situation(request=request, observed=observed, run=run, current=current)
    phase = phase_of(situation)
    following = None if run is None else run.next_stage
    if observed.postponed is not None or pointing.busy:
        actions = tuple(action for action in actions if not isinstance(action, StartAttempt))
        if any(one.kind is EventKind.RUN_BEGAN for one in events):
            run, events = observed.run, ()  # it begins when what it needs can be made
    expired, expires = deletions(run, observed.attempts, model.spec.child_ttl_seconds_after_finished, now)
    return Plan(
        run=run,
        actions=actions,
        deletions=expired,
        events=events,
        phase=phase,
        stage=None if following is None else following.stage,
        conditions=conditions(situation),
        wake_at=min((moment for moment in (wake_at, expires, pointing.wake_at) if moment is not None), default=None),
        pointing=pointing,
        queue_position=_queue_position(observed, phase),
    )


def _decide(request: Request, observed: Observed, now: float) -> _Decision:
    spec, attempts, run = request.spec, observed.attempts, observed.run
    events: tuple[Event, ...]
    if run is None or run.outcome is not None:
        run, events = _open_run(run, request, observed, now)
    else:
        run, events = absorb(run, _current(run, attempts), spec, now)
        if run.outcome is not None:
            # How a run ended is written down before the next begins.
            return _Decision(run=run, actions=_stop_strays(run, attempts), events=events, wake_at=now)
    strays = _stop_strays(run, attempts)
    if run is None or run.outcome is not None:
        return _Decision(run=run, actions=strays, events=events)

    current = _current(run, attempts)
    reason = _reason_to_stop(run, current, request, now) or _reason_to_give_back(current, observed, now)
    if current is not None:
        run = run if run.stop is reason else run.evolve(stop=reason)
        if reason is None:
            return _Decision(run=run, actions=strays, events=events, wake_at=_deadline(current, observed, spec, now))
        return _Decision(run=run, actions=(*strays, *_stop(current, reason)), events=events)
    if reason is StopReason.SUSPENDED:
        return _Decision(run=run, actions=strays, events=events)
    if reason is not None:
        run, ends = stopped(run, reason, spec, now)
        return _Decision(run=run, actions=strays, events=(*events, *ends), wake_at=now)
    if any(attempt.state.live for attempt in attempts):
        return _Decision(run=run, actions=strays, events=events)
    if request.refused:
        return _Decision(run=run, events=events)
    # A changed template perhaps mends what kept it from its first step.
    mended = not run.has_progress and run.template_hash != request.template_hash
    if run.retry_at is not None and now < run.retry_at and not mended:
        return _Decision(run=run, events=events, wake_at=run.retry_at)
    if observed.place is not None:
        return _Decision(run=run.evolve(retry_at=None), events=events)
    run = run.evolve(template_hash=request.template_hash, retry_at=None)
    return _Decision(run=run, actions=(start_of(run),), events=events)


def _open_run(
    run: Run | None, request: Request, observed: Observed, now: float
) -> tuple[Run | None, tuple[Event, ...]]:
    """A new run where one is due, else the finished one."""
    if request.spec.suspend or request.refused:
        return run, ()
    if run is not None:
        by_itself = request.changes(run) and request.spec.update_policy is not UpdatePolicy.MANUAL
        if not (by_itself or request.mends(run) or request.asks_anew(run)):
            return run, ()
    begun = begin(request, run, observed.trained, observed.published, now)
    began = event(EventKind.RUN_BEGAN, begun)
    if begun.outcome is None:
        return begun, (began,)
    return begun, (began, event(EventKind.RUN_ENDED, begun, begun.reason, begun.message))


def _reason_to_stop(run: Run, current: Attempt | None, request: Request, now: float) -> StopReason | None:
    """Why the current attempt must not go on, or not be started."""
    if run.stop is not None:
        return run.stop
    if request.cancel != run.cancel:
        return StopReason.CANCELLED
    if _gives_way(run, request):
        return StopReason.SUPERSEDED
    if request.spec.suspend:
        return StopReason.SUSPENDED
    if current is None or current.state is not AttemptState.RUNNING:
        untouched = current is not None and current.state in (AttemptState.QUEUED, AttemptState.WAITING)
    else:
        stall, overtime = _deadlines(current, request.spec)
        if overtime is not None and now >= overtime:
            return StopReason.OVERTIME
        if stall is not None and now >= stall:
            return StopReason.STALLED
        untouched = not current.has_progress
    if request.refused or not untouched:
        return None
    return StopReason.UPDATED if run.template_hash != request.template_hash else None


def _reason_to_give_back(current: Attempt | None, observed: Observed, now: float) -> StopReason | None:
    """Why a gang that waits for places must leave them to others."""
    if current is None or current.state is not AttemptState.WAITING or current.unplaced_since is None:
        return None
    if observed.gang_start_seconds is None:
        return None
    if observed.outranked:
        return StopReason.OUTRANKED
    # One that holds nothing is in nobody's way, unless others wait for their turn.
    in_the_way = current.placed > 0 or observed.contended
    late = now >= current.unplaced_since + observed.gang_start_seconds
    return StopReason.INCOMPLETE if late and in_the_way else None


def _gives_way(run: Run, request: Request) -> bool:
    """Whether the run is not to be finished, for the sake of what is asked for now.

    One that has trained nothing yet always gives way to another spec: it may be one that can never start. Other scores
    are no reason to stop what trains: they follow in the same run.
    """
    if request.refused:
        return False
    stage, insisted = run.next_stage, request.insists(run)
    scores = stage is not None and not stage.stage.has_weights
    changed = request.changes(run) if scores else request.retrains(run)
    if request.spec.update_policy is UpdatePolicy.CANCEL:
        return changed or insisted
    waits_for_request = request.spec.update_policy is UpdatePolicy.MANUAL and not insisted
    return changed and not run.has_progress and not waits_for_request


def _deadlines(attempt: Attempt, spec: Spec) -> tuple[float | None, float | None]:
    """When a running attempt counts as stalled, and when it has run for too long."""
    if attempt.reported_at is None:
        # Until its first line a trainer starts Python and mounts what it needs; a short deadline is not meant for that.
        allowed = max(spec.retry.progress_deadline_seconds, START_PATIENCE)
        stall = None if attempt.started_at is None else attempt.started_at + allowed
    else:
        # What its queue took back and has started again was silent meanwhile.
        alive_at = max(attempt.reported_at, attempt.started_at or 0.0)
        stall = alive_at + spec.retry.progress_deadline_seconds
    limit = spec.retry.max_runtime_seconds
    overtime = None if limit is None or attempt.started_at is None else attempt.started_at + limit
    return stall, overtime


def _deadline(attempt: Attempt, observed: Observed, spec: Spec, now: float) -> float | None:
    if attempt.state is AttemptState.WAITING and attempt.unplaced_since is not None:
        if observed.gang_start_seconds is None:
            return None
        late = attempt.unplaced_since + observed.gang_start_seconds
        return late if late > now else None  # late, and in nobody's way
    if attempt.state is not AttemptState.RUNNING:
        return None
    return min((moment for moment in _deadlines(attempt, spec) if moment is not None), default=None)


def _current(run: Run, attempts: Sequence[Attempt]) -> Attempt | None:
    key = (run.id, run.attempt)
    return next((attempt for attempt in attempts if (attempt.run, attempt.attempt) == key), None)


def _stop_strays(run: Run | None, attempts: Sequence[Attempt]) -> tuple[Action, ...]:
    """Gangs that nobody waits for must end before another starts."""
    current = None if run is None or run.outcome is not None else _current(run, attempts)
    return tuple(
        action for attempt in attempts if attempt is not current for action in _stop(attempt, StopReason.STRAY)
    )


def _stop(attempt: Attempt, reason: StopReason) -> tuple[Action, ...]:
    if not attempt.state.live or attempt.state is AttemptState.STOPPING:
        return ()
    return (StopAttempt(run=attempt.run, stage=attempt.stage, attempt=attempt.attempt, reason=reason),)


def _queue_position(observed: Observed, phase: Phase) -> int | None:
    if phase is not Phase.QUEUED:
        return None
    if observed.place is not None:
        return observed.place
    waiting = observed.postponed or observed.waiting
    return None if waiting is None else waiting.place
