"""What the operator keeps in sight of the models' children: Jobs, PyTorchJobs and Pods, by watches of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from kronos_operator import names
from kronos_operator.kube import Change, Cluster, Key, Kind, Object, Watch
from kronos_operator.kube.kinds import JOB, POD, PYTORCHJOB
from kronos_operator.kube.watching import without_noise

_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
_WORKLOADS = (JOB, PYTORCHJOB)


class Children:
    """Children of all models, in these namespaces or, without any, in the whole cluster.

    `on_change` is called with the key of the model whose child has changed.
    """

    def __init__(self, cluster: Cluster, namespaces: Iterable[str], on_change: Callable[[Key], None]) -> None:
        self._on_change = on_change
        self._watches: dict[tuple[str, str], Watch] = {}
        for namespace in list(namespaces) or [""]:
            for kind in (*_WORKLOADS, POD):
                self._watches[kind.plural, namespace] = Watch(
                    cluster,
                    kind,
                    on_change=self._changed,
                    namespace=namespace or None,
                    selector=_SELECTOR,
                    labels=(names.MODEL_LABEL,),
                    trim=trimmed,
                    optional=kind is PYTORCHJOB,
                )

    async def run(self) -> None:
        """Watches until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches.values():
                group.create_task(watch.run())

    async def wait_synced(self) -> None:
        """Returns once everything that exists is known."""
        for watch in self._watches.values():
            await watch.store.wait_synced()

    @property
    def synced(self) -> bool:
        """Whether everything that exists is known."""
        return all(watch.store.synced for watch in self._watches.values())

    @property
    def last_activity(self) -> float | None:
        """When the watch that was silent for longest has last heard of the server, by the monotonic clock."""
        moments = [watch.store.last_activity for watch in self._watches.values()]
        return None if None in moments else min(moment for moment in moments if moment is not None)

    def workloads(self, model: Key) -> list[Object]:
        """The Jobs and PyTorchJobs that are labelled with the model's name."""
        return [body for kind in _WORKLOADS for body in self._labelled(kind, model)]

    def pods(self, model: Key) -> list[Object]:
        """The pods that are labelled with the model's name."""
        return self._labelled(POD, model)

    def _labelled(self, kind: Kind, model: Key) -> list[Object]:
        watch = self._watches.get((kind.plural, model.namespace)) or self._watches.get((kind.plural, ""))
        return [] if watch is None else watch.store.labelled(model.namespace, names.MODEL_LABEL, model.name)

    def _changed(self, change: Change) -> None:
        model = (change.last["metadata"].get("labels") or {}).get(names.MODEL_LABEL)
        if model:
            self._on_change(Key(change.key.namespace, model))


def trimmed(body: Object) -> Object:
    """Without what nobody here reads and what is large: most of a pod's specification, and the workload's template."""
    body = without_noise(body)
    spec = body.get("spec") or {}
    if body.get("kind") == POD.kind:
        body["spec"] = {name: spec[name] for name in ("nodeName",) if name in spec}
    else:
        body["spec"] = {name: spec[name] for name in ("suspend", "parallelism", "runPolicy") if name in spec}
        replicas = spec.get("pytorchReplicaSpecs") or {}
        if replicas:
            counts = {kind: {"replicas": one.get("replicas", 1)} for kind, one in replicas.items()}
            body["spec"]["pytorchReplicaSpecs"] = counts
    return body
