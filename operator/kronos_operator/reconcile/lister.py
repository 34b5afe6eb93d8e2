"""What the operator knows of the models and of their children, kept current by watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from typing_extensions import TypedDict

from kronos_operator import names
from kronos_operator.backends import BACKENDS
from kronos_operator.kube import Change, Cluster, Key, Kind, Object, Store, Watch
from kronos_operator.kube.kinds import KRONOSMODEL, POD
from kronos_operator.kube.reading import Reader
from kronos_operator.kube.watching import without_noise
from kronos_operator.reconcile.models import Models


class _PodSpec(TypedDict, total=False):
    nodeName: Any


_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"


def model_watches(
    cluster: Cluster,
    namespaces: Iterable[str | None],
    models: Models,
    on_change: Callable[[Change], None],
    relist_seconds: float,
) -> list[Watch]:
    """Watches that keep `models` current, in each of the namespaces; None is the whole cluster."""
    return [
        Watch(cluster, KRONOSMODEL, models, on_change=on_change, namespace=namespace, relist_seconds=relist_seconds)
        for namespace in namespaces
    ]


class ChildLister:
    """Workloads and pods of all models in the namespaces; None is the whole cluster.

    `on_change` is called with the key of the model whose child has changed, and with the child; None once it is gone.
    """

    def __init__(
        self, cluster: Cluster, namespaces: Iterable[str | None], on_change: Callable[[Key, Object | None], None]
    ) -> None:
        self._on_change = on_change
        self._stores = {
            kind.plural: Store([names.MODEL_LABEL]) for kind in (POD, *(backend.kind for backend in BACKENDS.values()))
        }
        self.watches: list[Watch] = []
        for namespace in namespaces:
            watch = partial(self._watch, cluster, namespace)
            self.watches.append(watch(POD, _PodSpec))
            self.watches += [
                watch(backend.kind, backend.kept, optional=bool(backend.missing)) for backend in BACKENDS.values()
            ]

    def workloads(self, model: Key) -> list[Object]:
        """The workloads that are labelled with the model's name."""
        return [body for backend in BACKENDS.values() for body in self._labelled(backend.kind, model)]

    def pods(self, model: Key) -> list[Object]:
        """The pods that are labelled with the model's name."""
        return self._labelled(POD, model)

    def _watch(
        self,
        cluster: Cluster,
        namespace: str | None,
        kind: Kind,
        kept: type,
        *,
        optional: bool = False,
    ) -> Watch:
        return Watch(
            cluster,
            kind,
            self._stores[kind.plural],
            on_change=self._changed,
            namespace=namespace,
            selector=_SELECTOR,
            reader=Reader(kept),
            trim=_trimmed,
            optional=optional,
        )

    def _labelled(self, kind: Kind, model: Key) -> list[Object]:
        return self._stores[kind.plural].labelled(model.namespace, names.MODEL_LABEL, model.name)

    def _changed(self, change: Change) -> None:
        model = (change.last["metadata"].get("labels") or {}).get(names.MODEL_LABEL)
        if model:
            self._on_change(Key(change.key.namespace, model), change.new)


def _trimmed(body: Object) -> Object:
    body.setdefault("spec", {})
    return without_noise(body)
