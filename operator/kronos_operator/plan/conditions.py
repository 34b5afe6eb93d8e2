"""What a model's status shows of its run: phase and conditions, derived anew each time. Called by plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kronos_operator.api import Outcome, Phase, Run, StopReason, UpdatePolicy
from kronos_operator.plan.attempt import Attempt, AttemptState
from kronos_operator.plan.observed import Observed
from kronos_operator.plan.request import Request
from kronos_operator.plan.restarts import HELD
from kronos_trainer.config import StageName

_STILL = (Phase.PENDING, Phase.QUEUED, Phase.RESTARTING)  # nothing runs
_STATE = ("Ready", "Progressing")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition as Kubernetes knows it, without times."""

    type: str
    status: bool
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that phase and conditions are derived from."""

    request: Request
    observed: Observed
    run: Run | None
    current: Attempt | None

    @property
    def live(self) -> Attempt | None:
        """The current attempt while anything of its gang is left."""
        return self.current if self.current is not None and self.current.state.live else None

    @property
    def open(self) -> bool:
        """Whether a run goes on."""
        return self.run is not None and self.run.outcome is None

    @property
    def unanswered(self) -> bool:
        """Whether the user asks for something, by spec or by request, that the run is not the answer to."""
        run, request = self.run, self.request
        return run is not None and (request.changes(run) or request.mends(run) or request.insists(run))

    @property
    def waits(self) -> str:
        """What is asked for and has to wait, and for what; empty if nothing has to."""
        run, request = self.run, self.request
        if run is None or not self.unanswered:
            return ""
        insists = request.insists(run)
        manual = request.spec.update_policy is UpdatePolicy.MANUAL and not insists and not request.mends(run)
        what = "retraining" if insists else "a newer spec"
        if manual:
            return f"{what} waits for a retrain request, as updatePolicy is Manual"
        if run.outcome is None:
            return f"{what} waits for the end of this run"
        return f"{what} waits for the end of spec.suspend" if request.spec.suspend else ""


def phase_of(situation: Situation) -> Phase:
    """The phase to display."""
    if situation.observed.refused is not None and not situation.open:
        return Phase.FAILED
    return _phase_of_run(situation)


def conditions(situation: Situation) -> tuple[Condition, ...]:
    """Ready, Stalled, Progressing, one `<Stage>Trained` for each stage, Available, Finished; StorageShared if not."""
    found = tuple(_explained(one, situation) for one in _conditions_of_run(situation))
    unshared = situation.observed.unshared_storage
    if unshared:
        found += (Condition(type="StorageShared", status=False, reason="StorageNotShared", message=unshared),)
    return found


def _explained(condition: Condition, situation: Situation) -> Condition:
    """The condition with what stands in the way, where something does."""
    observed, phase = situation.observed, _phase_of_run(situation)
    refused, waiting = observed.refused, observed.postponed or observed.waiting
    if refused is not None:
        unfinished = condition.type == "Finished" and not situation.open
        if unfinished or condition.type in (*_STATE, "Stalled"):
            stalled = condition.type == "Stalled"
            return replace(condition, status=stalled, reason=refused.reason, message=refused.message)
        return condition
    if condition.type not in _STATE:
        return condition
    if waiting is not None and phase in _STILL:
        return replace(condition, reason=waiting.reason, message=waiting.message)
    silent = () if situation.current is None else situation.current.silent_nodes
    if silent and phase is Phase.TRAINING:
        return replace(condition, message=f"{condition.message}; not ready: node {', '.join(silent)}")
    return condition


def _phase_of_run(situation: Situation) -> Phase:
    run, live = situation.run, situation.live
    if run is not None and run.outcome is not None and run.outcome is not Outcome.SUPERSEDED:
        return Phase.SUCCEEDED if run.outcome is Outcome.SUCCEEDED else Phase.FAILED
    if live is not None and run is not None and run.stop is not None:
        quiet = (StopReason.SUSPENDED, StopReason.CANCELLED)
        return Phase.SUSPENDING if run.stop in quiet else Phase.RESTARTING
    if live is None and situation.request.spec.suspend:
        return Phase.SUSPENDED
    if live is not None and (live.state is AttemptState.RUNNING or live.succeeding):
        return Phase.TRAINING
    if live is not None and live.state is AttemptState.QUEUED:
        return Phase.QUEUED
    if live is None and situation.observed.place is not None:
        return Phase.QUEUED
    restarted = run is not None and (run.restarts.total > 0 or run.disrupted)
    again = restarted or (live is not None and live.state is AttemptState.STOPPING)
    return Phase.RESTARTING if again else Phase.PENDING


def _conditions_of_run(situation: Situation) -> Iterator[Condition]:
    run, phase = situation.run, _phase_of_run(situation)
    stalled = phase is Phase.FAILED and run is not None and run.outcome is Outcome.FAILED
    progressing = phase in (*_STILL, Phase.TRAINING)
    reason, message = _reason(situation, phase)
    yield Condition(type="Ready", status=not stalled, reason=reason, message=message)
    yield Condition(type="Stalled", status=stalled, reason=reason, message=message)
    yield Condition(type="Progressing", status=progressing, reason=reason, message=message)
    for stage in situation.request.stage_hashes:
        yield _trained(situation, stage)
    yield _available(situation)
    yield _finished(situation)


def _reason(situation: Situation, phase: Phase) -> tuple[str, str]:
    run, place = situation.run, situation.observed.place
    if run is None:
        return phase.value, "no run has begun"
    waits = situation.waits
    if run.outcome is not None:
        return ("UpdateWaiting", waits) if waits else (run.reason, run.message)
    also = f"; {waits}" if waits else ""
    if phase is Phase.QUEUED and place is not None:
        turn = f"place {place} of the models that wait for their turn"
        return (run.reason, f"{run.message}; {turn}{also}") if run.reason else ("WaitingForTurn", turn + also)
    if phase is Phase.RESTARTING and run.reason:
        return run.reason, run.message + also
    reason, stage = phase.value, run.next_stage
    if phase is Phase.TRAINING and stage is not None:
        reason = f"{'Training' if stage.stage.has_weights else 'Scoring'}{stage.stage.capitalize()}"
    return reason, f"run {run.id}, attempt {run.attempt}{also}"


def _trained(situation: Situation, stage: StageName) -> Condition:
    kind = stage.condition
    stages = () if situation.run is None else situation.run.stages
    own = next((one for one in stages if one.stage is stage), None)
    if own is None:
        # The run of an earlier spec may lack a stage that produces scores.
        untrained = situation.run is not None and stage.has_weights
        reason = "InitialWeights" if untrained else "Pending"
        return Condition(type=kind, status=untrained, reason=reason, message="epochs is 0" if untrained else "")
    if own.reuse is not None:
        return Condition(type=kind, status=True, reason="Reused", message=f"trained by run {own.reuse}")
    return Condition(
        type=kind, status=own.done, reason=stage.outcome if own.done else "Pending", message=f"hash {own.hash}"
    )


def _available(situation: Situation) -> Condition:
    run = situation.run
    just_now = run is not None and run.has_published(situation.observed.run)
    name = run.id if run is not None and just_now else situation.observed.published
    message = f"run {name} is published" if name else "no run is published"
    reason = "Published" if name else "NotPublished"
    return Condition(type="Available", status=bool(name), reason=reason, message=message)


def _finished(situation: Situation) -> Condition:
    """True when the run that answers the newest spec and request has ended: who waits for it must not wait in vain."""
    run, waits = situation.run, situation.waits
    if run is None or run.outcome is None:
        return Condition(type="Finished", status=False, reason="InProgress", message=waits)
    if situation.unanswered:
        reason = "UpdateWaiting" if waits else "InProgress"
        return Condition(type="Finished", status=False, reason=reason, message=waits)
    return Condition(
        type="Finished", status=True, reason=HELD if run.reason == HELD else run.outcome.value, message=run.message
    )
