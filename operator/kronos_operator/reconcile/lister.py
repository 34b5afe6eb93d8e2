"""The lister of the models' children: workloads and pods, kept current by watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from kronos_operator import names
from kronos_operator.backends import BACKENDS
from kronos_operator.kube import Change, Cluster, Key, Kind, Object, Watch
from kronos_operator.kube.kinds import POD
from kronos_operator.kube.watching import without_noise

_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"


class ChildLister:
    """Children of all models, in these namespaces or, without any, in the whole cluster.

    `on_change` is called with the key of the model whose child has changed.
    """

    def __init__(self, cluster: Cluster, namespaces: Iterable[str], on_change: Callable[[Key], None]) -> None:
        self._on_change = on_change
        self._watches: dict[tuple[str, str], Watch] = {}
        for namespace in list(namespaces) or [""]:
            watch = partial(
                Watch,
                cluster,
                on_change=self._changed,
                namespace=namespace or None,
                selector=_SELECTOR,
                labels=(names.MODEL_LABEL,),
            )
            self._watches[POD.plural, namespace] = watch(POD, trim=partial(_trimmed, _trim_pod))
            for backend in BACKENDS.values():
                self._watches[backend.kind.plural, namespace] = watch(
                    backend.kind, trim=partial(_trimmed, backend.trim), optional=bool(backend.missing)
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
        """The workloads that are labelled with the model's name."""
        return [body for backend in BACKENDS.values() for body in self._labelled(backend.kind, model)]

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


def _trimmed(trim: Callable[[Object], Object], body: Object) -> Object:
    """Without what the operator does not read and what is large: most of the specification."""
    body = without_noise(body)
    body["spec"] = trim(body.get("spec") or {})
    return body


def _trim_pod(spec: Object) -> Object:
    return {name: spec[name] for name in ("nodeName",) if name in spec}
