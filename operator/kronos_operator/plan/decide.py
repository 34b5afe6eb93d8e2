"""The decision itself.

An executor loops: observe, `plan`, write down `Plan.record`, carry out `Plan.actions`, wait for a change or `wake_at`.
The record must be durable before the first action. Every action may be repeated: starting an attempt that exists and
stopping one that is gone do nothing. So the loop may be cut anywhere and taken up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kronos_operator.api import KronosModel, Phase, Spec, UpdatePolicy
from kronos_operator.hashing import Digests, template_hash
from kronos_operator.plan.attempts import Attempt, AttemptState, absorb, stopped
from kronos_operator.plan.record import Completed, Request, RunRecord, StopReason, begin
from kronos_operator.plan.story import Condition, Situation, conditions, phase_of
from kronos_trainer.config import Reuse, RunConfig, StageName

START_PATIENCE = 600.0  # seconds from a gang's start to its first line


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What an executor sees of one model.

    `record` is the newest. `attempts` may lag behind, with two exceptions: they never go back in time, not even when an
    executor starts anew, and the record's current attempt is never missing while it exists.
    """

    record: RunRecord | None = None
    completed: Sequence[Completed] = ()  # newest first
    attempts: Sequence[Attempt] = ()
    published: str = ""  # the run that current.json names
    digests: Digests = field(default_factory=Digests)
    trigger: str = ""  # the newest retrain request, schedule tick or --force; another value asks for another run
    scheduled: bool = False  # whether the trigger is a schedule tick
    cancel: str = ""  # the newest cancel request
    stages: frozenset[StageName] = frozenset(StageName)  # --stage
    refused: bool = False  # whether the spec may not be started here
    place: int | None = None  # in the line of the models that wait for their turn, 1 being the next; None: it may start
    gang_start_seconds: float | None = None  # in which all pods must find a place; None: a queue sees to that
    outranked: bool = False  # a model that comes first lacks places of the same kind
    contended: bool = False  # others wait for their turn at places of the same kind


@dataclass(frozen=True, kw_only=True)
class StartAttempt:
    """Start the gang of one stage."""

    run: str
    stage: StageName
    number: int
    stage_hashes: tuple[tuple[StageName, str], ...]
    out_of_memory_restarts: int
    publish: bool
    reuse_tokenizer: Reuse | None

    def run_config(self, model: KronosModel, *, bars: str, output: str, gpu_required: bool = False) -> RunConfig:
        """run.json of the attempt, with bars and results where the trainer will see them."""
        return RunConfig(
            **model.spec.run_fields(),
            model=model.ref,
            run=self.run,
            stage=self.stage,
            stage_hashes=dict(self.stage_hashes),
            model_created=model.metadata.creation_timestamp,
            attempt=self.number,
            out_of_memory_restarts=self.out_of_memory_restarts,
            publish=self.publish,
            reuse_tokenizer=self.reuse_tokenizer,
            bars=bars,
            output=output,
            gpu_required=gpu_required,
        )


@dataclass(frozen=True, kw_only=True)
class StopAttempt:
    """SIGTERM to the gang; what is left after the grace period is killed."""

    run: str
    stage: StageName
    number: int
    reason: StopReason


