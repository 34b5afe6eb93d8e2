"""One pass over one model: observe, plan, write status, act. Called by the queue, at any moment, any number of times.

The order is what makes it safe to be cut off anywhere: what a run trains is frozen before the run is written, the run
is written before anything is started or stopped, and what has ended is deleted only after its end is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kronos_operator.api import KronosModel, Phase, Status
from kronos_operator.kube import Cluster, Conflict, Key, NotFound, Object, Recorder
from kronos_operator.kube.kinds import KRONOSMODEL
from kronos_operator.metrics import Metrics
from kronos_operator.plan import AttemptState, Observed, Obstacle, Plan, plan, start_of
from kronos_operator.reconcile.actuator import Actuator, Postponed, Refused
from kronos_operator.reconcile.announcing import Announcer
from kronos_operator.reconcile.models import Models
from kronos_operator.reconcile.observing import Lister, Observation, Observer, look_again_at, may_lack_children
from kronos_operator.reconcile.older_status import with_stages
from kronos_operator.reconcile.placing import Placing
from kronos_operator.reconcile.pointer_pods import PointerPods
from kronos_operator.reconcile.status import status_of, worth_writing
from kronos_operator.reconcile.tidying import Tidying
from kronos_operator.reconcile.unreadable import REASON, complaint, unreadable_status
from kronos_operator.settings import Settings

_CONFLICTS = 5  # passes over one model before others have their turn


class Reconciler:
    """Reconciles the models that it is given."""

    def __init__(
        self,
        cluster: Cluster,
        lister: Lister,
        recorder: Recorder,
        settings: Settings,
        metrics: Metrics,
        *,
        now: Callable[[], float],
        wake: Callable[[Key], None] = lambda key: None,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self.models = Models()  # filled by a watch, and by the answers to our own writes
        self._actuator = Actuator(cluster, settings)
        self._tidying = Tidying(cluster)
        self._pointer_pods = PointerPods(cluster, self._actuator, settings)
        self._observer = Observer(cluster, lister, self._actuator, settings)
        self._placing = Placing(settings.policy, wake, now())
        self._announcer = Announcer(recorder)
        self._postponed: dict[Key, Obstacle] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One pass. Returns in how many seconds the next is due, None if only something new calls for one."""
        with self._metrics.reconcile_seconds.time():
            try:
                return await self._passes(key)
            except Postponed:
                raise  # what it waits for is in its status
            except Exception:
                self._metrics.reconcile_errors.inc()
                raise
            finally:
                if key not in self.models:
                    self.forget(key)  # it was deleted during the pass, which has counted it once more

    def forget(self, key: Key) -> None:
        """Forgets a model that was deleted; the API server collects its children."""
        self._postponed.pop(key, None)
        self._placing.forget(key, self._now())
        self._observer.forget(key)
        self._metrics.forget(key)

    async def _passes(self, key: Key) -> float | None:
        for _ in range(_CONFLICTS):
            known = self.models.get(key)
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
                    self.models.remove(key)
                    self.forget(key)
                    return None
                if isinstance(error, NotFound):
                    raise
                self.models.correct(known, fresh)
        return 1.0

    async def _pass(self, key: Key, body: Object) -> float | None:
        now = float(int(self._now()))
        read = await self._read(body, now)
        if read is None:
            return None
        model = with_stages(read)
        seen = await self._observer.observe(model, self._postponed.get(key), now)
        observed, decided = self._placing.decide(key, model, seen)
        await self._announcer.foreign(body, seen.foreign)
        try:
            kept = await self._freeze(model, decided)
            model = await self._write(model, decided, seen, anew=model is not read)
            observed = replace(observed, run=decided.run)
            await self._actuator.act(model, decided.actions, seen.gangs, kept)
            if not await self._point(model, observed, decided, seen):
                return 0.0
            await self._restore(body, model, seen, decided)
        except Postponed as error:
            self._postponed[key] = error.obstacle
            await self._write(model, plan(model, replace(observed, postponed=error.obstacle), now), seen)
            raise  # the queue comes back to it
        except Refused as error:
            await self._write(model, plan(model, replace(observed, rejected=error.obstacle), now), seen)
            return 0.0
        self._postponed.pop(key, None)
        await self._tidying.delete(model, decided.deletions, decided.run, seen.gangs, seen.now)
        await self._pointer_pods.delete(decided.pointing.deletions, seen.pointers)
        self._count(key, model, seen)
        return self._next(seen, decided, in_line=observed.place is not None)

    async def _read(self, body: Object, now: float) -> KronosModel | None:
        """The model in an object; None, with the complaint in its status, for one that cannot be read."""
        try:
            return KronosModel.from_server(body)
        except ValueError as error:
            message = complaint(error)
        status = unreadable_status(body, message, now)
        self._metrics.saw(Key.of(body), Status(), Status(phase=Phase.FAILED))
        if status != body.get("status"):
            fresh = await self._apply(body, status)
            await self._announcer.unreadable(fresh, REASON, message)
        return None

    async def _freeze(self, model: KronosModel, decided: Plan) -> Object | None:
        """Keeps what a run that begins is to train."""
        if decided.begins and decided.run is not None and decided.run.outcome is None:
            return await self._actuator.freeze(model, decided.run.id)
        return None

    async def _point(self, model: KronosModel, observed: Observed, decided: Plan, seen: Observation) -> bool:
        """Starts the pod of a promotion or rollback. False for one that cannot be made, which is the answer then."""
        if decided.pointing.start is None:
            return True
        try:
            await self._pointer_pods.start(model, decided.pointing.start)
        except (Postponed, Refused) as error:
            refused = replace(observed, pointer_refused=error.obstacle)
            await self._write(model, plan(model, refused, seen.now), seen)
            return False
        return True

    async def _restore(self, body: Object, model: KronosModel, seen: Observation, decided: Plan) -> None:
        """Makes again what the current gang lacks, and reports it."""
        if may_lack_children(seen, decided):
            assert seen.current is not None and decided.run is not None
            for what in await self._actuator.restore(model, start_of(decided.run), seen.current):
                await self._announcer.restored(body, what)

    async def _write(self, model: KronosModel, decided: Plan, seen: Observation, *, anew: bool = False) -> KronosModel:
        """Writes the status if it has changed, if a gang is about to be started or stopped, or `anew`.

        In the second case the write proves that nobody has decided otherwise meanwhile. Returns the model as it is
        then. Raises Conflict.
        """
        key = Key(model.metadata.namespace, model.metadata.name)
        before, after = model.status or Status(), status_of(model, decided, seen)
        starts = decided.actions or decided.pointing.start
        if not (starts or anew) and not worth_writing(before, after, self._settings.progress_seconds):
            self._metrics.saw(key, before, before)
            return model
        decided_on = {"metadata": model.metadata.model_dump(mode="json", by_alias=True)}
        fresh = await self._apply(decided_on, after.model_dump(mode="json", by_alias=True, exclude_none=True))
        self._metrics.saw(key, before, after)
        await self._announcer.change(fresh, before, after, decided.pointing.answer)
        return model.with_status_of(fresh)

    async def _apply(self, body: Object, status: Object) -> Object:
        fresh = await self._cluster.apply_status(body | {"status": status})
        if Key.of(fresh) in self.models:
            self.models.put(fresh)
        return fresh

    def _count(self, key: Key, model: KronosModel, seen: Observation) -> None:
        gpus = 0 if seen.current is None else model.spec.resources.of_stage(seen.current.stage).gpus
        self._metrics.used(key, gpus, seen.now, running=seen.state is AttemptState.RUNNING)

    def _next(self, seen: Observation, decided: Plan, *, in_line: bool) -> float | None:
        """In how many seconds the next pass is due."""
        # A tick that is due already waits for the run before it to end.
        tick = seen.trigger.next_tick if seen.trigger.tick is None else None
        again = look_again_at(seen, decided, self._settings.progress_seconds)
        settled = self._placing.settles_at(seen.now) if in_line else None
        moments = [moment for moment in (decided.wake_at, tick, again, settled) if moment is not None]
        return max(0.0, min(moments) - seen.now) if moments else None
