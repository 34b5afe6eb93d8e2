"""What a model's status tells of its run: phase and conditions, derived anew each time. Called by plan."""

from __future__ import annotations

from dataclasses import dataclass

from kronos_operator.api import Phase, UpdatePolicy
from kronos_operator.plan.attempts import Attempt, AttemptState
from kronos_operator.plan.record import Outcome, Request, RunRecord, StopReason
from kronos_trainer.config import StageName


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition as Kubernetes knows it, without times."""

    type: str
    status: bool
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that the story is told from."""

    request: Request
    record: RunRecord | None
    current: Attempt | None
    published: str
    place: int | None = None  # in the line of the models that wait for their turn

    @property
    def live(self) -> Attempt | None:
        """The current attempt while anything of its gang is left."""
        return self.current if self.current is not None and self.current.state.live else None

    @property
    def unanswered(self) -> bool:
        """Whether the user asks for something, by spec or by request, that the run is not the answer to."""
        record, request = self.record, self.request
        return record is not None and (request.changes(record) or request.mends(record) or request.insists(record))

    @property
    def waits(self) -> str:
        """What is asked for and has to wait, and for what; empty if nothing has to."""
        record, request = self.record, self.request
        if record is None or not self.unanswered:
            return ""
        insists = request.insists(record)
        manual = request.spec.update_policy is UpdatePolicy.MANUAL and not insists and not request.mends(record)
        what = "retraining" if insists else "a newer spec"
        if manual:
            return f"{what} waits for a retrain request, as updatePolicy is Manual"
        if record.outcome is None:
            return f"{what} waits for the end of this run"
        return f"{what} waits for the end of spec.suspend" if request.spec.suspend else ""


def phase_of(situation: Situation) -> Phase:
    """The phase to display."""
    record, live = situation.record, situation.live
    if record is not None and record.outcome is not None and record.outcome is not Outcome.SUPERSEDED:
        return Phase.SUCCEEDED if record.outcome is Outcome.SUCCEEDED else Phase.FAILED
    if live is not None and record is not None and record.stop is not None:
        quiet = (StopReason.SUSPENDED, StopReason.CANCELLED)
        return Phase.SUSPENDING if record.stop in quiet else Phase.RESTARTING
    if live is None and situation.request.spec.suspend:
        return Phase.SUSPENDED
    if live is not None and (live.state is AttemptState.RUNNING or live.succeeding):
        return Phase.TRAINING
    if live is not None and live.state is AttemptState.QUEUED:
        return Phase.QUEUED
    if live is None and situation.place is not None:
        return Phase.QUEUED
    restarted = record is not None and (record.restarts > 0 or record.disrupted)
    again = restarted or (live is not None and live.state is AttemptState.STOPPING)
    return Phase.RESTARTING if again else Phase.PENDING


def conditions(situation: Situation) -> tuple[Condition, ...]:
    """Ready, Stalled, Progressing, one `<Stage>Trained` for each stage, Available, Finished."""
    record, phase = situation.record, phase_of(situation)
    stalled = phase is Phase.FAILED and record is not None and record.outcome is Outcome.FAILED
    progressing = phase in (Phase.PENDING, Phase.QUEUED, Phase.TRAINING, Phase.RESTARTING)
    reason, message = _reason(situation, phase)
    return (
        Condition(type="Ready", status=not stalled, reason=reason, message=message),
        Condition(type="Stalled", status=stalled, reason=reason, message=message),
        Condition(type="Progressing", status=progressing, reason=reason, message=message),
        *(_trained(situation, stage) for stage, _ in situation.request.hashes),
        _available(situation),
        _finished(situation),
    )


def _reason(situation: Situation, phase: Phase) -> tuple[str, str]:
    record = situation.record
    if record is None:
        return phase.value, "no run has begun"
    waits = situation.waits
    if record.outcome is not None:
        return ("UpdateWaiting", waits) if waits else (record.reason, record.message)
    also = f"; {waits}" if waits else ""
    if phase is Phase.QUEUED and situation.place is not None:
        turn = f"place {situation.place} of the models that wait for their turn"
        return (record.reason, f"{record.message}; {turn}{also}") if record.reason else ("WaitingForTurn", turn + also)
    if phase is Phase.RESTARTING and record.reason:
        return record.reason, record.message + also
    reason, step = phase.value, record.next_step
    if phase is Phase.TRAINING and step is not None:
        reason = f"Training{step.stage.capitalize()}"
    return reason, f"run {record.id}, attempt {record.number}{also}"


def _trained(situation: Situation, stage: StageName) -> Condition:
    kind = stage.condition
    steps = () if situation.record is None else situation.record.steps
    step = next((step for step in steps if step.stage is stage), None)
    if step is None:
        untrained = situation.record is not None
        reason = "InitialWeights" if untrained else "Pending"
        return Condition(type=kind, status=untrained, reason=reason, message="epochs is 0" if untrained else "")
    if step.reuse is not None:
        return Condition(type=kind, status=True, reason="Reused", message=f"trained by run {step.reuse}")
    return Condition(
        type=kind, status=step.done, reason="Trained" if step.done else "Pending", message=f"hash {step.hash}"
    )


def _available(situation: Situation) -> Condition:
    record = situation.record
    now_published = record is not None and any(step.publish and step.done for step in record.steps)
    run = record.id if record is not None and now_published else situation.published
    message = f"run {run} is published" if run else "no run is published"
    return Condition(type="Available", status=bool(run), reason="Published" if run else "NotPublished", message=message)


def _finished(situation: Situation) -> Condition:
    """True when the run that answers the newest spec and request has ended: who waits for it must not wait in vain."""
    record, waits = situation.record, situation.waits
    if record is None or record.outcome is None:
        return Condition(type="Finished", status=False, reason="InProgress", message=waits)
    if situation.unanswered:
        reason = "UpdateWaiting" if waits else "InProgress"
        return Condition(type="Finished", status=False, reason=reason, message=waits)
    return Condition(type="Finished", status=True, reason=record.outcome.value, message=record.message)