Action = StartAttempt | StopAttempt


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to write down, what to do, what to tell, and when to look again (seconds since the epoch)."""

    record: RunRecord | None
    actions: tuple[Action, ...]
    phase: Phase
    stage: StageName | None
    conditions: tuple[Condition, ...]
    wake_at: float | None
    place: int | None = None  # in the line of the models that wait for their turn


def plan(model: KronosModel, observed: Observed, now: float) -> Plan:
    """The next moves for `model`. `now` is in seconds since the epoch."""
    spec = model.spec
    request = Request(
        spec=spec,
        digests=observed.digests,
        trigger=observed.trigger,
        scheduled=observed.scheduled,
        cancel=observed.cancel,
        stages=observed.stages,
        refused=observed.refused,
    )
    record = observed.record
    if record is None or record.outcome is not None:
        record = _open_run(record, request, observed, now)
    else:
        record = absorb(record, _current(record, observed.attempts), spec, now)
        if record.outcome is not None:
            # How a run ended is written down before the next begins.
            return _told(request, observed, record, _stop_strays(record, observed.attempts), wake_at=now)
    if record is None or record.outcome is not None:
        return _told(request, observed, record, _stop_strays(record, observed.attempts), wake_at=None)

    current = _current(record, observed.attempts)
    strays = _stop_strays(record, observed.attempts)
    reason = _reason_to_stop(record, current, request, now) or _reason_to_give_back(current, observed, now)
    if current is not None:
        record = replace(record, stop=reason)
        if reason is None:
            return _told(request, observed, record, strays, wake_at=_deadline(current, observed, spec, now))
        stop = _stop(current, reason)
        return _told(request, observed, record, (*strays, *stop), wake_at=None)
    if reason is StopReason.SUSPENDED:
        return _told(request, observed, record, strays, wake_at=None)
    if reason is not None:
        return _told(request, observed, stopped(record, reason, spec, now), strays, wake_at=now)
    if any(attempt.state.live for attempt in observed.attempts):
        return _told(request, observed, record, strays, wake_at=None)
    if request.refused:
        return _told(request, observed, record, (), wake_at=None)
    settings = template_hash(spec)
    mended = not record.stepped and record.settings != settings  # perhaps what it could not do its first step for
    if record.retry_at is not None and now < record.retry_at and not mended:
        return _told(request, observed, record, (), wake_at=record.retry_at)
    if observed.place is not None:
        return _told(request, observed, replace(record, retry_at=None), (), wake_at=None)
    record = replace(record, settings=settings, retry_at=None)
    return _told(request, observed, record, (start_of(record),), wake_at=None)


def _open_run(record: RunRecord | None, request: Request, observed: Observed, now: float) -> RunRecord | None:
    """A new run where one is due, else the finished one."""
    if request.spec.suspend or request.refused:
        return record
    if record is not None:
        by_itself = request.changes(record) and request.spec.update_policy is not UpdatePolicy.MANUAL
        if not (by_itself or request.mends(record) or request.asks_anew(record)):
            return record
    return begin(request, record, observed.completed, observed.published, now)


def _reason_to_stop(record: RunRecord, current: Attempt | None, request: Request, now: float) -> StopReason | None:
    """Why the current attempt must not go on, or not be started."""
    if record.stop is not None:
        return record.stop
    if request.cancel != record.cancel:
        return StopReason.CANCELLED
    if _gives_way(record, request):
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
        untouched = not current.stepped
    if request.refused or not untouched:
        return None
    return StopReason.UPDATED if record.settings != template_hash(request.spec) else None


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


def _gives_way(record: RunRecord, request: Request) -> bool:
    """Whether the run is not to be finished, for the sake of what is asked for now.

    One that has trained nothing yet always gives way to another spec: it may be one that can never start.
    """
    if request.refused:
        return False
    changed, insisted = request.changes(record), request.insists(record)
    if request.spec.update_policy is UpdatePolicy.CANCEL:
        return changed or insisted
    waits_for_word = request.spec.update_policy is UpdatePolicy.MANUAL and not insisted
    return changed and not record.stepped and not waits_for_word


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


def _current(record: RunRecord, attempts: Sequence[Attempt]) -> Attempt | None:
    key = (record.id, record.number)
    return next((attempt for attempt in attempts if (attempt.run, attempt.number) == key), None)


def _stop_strays(record: RunRecord | None, attempts: Sequence[Attempt]) -> tuple[Action, ...]:
    """Gangs that nobody waits for must end before another starts."""
    current = None if record is None or record.outcome is not None else _current(record, attempts)
    return tuple(
        action for attempt in attempts if attempt is not current for action in _stop(attempt, StopReason.STRAY)
    )


def _stop(attempt: Attempt, reason: StopReason) -> tuple[Action, ...]:
    if not attempt.state.live or attempt.state is AttemptState.STOPPING:
        return ()
    return (StopAttempt(run=attempt.run, stage=attempt.stage, number=attempt.number, reason=reason),)


def start_of(record: RunRecord) -> StartAttempt:
    """The start of the record's current attempt, which is the same each time."""
    step = record.next_step
    assert step is not None  # a run without a next step has an outcome
    reused = next((earlier for earlier in record.steps if earlier.reuse is not None), None)
    return StartAttempt(
        run=record.id,
        stage=step.stage,
        number=record.number,
        stage_hashes=record.hashes,
        out_of_memory_restarts=record.out_of_memory,
        publish=step.publish,
        reuse_tokenizer=None if reused is None or reused.reuse is None else Reuse(run=reused.reuse, hash=reused.hash),
    )


def _told(
    request: Request,
    observed: Observed,
    record: RunRecord | None,
    actions: tuple[Action, ...],
    *,
    wake_at: float | None,
) -> Plan:
    current = None if record is None else _current(record, observed.attempts)
    situation = Situation(
        request=request, record=record, current=current, published=observed.published, place=observed.place
    )
    step = None if record is None else record.next_step
    return Plan(
        record=record,
        actions=actions,
        phase=phase_of(situation),
        stage=None if step is None else step.stage,
        conditions=conditions(situation),
        wake_at=wake_at,
        place=observed.place,
    )
