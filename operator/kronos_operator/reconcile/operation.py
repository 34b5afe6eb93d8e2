"""The parts of a running operator, put together: watches, queue, reconciler, resync and endpoints."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from kronos_operator.health import Check, endpoints, exposition, served, silence
from kronos_operator.kube import Cluster, ClusterError, Key, Object, Recorder
from kronos_operator.kube.kinds import KRONOSMODEL
from kronos_operator.metrics import Metrics
from kronos_operator.reconcile.lister import ChildLister
from kronos_operator.reconcile.queue import WorkQueue
from kronos_operator.reconcile.reconciler import Reconciler
from kronos_operator.settings import Settings

logger = logging.getLogger(__name__)

# Longer than the server's bookmarks and the longest pause of a watch together.
_SILENCE = 300.0
_ABSENT = 5.0


class Operation:
    """Everything that runs beside the watch of the models, which tells it what it sees."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        now = cluster.clock.now
        self.metrics = Metrics(lambda: len(self.queue), now=now)
        self.children = ChildLister(cluster, settings.namespaces, self._child_changed)
        recorder = Recorder(
            cluster,
            instance=os.environ.get("HOSTNAME", "kronos-operator"),
            now=lambda: datetime.fromtimestamp(now(), UTC),
        )
        self.reconciler = Reconciler(
            cluster, self.children, recorder, settings, self.metrics, now=now, wake=lambda key: self.queue.add(key)
        )
        self.queue = WorkQueue(self.reconciler.reconcile)
        self._resynced_at: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._untold: set[Key] = set()  # models whose newest version a listing had, and the watch not yet
        self._missed: set[Key] = set()  # those of them that it has not told of for a whole period

    def told(self, body: Object) -> None:
        """The watch tells that a model was created or has changed."""
        self._untold.discard(Key.of(body))
        self._missed.discard(Key.of(body))
        # The echo of the operator's own writes is no news, and what a listing has told at the start neither.
        if self.reconciler.saw(body):
            self.queue.add(Key.of(body))

    def gone(self, key: Key) -> None:
        """A model was deleted."""
        self._untold.discard(key)
        self._missed.discard(key)
        self.reconciler.gone(key)
        self.queue.forget(key)

    async def installed(self) -> None:
        """Returns once the API server knows KronosModels: a watch of a kind that is not there never begins."""
        namespace = next(iter(self._settings.namespaces), None)
        while True:
            try:
                await anext(self._cluster.pages(KRONOSMODEL, namespace))
                return
            except ClusterError as error:
                logger.warning("%s; looking again in %.0f s", error, _ABSENT)
            await asyncio.sleep(_ABSENT)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Works while the context lasts."""
        health = endpoints({"/healthz": self._alive(), "/readyz": {"watches": self._not_synced}})
        settings = self._settings
        async with (
            served(health, settings.health_port),
            served(exposition(self.metrics.registry), settings.metrics_port),
        ):
            works = {"children": self.children.run(), "queue": self._work(), "resync": self._resync()}
            self._tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        # A model whose gang is not yet in sight would look as if it had none.
        await self.children.wait_synced()
        await self.queue.run()

    async def _resync(self) -> None:
        """Looks at every model anew from time to time."""
        while True:
            try:
                await self.relist()
                self._resynced_at = time.monotonic()
            except ClusterError as error:
                logger.warning("listing all models failed: %s", error)
            await asyncio.sleep(self._settings.resync_seconds)

    async def relist(self) -> None:
        """Compares the models that are known with those that exist: no missed deletion stays missed."""
        self._missed |= self._untold
        listed: set[Key] = set()
        for namespace in self._settings.namespaces or (None,):
            async for page in self._cluster.pages(KRONOSMODEL, namespace):
                for body in page.items:
                    listed.add(Key.of(body))
                    if self.reconciler.saw(body):
                        self._untold.add(Key.of(body))
                    self.queue.add(Key.of(body))
        for key in set(self.reconciler.keys) - listed:
            # It may have been created while the list was read.
            if await self._cluster.get(KRONOSMODEL, *key) is None:
                self.gone(key)

    def _child_changed(self, model: Key) -> None:
        self.queue.add(model)

    def _alive(self) -> dict[str, Check]:
        resync = max(_SILENCE, 2 * self._settings.resync_seconds)
        return {
            "watches": silence(lambda: self.children.last_activity, _SILENCE),
            "resync": silence(lambda: self._resynced_at, resync),
            "models": self._deaf,
            "tasks": self._ended,
        }

    def _deaf(self) -> str:
        some = ", ".join("/".join(key) for key in sorted(self._missed)[:3])
        return f"the watch does not tell of {some}" if some else ""

    def _ended(self) -> str:
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        return "; ".join(f"{task.get_name()} has ended: {task.exception()!r}" for task in ended)

    def _not_synced(self) -> str:
        return "" if self.children.synced and self._resynced_at is not None else "not everything has been seen yet"
