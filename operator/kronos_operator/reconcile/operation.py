"""The parts of a running operator, put together: watches, queue, reconciler, resync and endpoints."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from kronos_operator.health import Check, endpoints, exposition, served, silence
from kronos_operator.kube import Change, Cluster, Key, Object, Recorder, Watches
from kronos_operator.metrics import Metrics
from kronos_operator.reconcile.lister import ChildLister, model_watches
from kronos_operator.reconcile.queue import WorkQueue
from kronos_operator.reconcile.reconciler import Reconciler
from kronos_operator.reconcile.settled import Arrivals
from kronos_operator.settings import Settings

# Longer than the server's bookmarks and the longest pause of a watch together.
_SILENCE = 300.0


class Operation:
    """Everything that runs in the operator's process."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._settings = settings
        now = cluster.clock.now
        namespaces = settings.namespaces or (None,)
        self.metrics = Metrics(lambda: len(self.queue), now=now)
        children = ChildLister(cluster, namespaces, self._child_changed)
        recorder = Recorder(
            cluster,
            instance=os.environ.get("HOSTNAME", "kronos-operator"),
            now=lambda: datetime.fromtimestamp(now(), UTC),
        )
        self.reconciler = Reconciler(
            cluster, children, recorder, settings, self.metrics, now=now, wake=lambda key: self.queue.add(key)
        )
        self.queue = WorkQueue(self.reconciler.reconcile)
        models = model_watches(cluster, namespaces, self.reconciler.models, self.model_changed, settings.resync_seconds)
        self.watches = Watches([*children.watches, *models])
        self._arrivals: Arrivals | None = Arrivals(settings, now)  # until everything is listed
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Works while the context lasts."""
        health = endpoints({"/healthz": self._alive(), "/readyz": {"watches": self._not_synced}})
        settings = self._settings
        async with (
            served(health, settings.health_port),
            served(exposition(self.metrics.registry), settings.metrics_port),
        ):
            works = {"watches": self.watches.run(), "queue": self._work(), "resync": self._resync()}
            self._tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def model_changed(self, change: Change) -> None:
        """A model was created, has changed, or was deleted."""
        if change.new is None:
            self.reconciler.forget(change.key)
            self.queue.forget(change.key)
        elif self._arrivals is not None:
            settled = self._arrivals.model(change.new)
            if settled is not None:
                self.metrics.saw(change.key, settled, settled)
        else:
            self.queue.add(change.key)

    def _child_changed(self, model: Key, child: Object | None) -> None:
        if self._arrivals is not None:
            self._arrivals.child(model, child)
        else:
            self.queue.add(model)

    def listed(self) -> None:
        """Everything is listed: queues what needs a look. Until then a model may seem to have no gang."""
        arrivals, self._arrivals = self._arrivals, None
        assert arrivals is not None
        for key in sorted(self.reconciler.models, key=arrivals.is_busy):  # the gangs of the others are still to be made
            after = arrivals.look_after(key)
            if after is not None:
                self.queue.add(key, after)

    async def _work(self) -> None:
        await self.watches.wait_synced()
        self.listed()
        await self.queue.run()

    async def _resync(self) -> None:
        """Looks at each model once an interval, one after the other: what changes must not wait behind all of them."""
        interval = self._settings.resync_seconds
        while True:
            await asyncio.sleep(interval)
            for number, key in enumerate(self.reconciler.models):
                self.queue.add(key, interval * number / len(self.reconciler.models))

    def _alive(self) -> dict[str, Check]:
        return {"watches": silence(lambda: self.watches.last_activity, _SILENCE), "tasks": self._ended}

    def _ended(self) -> str:
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        return "; ".join(f"{task.get_name()} has ended: {task.exception()!r}" for task in ended)

    def _not_synced(self) -> str:
        return "" if self.watches.synced else "not everything is listed yet"
