"""What one pass of the reconciler observes of a model: its gangs, their logs, and why they do not run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from kronos_operator import names
from kronos_operator.api import KronosModel, Phase, Run, Status
from kronos_operator.kube import Cluster, Key, Object
from kronos_operator.kube.conditions import true_condition
from kronos_operator.plan import Attempt, AttemptState, Observed, Obstacle, Plan, PointerPod, Verb, pending
from kronos_operator.reconcile.actuator import Actuator
from kronos_operator.reconcile.causes import log_tail, node_of
from kronos_operator.reconcile.diagnostics import Diagnostics
from kronos_operator.reconcile.gangs import ObservedGang, ObservedWorkload, attempt_of, gangs_of, lost_at, state_of
from kronos_operator.reconcile.pointer_pods import Sorted, answered, pointer_pod_of, sort_out
from kronos_operator.reconcile.refusals import refusal
from kronos_operator.reconcile.reports import Report
from kronos_operator.reconcile.schedule import Trigger, trigger_of
from kronos_operator.reconcile.settled import Basis
from kronos_operator.reconcile.times import created_at
from kronos_operator.reconcile.trainer_logs import TrainerLogs
from kronos_operator.reconcile.waiting import PATIENCE
from kronos_operator.settings import Settings


class Lister(Protocol):
    """Lists the models' children as a watch has them; it may lag behind."""

    def workloads(self, model: Key) -> list[Object]:
        """Workloads labelled with the model's name."""

    def pods(self, model: Key) -> list[Object]:
        """Pods labelled with the model's name."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one pass observes. `observed` is what `plan` decides on; the rest is for whoever acts and reports."""

    observed: Observed
    gangs: list[ObservedGang]
    pointers: list[ObservedWorkload]  # of promotions and rollbacks
    foreign: list[Object]  # with the labels of the model's children, but not its own
    current: ObservedGang | None  # of the run's current attempt
    attempt: Attempt | None  # the same
    report: Report | None  # of that gang's log
    log_tail: str | None  # its last lines, once it has failed
    trigger: Trigger
    retrain: str  # the retrain request
    basis: str  # what else is decided on
    now: float

    @property
    def state(self) -> AttemptState | None:
        """Of the current attempt."""
        return None if self.attempt is None else self.attempt.state


