"""One pass over one model: observe, plan, write status, act. Called by the queue, at any moment, any number of times.

The order is what makes it safe to be cut off anywhere: what a run trains is frozen before its record is written, the
record is written before anything is started or stopped, and what has ended is deleted only after its end is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NoReturn

from kronos_operator import names
from kronos_operator.api import KronosModel, Phase, Status
from kronos_operator.kube import Cluster, Conflict, Key, NotFound, Object, Recorder
from kronos_operator.kube.conditions import true_condition
from kronos_operator.kube.kinds import KRONOSMODEL
from kronos_operator.manifests import queue_of
from kronos_operator.metrics import Metrics
from kronos_operator.plan import AttemptState, Observed, Outcome, Plan, RunRecord, StartAttempt, plan, start_of
from kronos_operator.reconcile.causes import log_tail, node_of
from kronos_operator.reconcile.claims import claim_of
from kronos_operator.reconcile.effects import Effects, Postponed, Refused
from kronos_operator.reconcile.gangs import cannot_go_on, silent_nodes
from kronos_operator.reconcile.inquiries import Inquiries
from kronos_operator.reconcile.kueue import place_to_tell
from kronos_operator.reconcile.listening import Listening
from kronos_operator.reconcile.models import Models
from kronos_operator.reconcile.observing import (
    Sight,
    View,
    annotation,
    look,
    look_again_at,
    may_lack_children,
    observed,
)
from kronos_operator.reconcile.record_status import record_of
from kronos_operator.reconcile.refusals import refusal
from kronos_operator.reconcile.reports import Report
from kronos_operator.reconcile.schedule import Trigger, trigger_of
from kronos_operator.reconcile.status import Seen, condition_of, status_after, worth_writing
from kronos_operator.reconcile.turns import Turns
from kronos_operator.reconcile.unreadable import REASON, complaint, unreadable_status
from kronos_operator.reconcile.waiting import Waiting
from kronos_operator.settings import Settings

_WARNINGS = ("TrainerCrashed", "ProgressDeadlineExceeded", "StorageFailed")
_SETTLING = 20.0  # seconds
_CONFLICTS = 5  # passes over one model before others have their turn


class Reconciler:
    """Reconciles the models that it is shown."""

    def __init__(
        self,
        cluster: Cluster,
        sight: Sight,
        recorder: Recorder,
        settings: Settings,
        metrics: Metrics,
        *,
        now: Callable[[], float],
        wake: Callable[[Key], None] = lambda key: None,
    ) -> None:
        self._cluster = cluster
        self._sight = sight
        self._recorder = recorder
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._models = Models()
        self._effects = Effects(cluster, settings)
        self._inquiries = Inquiries(cluster)
        self._listening = Listening(cluster, settings.progress_seconds)
        self._turns = Turns(settings.policy.max_running, wake)
        # A new process knows who holds places when it has looked at every model once; who waited goes on waiting.
        self._settled_at = now() + _SETTLING
        self._trouble: dict[Key, Waiting] = {}
        self._mentioned: set[str] = set()  # uids of what is not ours

    @property
    def keys(self) -> Iterable[Key]:
        """The models that exist."""
        return iter(self._models)

    def saw(self, body: Object) -> bool:
        """Takes a model in as the API server has it, unless a newer version is known; whether it was news."""
        return self._models.put(body)

    def gone(self, key: Key) -> None:
        """Forgets a model that was deleted; the API server collects its children."""
        self._models.remove(key)
        self._forget(key)

    async def reconcile(self, key: Key) -> float | None:
        """One pass. Returns in how many seconds the next is due, None if only something new calls for one."""
        with self._metrics.reconcile_seconds.time():
            try:
                return await self._passes(key)
            except Postponed:
                raise  # what it waits for is told in status
            except Exception:
                self._metrics.reconcile_errors.inc()
                raise
            finally:
                if key not in self._models:
                    self._forget(key)  # it went during the pass, which has told of it once more

    def _forget(self, key: Key) -> None:
        self._trouble.pop(key, None)
        self._turns.forget(key, self._now())
        self._listening.forget(key)
        self._metrics.forget(key)

    async def _passes(self, key: Key) -> float | None:
        for _ in range(_CONFLICTS):
            known = self._models.get(key)
            if known is None:
                return None
            body = known.body()
            if body["metadata"].get("deletionTimestamp"):
                return None
            try:
                return await self._pass(key, body)
            except (Conflict, NotFound) as error:
                fresh = await self._cluster.get(KRONOSMODEL, *key)
                if fresh is None:
                    self.gone(key)
                    return None
                if isinstance(error, NotFound):
                    raise
                self._models.correct(known, fresh)
        return 1.0

    async def _pass(self, key: Key, body: Object) -> float | None:
        now = float(int(self._now()))
        try:
            model = KronosModel.from_server(body)
            record = record_of(model.status or Status())
        except ValueError as error:
            await self._complain(body, error, now)
            return None
        view = await look(model, record, self._sight, self._effects, now)
        view = await self._with_taints(view)
        report = None
        if view.current is not None and view.state is not None:
            report = await self._listening.hear(key, view.current, view.state, view.before, now)
        else:
            self._listening.forget(key)
        request = annotation(model, names.RETRAIN_ANNOTATION)
        cancel = annotation(model, names.CANCEL_ANNOTATION)
        trigger = trigger_of(model.spec.schedule, request, cancel, view.before, now)
        refused = refusal(model, self._settings.policy, self._settings.default_image)
        waiting = self._trouble.get(key) or await self._waiting(view)
        situation, decided = self._decide(key, view, report, trigger, waiting, refused=refused is not None)
        await self._mention(body, view.foreign)
        seen = Seen(
            trigger=trigger,
            annotation=request,
            report=report,
            tail=self._tail(key, view),
            waiting=waiting,
            refused=refused,
            unshared=await self._inquiries.unshared(model),
            silent=[] if view.current is None else silent_nodes(view.current),
        )
        if _begins(record, decided.record):
            assert decided.record is not None
            try:
                await self._effects.freeze(model, decided.record.id)
            except Postponed as no:
                await self._postpone(no, model, replace(decided, record=record), seen, now)
            except Refused as no:
                await self._fail(no, model, decided, situation, seen, now)
                return 0.0
        model = await self._write(model, decided, seen, now)
        try:
            await self._effects.act(model, decided.actions)
            if may_lack_children(view, decided, report):
                await self._restore(body, model, view, decided)
        except Postponed as no:
            await self._postpone(no, model, decided, seen, now)
        except Refused as no:
            await self._fail(no, model, decided, situation, seen, now)
            return 0.0
        self._trouble.pop(key, None)
        for gang in view.gangs:
            if cannot_go_on(gang, now):
                await self._effects.delete_workload(gang)
        expires = await self._effects.tidy(model, decided.record, view.gangs, now)
        running = view.state is AttemptState.RUNNING
        resources = model.spec.resources
        self._metrics.used(key, resources.nodes * resources.gpus_per_node, now, running=running)
        # A tick that is due already waits for the run before it to end.
        tick = trigger.next_tick if trigger.tick is None else None
        again = look_again_at(view, decided, self._settings.progress_seconds)
        settled = self._settled_at if decided.place is not None and now < self._settled_at else None
        return _soonest(now, decided.wake_at, tick, expires, again, settled)

    def _decide(
        self,
        key: Key,
        view: View,
        report: Report | None,
        trigger: Trigger,
        waiting: Waiting | None,
        *,
        refused: bool,
    ) -> tuple[Observed, Plan]:
        """What is planned, once it is known whether it is the model's turn."""
        policy, record = self._settings.policy, view.record
        queued = bool(queue_of(view.model, policy.default_queue))  # Kueue gives a gang all of its places or none
        live = view.attempt if view.attempt is not None and view.attempt.state.live else None
        holds = record is not None and live is not None and not queued
        if record is not None and holds:
            self._turns.put(key, claim_of(view.model, record, live, waiting), view.now)
        situation = observed(
            view,
            report,
            trigger,
            refused=refused,
            gang_start_seconds=None if queued else policy.gang_start_seconds,
            outranked=self._turns.outranked(key),
            contended=self._turns.contended(key),
        )
        decided = plan(view.model, situation, view.now)
        if any(isinstance(action, StartAttempt) for action in decided.actions) and not queued:
            assert decided.record is not None
            place = view.before.queue_position
            if place is None or view.now >= self._settled_at:
                place = self._turns.ask(key, claim_of(view.model, decided.record, None, None), view.now)
            if place is not None:
                situation = replace(situation, place=place_to_tell(place, view.before.queue_position))
                decided = plan(view.model, situation, view.now)
        elif not holds:
            self._turns.put(key, None, view.now)
        return situation, decided

    async def _mention(self, body: Object, foreign: Iterable[Object]) -> None:
        """Says once of each object that it looks like a child and is none."""
        for other in foreign:
            uid = other["metadata"]["uid"]
            if uid not in self._mentioned:
                self._mentioned.add(uid)
                note = (
                    f"{other.get('kind', 'an object')} {other['metadata']['name']} carries the labels of this model's "
                    "children and is none of them: it is left alone"
                )
                await self._recorder.post(body, reason="ForeignObject", note=note, action="Reconcile", type="Warning")

    async def _restore(self, body: Object, model: KronosModel, view: View, decided: Plan) -> None:
        """Makes again what the current gang lacks, and says so."""
        assert view.current is not None and decided.record is not None
        for what in await self._effects.restore(model, start_of(decided.record), view.current):
            note = f"{what} was gone and is made again: the pods of the current attempt wait for it"
            await self._recorder.post(body, reason="ChildRestored", note=note, action="Reconcile", type="Warning")

    async def _postpone(self, no: Postponed, model: KronosModel, decided: Plan, seen: Seen, now: float) -> NoReturn:
        """Tells what stands in the way; the queue comes back to it."""
        waiting = Waiting(reason=no.reason, message=no.message)
        self._trouble[Key(model.metadata.namespace, model.metadata.name)] = waiting
        await self._write(model, replace(decided, actions=()), replace(seen, waiting=waiting), now)
        raise no

    async def _fail(
        self, no: Refused, model: KronosModel, decided: Plan, situation: Observed, seen: Seen, now: float
    ) -> None:
        """Ends a run of which the API server will never have a child."""
        after = plan(model, replace(situation, record=_failed(decided, no)), now)
        await self._write(model, after, seen, now)

    async def _with_taints(self, view: View) -> View:
        """The view with the taints by which a gang is being driven away, once."""
        attempt, known = view.attempt, view.record is not None and view.record.disrupted
        if attempt is None or view.current is None or known or attempt.reason != "DeletionByTaintManager":
            return view
        node = next((node_of(pod) for pod in view.current.pods if true_condition(pod, "DisruptionTarget")), "")
        taints = await self._inquiries.taints(node) if node else ""
        return replace(view, driven_away_by=taints)

    async def _waiting(self, view: View) -> Waiting | None:
        """Why the current gang does not run."""
        if view.current is None or view.state not in (AttemptState.QUEUED, AttemptState.WAITING):
            return None
        return await self._inquiries.waiting(view.current, view.before.queue_position, view.now)

    def _tail(self, key: Key, view: View) -> str | None:
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
        decided_on = {"metadata": model.metadata.model_dump(mode="json", by_alias=True)}
        fresh = await self._apply(decided_on, after.model_dump(mode="json", by_alias=True, exclude_none=True))
        self._metrics.saw(key, before, after)
        await self._announce(fresh, before, after)
        return KronosModel.from_server(fresh)

    async def _apply(self, body: Object, status: Object) -> Object:
        fresh = await self._cluster.apply_status(body | {"status": status})
        if Key.of(fresh) in self._models:
            self._models.put(fresh)
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


def _begins(earlier: RunRecord | None, record: RunRecord | None) -> bool:
    """Whether the plan begins a run that has something to do."""
    if record is None or record.outcome is not None:
        return False
    return earlier is None or earlier.outcome is not None


def _failed(decided: Plan, no: Refused) -> RunRecord:
    assert decided.record is not None
    return replace(
        decided.record,
        number=decided.record.number + 1,
        outcome=Outcome.FAILED,
        reason=no.reason,
        message=str(no)[:1024],
    )


def _soonest(now: float, *moments: float | None) -> float | None:
    known = [moment for moment in moments if moment is not None]
    return max(0.0, min(known) - now) if known else None
