"""What one pass of the reconciler sees of a model: its record, its gangs, and what plan is told of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from kronos_operator import names
from kronos_operator.api import KronosModel, Phase, Status
from kronos_operator.kube import Key, Object
from kronos_operator.plan import Attempt, AttemptState, Observed, Plan, RunRecord, StopReason
from kronos_operator.reconcile.causes import overran
from kronos_operator.reconcile.effects import Effects
from kronos_operator.reconcile.gangs import ObservedGang, attempt_of, gangs_of, lost_at
from kronos_operator.reconcile.record_status import completed_of, published_in
from kronos_operator.reconcile.reports import Report
from kronos_operator.reconcile.schedule import Trigger
from kronos_operator.reconcile.times import created_at
from kronos_operator.reconcile.waiting import PATIENCE


class Sight(Protocol):
    """What is seen of the models' children; it may lag behind."""

    def workloads(self, model: Key) -> list[Object]:
        """Workloads labelled with the model's name."""

    def pods(self, model: Key) -> list[Object]:
        """Pods labelled with the model's name."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What one pass sees."""

    model: KronosModel
    before: Status
    record: RunRecord | None
    gangs: list[ObservedGang]
    foreign: list[Object]  # with the labels of its children, but not its own
    current: ObservedGang | None
    attempt: Attempt | None  # of the current gang, before its log is read
    now: float
    driven_away_by: str = ""  # the taints of the node that the current gang has to leave

    @property
    def state(self) -> AttemptState | None:
        """Of the current gang."""
        return None if self.attempt is None else self.attempt.state


async def look(model: KronosModel, record: RunRecord | None, sight: Sight, effects: Effects, now: float) -> View:
    """Gathers what there is of a model."""
    key = Key(model.metadata.namespace, model.metadata.name)
    uid = model.metadata.uid or ""
    workloads, pods = sight.workloads(key), sight.pods(key)
    gangs, foreign = gangs_of(uid, workloads, pods)
    current = _current(record, gangs)
    if record is not None and record.outcome is None and (current is None or current.workload is None):
        # What was just created may not have been seen yet, and what is not seen need not be gone.
        found = await effects.find_workload(model, record)
        if found is not None:
            gangs, foreign = gangs_of(uid, [*workloads, found], pods)
            current = _current(record, gangs)
    return View(
        model=model,
        before=model.status or Status(),
        record=record,
        gangs=gangs,
        foreign=foreign,
        current=current,
        attempt=None if current is None else attempt_of(current, None, now),
        now=now,
    )


def observed(
    view: View,
    report: Report | None,
    trigger: Trigger,
    *,
    refused: bool,
    gang_start_seconds: float | None = None,
    outranked: bool = False,
    contended: bool = False,
) -> Observed:
    """What plan is told. `report` is of the current gang; `refused`: the spec may not be started here."""
    attempts, record = [], view.record
    for gang in view.gangs:
        attempt = attempt_of(gang, report if gang is view.current else None, view.now)
        if gang is view.current and attempt.disrupted and view.driven_away_by:
            attempt = replace(attempt, message=f"{attempt.message}; {view.driven_away_by}")
        attempts.append(attempt)
    ran_over = view.current is not None and view.state is AttemptState.FAILED and overran(view.current.workload)
    if record is not None and record.stop is None and ran_over:
        record = replace(record, stop=StopReason.OVERTIME)
    # A request that was taken back asks for nothing.
    cancel = annotation(view.model, names.CANCEL_ANNOTATION) or ("" if record is None else record.cancel)
    return Observed(
        record=record,
        completed=completed_of(view.before),
        attempts=attempts,
        published=published_in(view.before),
        trigger=trigger.text,
        scheduled=trigger.scheduled,
        cancel=cancel,
        refused=refused,
        gang_start_seconds=gang_start_seconds,
        outranked=outranked,
        contended=contended,
    )


def annotation(model: KronosModel, name: str) -> str:
    """A request that somebody left on the object; empty without one."""
    return model.metadata.annotations.get(name, "")[:256]


def look_again_at(view: View, decided: Plan, every: float) -> float | None:
    """When to look at the gang again though nothing has told of a change; logs are read `every` so many seconds."""
    if view.state is AttemptState.RUNNING:
        return view.now + every
    if view.current is None and decided.phase is Phase.QUEUED:
        return None  # it is called when its turn has come
    if decided.record is not None and decided.record.outcome is None and decided.phase is not Phase.SUSPENDED:
        soon = view.now + max(PATIENCE, every)
        lost = None if view.current is None else lost_at(view.current)
        return soon if lost is None else min(soon, max(view.now + 1, lost))
    return None


def may_lack_children(view: View, decided: Plan, report: Report | None) -> bool:
    """Whether pods may wait for what somebody has deleted: they have nodes, and have not trained a step in a while.

    Once a gang has trained it needs neither its ConfigMap nor its Service any more.
    """
    attempt, record = view.attempt, decided.record
    if view.current is None or view.current.workload is None or attempt is None or record is None:
        return False
    if (record.id, record.number) != (attempt.run, attempt.number) or record.stop is not None:
        return False
    if attempt.state not in (AttemptState.WAITING, AttemptState.RUNNING) or attempt.placed == 0:
        return False
    stepped = report is not None and report.stepped
    return not stepped and view.now - created_at(view.current.workload) >= PATIENCE


def _current(record: RunRecord | None, gangs: list[ObservedGang]) -> ObservedGang | None:
    if record is None or record.outcome is not None:
        return None
    return next((gang for gang in gangs if (gang.run, gang.number) == (record.id, record.number)), None)