class Observer:
    """Observes models."""

    def __init__(self, cluster: Cluster, lister: Lister, actuator: Actuator, settings: Settings) -> None:
        self._lister = lister
        self._actuator = actuator
        self._settings = settings
        self._basis = Basis(settings)
        self._diagnostics = Diagnostics(cluster)
        self._logs = TrainerLogs(cluster, settings.progress_seconds)

    def forget(self, key: Key) -> None:
        """Forgets a model."""
        self._logs.forget(key)

    async def observe(self, model: KronosModel, postponed: Obstacle | None, now: float) -> Observation:
        """Observes a model; `postponed` is why the last pass could not do what was decided."""
        key, before = Key(model.metadata.namespace, model.metadata.name), model.status or Status()
        known = sort_out(model.metadata.uid or "", self._lister.workloads(key), self._lister.pods(key))
        gangs, foreign, current = await self._gangs(model, before.run, known)
        report = await self._report(key, current, before, now)
        attempts = {id(gang): attempt_of(gang, report if gang is current else None, now) for gang in gangs}
        attempt = None if current is None else attempts[id(current)]
        if current is not None and attempt is not None and not (before.run is not None and before.run.disrupted):
            attempt = attempts[id(current)] = await self._with_taints(current, attempt)
        # A request that was taken back asks for nothing.
        retrain, cancel = annotation(model, names.RETRAIN_ANNOTATION), annotation(model, names.CANCEL_ANNOTATION)
        trigger = trigger_of(model.spec.schedule, retrain, cancel, before, now)
        observed = Observed(
            run=before.run,
            trained=before.tracking.trained,
            attempts=tuple(attempts.values()),
            published=before.published_run,
            trigger=trigger.text,
            scheduled=trigger.scheduled,
            cancel=cancel or ("" if before.run is None else before.run.cancel),
            asked=pending(model, {verb: annotation(model, verb.annotation) for verb in Verb}, answered(model)),
            pointer_pods=tuple([await self._pointer_pod(model, one, now) for one in known.pointers]),
            refused=refusal(model, self._settings.policy, self._settings.default_image),
            waiting=postponed or await self._waiting(current, attempt, before, now),
            unshared_storage=await self._diagnostics.unshared(model),
        )
        failed = current is not None and attempt is not None and attempt.state is AttemptState.FAILED
        return Observation(
            observed=observed,
            gangs=gangs,
            pointers=known.pointers,
            foreign=foreign,
            current=current,
            attempt=attempt,
            report=report,
            log_tail=log_tail(current.pods, self._logs.log(key)) if current is not None and failed else None,
            trigger=trigger,
            retrain=retrain,
            basis=self._basis.of(model.metadata.annotations),
            now=now,
        )

    async def _gangs(
        self, model: KronosModel, run: Run | None, known: Sorted
    ) -> tuple[list[ObservedGang], list[Object], ObservedGang | None]:
        """The gangs of a model, what only looks like one, and the gang of the current attempt."""
        uid = model.metadata.uid or ""
        gangs, foreign = gangs_of(uid, known.workloads, known.pods)
        current = _current(run, gangs)
        if run is not None and run.outcome is None and (current is None or current.workload is None):
            # What was just created may not be listed yet, and what is not listed need not be gone.
            found = await self._actuator.find_workload(model, run)
            if found is not None:
                gangs, foreign = gangs_of(uid, [*known.workloads, found], known.pods)
                current = _current(run, gangs)
        return gangs, foreign, current

    async def _pointer_pod(self, model: KronosModel, observed: ObservedWorkload, now: float) -> PointerPod:
        """The pod of a request, with the reason why it does not start once that is late."""
        pod = pointer_pod_of(model, observed, now)
        if pod.answered or pod.ended or not pod.is_late(now):
            return pod
        why = await self._diagnostics.waiting(observed, None, now)
        return pod if why is None else replace(pod, reason=why.reason, message=why.message)

    async def _report(self, key: Key, current: ObservedGang | None, before: Status, now: float) -> Report | None:
        if current is None:
            self._logs.forget(key)
            return None
        return await self._logs.read(key, current, state_of(current, now), before, now)

    async def _with_taints(self, gang: ObservedGang, attempt: Attempt) -> Attempt:
        """The attempt with the taints by which its gang is being driven away, once."""
        if attempt.reason != "DeletionByTaintManager" or not attempt.disrupted:
            return attempt
        node = next((node_of(pod) for pod in gang.pods if true_condition(pod, "DisruptionTarget")), "")
        taints = await self._diagnostics.taints(node) if node else ""
        return replace(attempt, message=f"{attempt.message}; {taints}") if taints else attempt

    async def _waiting(
        self, gang: ObservedGang | None, attempt: Attempt | None, before: Status, now: float
    ) -> Obstacle | None:
        """Why the current gang does not run."""
        if gang is None or attempt is None or attempt.state not in (AttemptState.QUEUED, AttemptState.WAITING):
            return None
        return await self._diagnostics.waiting(gang, before.queue_position, now)


def annotation(model: KronosModel, name: str) -> str:
    """A request that somebody left on the object; empty without one."""
    return model.metadata.annotations.get(name, "")[:256]


def look_again_at(seen: Observation, decided: Plan, every: float) -> float | None:
    """When to look at the gang again though no change was reported; logs are read `every` so many seconds."""
    if seen.state is AttemptState.RUNNING:
        return seen.now + every
    if seen.current is None and decided.phase is Phase.QUEUED:
        return None  # it is called when its turn has come
    if decided.run is not None and decided.run.outcome is None and decided.phase is not Phase.SUSPENDED:
        soon = seen.now + max(PATIENCE, every)
        lost = None if seen.current is None else lost_at(seen.current)
        return soon if lost is None else min(soon, max(seen.now + 1, lost))
    return None


def may_lack_children(seen: Observation, decided: Plan) -> bool:
    """Whether pods may wait for what somebody has deleted: they have nodes, and have not trained a step in a while.

    Once a gang has trained it needs neither its ConfigMap nor its Service any more.
    """
    attempt, run = seen.attempt, decided.run
    if seen.current is None or seen.current.workload is None or attempt is None or run is None:
        return False
    if (run.id, run.attempt) != (attempt.run, attempt.attempt) or run.stop is not None:
        return False
    if attempt.state not in (AttemptState.WAITING, AttemptState.RUNNING) or attempt.placed == 0:
        return False
    return not attempt.has_progress and seen.now - created_at(seen.current.workload) >= PATIENCE


def _current(run: Run | None, gangs: list[ObservedGang]) -> ObservedGang | None:
    if run is None or run.outcome is not None:
        return None
    return next((gang for gang in gangs if (gang.run, gang.attempt) == (run.id, run.attempt)), None)
