"""The parts of a running operator, put together: watches, queue, reconciler, resync and endpoints."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kronos_operator.health import Check, endpoints, exposition, served, silence
from kronos_operator.kube import Cluster, ClusterError, Key, Object, Recorder
from kronos_operator.kube.kinds import KRONOSMODEL
from kronos_operator.metrics import Metrics
from kronos_operator.reconcile.children import Children
from kronos_operator.reconcile.queue import WorkQueue
from kronos_operator.reconcile.reconciler import Reconciler
from kronos_operator.settings import Settings

logger = logging.getLogger(__name__)

# Longer than the server's bookmarks and the longest pause of a watch together.
_SILENCE = 300.0


class Operation:
    """Everything that runs beside the watch of the models, which tells it what it sees."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self.metrics = Metrics(lambda: len(self.queue))
        self.children = Children(cluster, settings.namespaces, self._child_changed)
        recorder = Recorder(cluster, instance=os.environ.get("HOSTNAME", "kronos-operator"))
        self.reconciler = Reconciler(cluster, self.children, recorder, settings, self.metrics)
        self.queue = WorkQueue(self.reconciler.reconcile)
        self._resynced_at: float | None = None

    def saw(self, body: Object) -> None:
        """A model was created or has changed."""
        self.reconciler.saw(body)
        self.queue.add(Key.of(body))

    def gone(self, key: Key) -> None:
        """A model was deleted."""
        self.reconciler.gone(key)
        self.queue.forget(key)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Works while the context lasts."""
        health = endpoints({"/healthz": self._alive(), "/readyz": {"watches": self._not_synced}})
        settings = self._settings
        async with (
            served(health, settings.health_port),
            served(exposition(self.metrics.registry), settings.metrics_port),
        ):
            tasks = [asyncio.create_task(work) for work in (self.children.run(), self._work(), self._resync())]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

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
        bodies: list[Object] = []
        for namespace in self._settings.namespaces or (None,):
            bodies += (await self._cluster.list(KRONOSMODEL, namespace))[0]
        for key in set(self.reconciler.keys) - {Key.of(body) for body in bodies}:
            # It may have been created while the list was read.
            if await self._cluster.get(KRONOSMODEL, *key) is None:
                self.gone(key)
        for body in bodies:
            self.saw(body)

    def _child_changed(self, model: Key) -> None:
        self.queue.add(model)

    def _alive(self) -> dict[str, Check]:
        resync = max(_SILENCE, 2 * self._settings.resync_seconds)
        return {
            "watches": silence(lambda: self.children.last_activity, _SILENCE),
            "resync": silence(lambda: self._resynced_at, resync),
        }

    def _not_synced(self) -> str:
        return "" if self.children.synced and self._resynced_at is not None else "not everything has been seen yet"
