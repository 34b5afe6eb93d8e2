"""One pass over one model: observe, plan, write status, act. Called by the queue, at any moment, any number of times.

The order is what makes it safe to be cut off anywhere: what a run trains is frozen before its record is written, the
record is written before anything is started or stopped, and what has ended is deleted only after its end is written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from kronos_operator import names
from kronos_operator.api import KronosModel, Phase, Status
from kronos_operator.kube import Cluster, Conflict, Key, Object, Recorder
from kronos_operator.kube.kinds import KRONOSMODEL
from kronos_operator.kube.watching import without_noise
from kronos_operator.metrics import Metrics
from kronos_operator.plan import AttemptState, Observed, Outcome, Plan, RunRecord, StartAttempt, StopReason, plan
from kronos_operator.reconcile.causes import log_tail, overran
from kronos_operator.reconcile.effects import Effects, Refused
from kronos_operator.reconcile.gangs import Gang, attempt_of, cannot_go_on, gangs_of, lost_at
from kronos_operator.reconcile.inquiries import Inquiries
from kronos_operator.reconcile.listening import Listening
from kronos_operator.reconcile.record_status import completed_of, published_in, record_of
from kronos_operator.reconcile.refusals import refusal
from kronos_operator.reconcile.reports import Report
from kronos_operator.reconcile.schedule import trigger_of
from kronos_operator.reconcile.status import Seen, condition_of, status_after, worth_writing
from kronos_operator.reconcile.unreadable import REASON, complaint, unreadable_status
from kronos_operator.reconcile.waiting import PATIENCE, Waiting
from kronos_operator.settings import Settings

logger = logging.getLogger(__name__)

_WARNINGS = ("TrainerCrashed", "ProgressDeadlineExceeded", "StorageFailed")
_CONFLICTS = 5  # passes over one model before others have their turn


class Sight(Protocol):
    """What is seen of the models' children; it may lag behind."""

    def workloads(self, model: Key) -> list[Object]:
        """Jobs and PyTorchJobs labelled with the model's name."""

    def pods(self, model: Key) -> list[Object]:
        """Pods labelled with the model's name."""


@dataclass(frozen=True, kw_only=True)
class _View:
    """What one pass sees."""

    model: KronosModel
    before: Status
    record: RunRecord | None
    gangs: list[Gang]
    current: Gang | None
    state: AttemptState | None  # of the current gang
    now: float


class Reconciler:
    """Reconciles the models that it is shown."""

    def __init__(
        self,
        cluster: Cluster,
        children: Sight,
        recorder: Recorder,
        settings: Settings,
        metrics: Metrics,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._children = children
        self._recorder = recorder
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._models: dict[Key, Object] = {}
        self._effects = Effects(cluster, settings)
        self._inquiries = Inquiries(cluster)
        self._listening = Listening(cluster, settings.progress_seconds)
        self._trouble: dict[Key, Waiting] = {}

    @property
    def keys(self) -> Iterable[Key]:
        """The models that exist."""
        return list(self._models)

    def saw(self, body: Object) -> None:
        """Takes a model in as the API server has it, unless a newer version is known."""
        key = Key.of(body)
        known = self._models.get(key)
        if known is None or _version(body) >= _version(known) or _uid(body) != _uid(known):
            self._models[key] = without_noise(body)

    def gone(self, key: Key) -> None:
        """Forgets a model that was deleted; the API server collects its children."""
        self._models.pop(key, None)
        self._trouble.pop(key, None)
        self._listening.forget(key)
        self._metrics.forget(key)

    async def reconcile(self, key: Key) -> float | None:
        """One pass. Returns in how many seconds the next is due, None if only something new calls for one."""
        with self._metrics.reconcile_seconds.time(), self._metrics.reconcile_errors.count_exceptions():
            for _ in range(_CONFLICTS):
                body = self._models.get(key)
                if body is None or body["metadata"].get("deletionTimestamp"):
                    return None
                try:
                    return await self._pass(key, body)
                except Conflict:
                    fresh = await self._cluster.get(KRONOSMODEL, *key)
                    if fresh is None:
                        self.gone(key)
                        return None
                    self._models[key] = without_noise(fresh)
            return 1.0

    async def _pass(self, key: Key, body: Object) -> float | None:
        now = float(int(self._now()))
        try:
            model = KronosModel.from_server(body)
            record = record_of(model.status or Status())
        except ValueError as error:
            await self._complain(body, error, now)
            return None
        view = await self._view(key, model, record, now)
        report = None
        if view.current is not None and view.state is not None:
            report = await self._listening.hear(key, view.current, view.state, view.before, now)
        trigger = trigger_of(model.spec.schedule, _annotation(model, names.RETRAIN_ANNOTATION), view.before, now)
        observed = _observed(view, report, trigger.text)
        decided = plan(model, observed, now)
        refused = refusal(model, self._settings.policy, self._settings.default_image)
        if refused is not None:
            decided = _without_starts(decided, record)
        elif _begins(record, decided.record):
            assert decided.record is not None
            await self._effects.freeze(model, decided.record.id)
        seen = Seen(
            trigger=trigger,
            annotation=_annotation(model, names.RETRAIN_ANNOTATION),
            report=report,
            tail=self._tail(key, view),
            waiting=self._trouble.get(key) or await self._waiting(view),
            refused=refused,
            unshared=await self._inquiries.unshared(model),
        )
        model = await self._write(model, decided, seen, now)
        try:
            await self._effects.act(model, decided.actions)
            self._trouble.pop(key, None)
        except Refused as no:
            if not no.final:
                self._trouble[key] = Waiting(reason=no.reason, message=str(no))
                await self._write(model, replace(decided, actions=()), replace(seen, waiting=self._trouble[key]), now)
                raise
            failed = _failed(decided, no)
            after = plan(model, replace(observed, record=failed), now)
            await self._write(model, after, seen, now)
            return None
        for gang in view.gangs:
            if cannot_go_on(gang, now):
                await self._effects.delete_workload(gang)
        expires = await self._effects.tidy(model, decided.record, view.gangs, now)
        running = view.state is AttemptState.RUNNING
        resources = model.spec.resources
        self._metrics.used(key, resources.nodes * resources.gpus_per_node, now, running=running)
        # A tick that is due already waits for the run before it to end.
        tick = trigger.next_tick if trigger.tick is None else None
        return _soonest(now, decided.wake_at, tick, expires, self._look_again(view, decided))

    async def _view(self, key: Key, model: KronosModel, record: RunRecord | None, now: float) -> _View:
        workloads = self._children.workloads(key)
        uid = model.metadata.uid or ""
        gangs = gangs_of(uid, workloads, self._children.pods(key))
        current = _current(record, gangs)
        if record is not None and record.outcome is None and (current is None or current.workload is None):
            # What was just created may not have been seen yet, and what is not seen need not be gone.
            found = await self._effects.find_workload(model, record)
            if found is not None:
                gangs = gangs_of(uid, [*workloads, found], self._children.pods(key))
                current = _current(record, gangs)
        return _View(
            model=model,
            before=model.status or Status(),
            record=record,
            gangs=gangs,
            current=current,
            state=None if current is None else attempt_of(current, None, now).state,
            now=now,
        )

    async def _waiting(self, view: _View) -> Waiting | None:
        """Why the current gang does not run."""
        if view.current is None or view.state not in (AttemptState.QUEUED, AttemptState.WAITING):
            return None
        return await self._inquiries.waiting(view.current, view.now)

    def _tail(self, key: Key, view: _View) -> str | None:
        """The last words of the current gang, if it has failed."""
        if view.current is None or view.state is not AttemptState.FAILED:
            return None
        return log_tail(view.current.pods, self._listening.log(key))

    async def _write(self, model: KronosModel, decided: Plan, seen: Seen, now: float) -> KronosModel:
        """Writes the status if it says something new, or if a gang is about to be started or stopped.

        In the second case the write proves that nobody has decided otherwise meanwhile. Returns the model as it is
        then. Raises Conflict.
        """
        key = Key(model.metadata.namespace, model.metadata.name)
        before = model.status or Status()
        after = status_after(model, decided, seen, now)
        if not decided.actions and not worth_writing(before, after, self._settings.progress_seconds):
            self._metrics.saw(key, before, before)
            return model
        fresh = await self._apply(self._models[key], after.model_dump(mode="json", by_alias=True, exclude_none=True))
        self._metrics.saw(key, before, after)
        await self._announce(fresh, before, after)
        return KronosModel.from_server(fresh)

    async def _apply(self, body: Object, status: Object) -> Object:
        fresh = without_noise(await self._cluster.apply_status(body | {"status": status}))
        self._models[Key.of(fresh)] = fresh
        return fresh

    async def _announce(self, body: Object, before: Status, after: Status) -> None:
        """Posts an Event for a change of the story."""
        old, new = condition_of(before, "Ready"), condition_of(after, "Ready")
        if new is None or (before.phase is after.phase and old is not None and old.reason == new.reason):
            return
        bad = new.status != "True" or new.reason in _WARNINGS
        await self._recorder.post(
            body,
            reason=new.reason,
            note=new.message or str(after.phase),
            action="Reconcile",
            type="Warning" if bad else "Normal",
        )

    async def _complain(self, body: Object, error: ValueError, now: float) -> None:
        """Says what is wrong with an object that cannot be read."""
        message = complaint(error)
        status = unreadable_status(body, message, now)
        self._metrics.saw(Key.of(body), Status(), Status(phase=Phase.FAILED))
        if status != body.get("status"):
            fresh = await self._apply(body, status)
            await self._recorder.post(fresh, reason=REASON, note=message, action="Reconcile", type="Warning")

    def _look_again(self, view: _View, decided: Plan) -> float | None:
        """When to look at the gang again though nothing has told of a change."""
        if view.state is AttemptState.RUNNING:
            return view.now + self._settings.progress_seconds
        if decided.record is not None and decided.record.outcome is None and decided.phase is not Phase.SUSPENDED:
            soon = view.now + max(PATIENCE, self._settings.progress_seconds)
            lost = None if view.current is None else lost_at(view.current)
            return soon if lost is None else min(soon, max(view.now + 1, lost))
        return None


def _observed(view: _View, report: Report | None, trigger: str) -> Observed:
    attempts, record = [], view.record
    for gang in view.gangs:
        attempts.append(attempt_of(gang, report if gang is view.current else None, view.now))
    ran_over = view.current is not None and view.state is AttemptState.FAILED and overran(view.current.workload)
    if record is not None and record.stop is None and ran_over:
        record = replace(record, stop=StopReason.OVERTIME)
    # A request that was taken back asks for nothing.
    cancel = _annotation(view.model, names.CANCEL_ANNOTATION) or ("" if record is None else record.cancel)
    return Observed(
        record=record,
        completed=completed_of(view.before),
        attempts=attempts,
        published=published_in(view.before),
        trigger=trigger,
        cancel=cancel,
    )


def _current(record: RunRecord | None, gangs: list[Gang]) -> Gang | None:
    if record is None or record.outcome is not None:
        return None
    return next((gang for gang in gangs if (gang.run, gang.number) == (record.id, record.number)), None)


def _begins(earlier: RunRecord | None, record: RunRecord | None) -> bool:
    """Whether the plan begins a run that has something to do."""
    if record is None or record.outcome is not None:
        return False
    return earlier is None or earlier.outcome is not None


def _without_starts(decided: Plan, earlier: RunRecord | None) -> Plan:
    """The plan with nothing new in it: what runs already may go on, and its end is noted."""
    record = earlier if _begins(earlier, decided.record) else decided.record
    stops = tuple(action for action in decided.actions if not isinstance(action, StartAttempt))
    return replace(decided, record=record, actions=stops)


def _failed(decided: Plan, no: Refused) -> RunRecord:
    assert decided.record is not None
    return replace(
        decided.record,
        number=decided.record.number + 1,
        outcome=Outcome.FAILED,
        reason=no.reason,
        message=str(no)[:1024],
    )


def _annotation(model: KronosModel, name: str) -> str:
    return model.metadata.annotations.get(name, "")[:256]


def _soonest(now: float, *moments: float | None) -> float | None:
    known = [moment for moment in moments if moment is not None]
    return max(0.0, min(known) - now) if known else None


def _version(body: Object) -> int:
    version = str(body["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdigit() else 0


def _uid(body: Object) -> str:
    return str(body["metadata"].get("uid", ""))
