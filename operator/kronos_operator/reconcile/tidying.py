"""Deletes what attempts have left behind: one request for each kind of object where that can be told by labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from functools import partial

from kronos_operator import names
from kronos_operator.api import KronosModel, Run
from kronos_operator.backends import BACKENDS, backend_of
from kronos_operator.kube import Cluster, Kind, NotFound, Object, Rejected
from kronos_operator.kube.client import Propagation
from kronos_operator.kube.kinds import CONFIGMAP, SERVICE
from kronos_operator.plan import Deletions
from kronos_operator.reconcile.gangs import ObservedGang

_LAG = 60.0  # seconds that a watch may lag behind
# By the first of these that tells them from all others, objects are deleted together.
_TELLING = (names.ATTEMPT_LABEL, names.RUN_LABEL)


class Tidying:
    """Deletes. Each call may be repeated."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked: dict[str, float] = {}  # when the deletion of a workload was asked for, by its uid

    async def delete(
        self, model: KronosModel, deletions: Deletions, run: Run | None, gangs: Sequence[ObservedGang], now: float
    ) -> None:
        """Carries out a plan's deletions."""
        self._asked = {uid: at for uid, at in self._asked.items() if now < at + _LAG}
        by_attempt = {(gang.run, gang.attempt): gang for gang in gangs}
        stuck, expired = (
            [by_attempt[attempt] for attempt in attempts if self._is_due(by_attempt[attempt])]
            for attempts in (deletions.stuck, deletions.expired)
        )
        await self._delete_workloads(model, stuck)
        if expired:
            await self._delete_expired(model, deletions, run, expired)
        self._asked |= {_uid(gang.workload): now for gang in (*stuck, *expired) if gang.workload is not None}

    def _is_due(self, gang: ObservedGang) -> bool:
        """Whether its deletion was not asked for just now: a watch shows one after the other that it is deleted."""
        return gang.workload is None or _uid(gang.workload) not in self._asked

    async def _delete_expired(
        self, model: KronosModel, deletions: Deletions, run: Run | None, expired: Sequence[ObservedGang]
    ) -> None:
        # The workloads go last: while one is there, what was left undone is found to be so.
        kept = {(run_id, str(attempt)) for run_id, attempt in deletions.kept}
        if run is not None:
            kept |= {(run.id, str(run.attempt)), (run.id, "")}
        for kind in (CONFIGMAP, SERVICE):
            await self._delete_all(kind, model, lambda body: _attempt(body) not in kept)
        await self._delete_workloads(model, expired)

    async def _delete_workloads(self, model: KronosModel, gangs: Iterable[ObservedGang]) -> None:
        """Deletes the gangs' workloads; each stays listed until its last pod is gone."""
        workloads = [gang.workload for gang in gangs if gang.workload is not None and not gang.deleting]
        for backend in BACKENDS.values():
            doomed = [body for body in workloads if backend_of(body) is backend]
            if len(doomed) > 1:
                uids = {body["metadata"]["uid"] for body in doomed}
                await self._delete_all(backend.kind, model, partial(_is_one_of, uids), "Foreground")
            else:
                await self._delete_each(backend.kind, doomed, "Foreground")

    async def _delete_all(
        self,
        kind: Kind,
        model: KronosModel,
        wanted: Callable[[Object], bool],
        propagation: Propagation = "Background",
    ) -> None:
        """Deletes those of the model's objects that are wanted gone."""
        selector = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY},{names.MODEL_LABEL}={model.metadata.name}"
        try:
            # Listed now, not as a watch saw it: somebody's copy of a Job has the same labels.
            bodies, _ = await self._cluster.list(kind, model.metadata.namespace, selector=selector)
        except NotFound:
            return  # the kind is gone, with all of its objects
        doomed = [body for body in bodies if wanted(body)]
        others = [body for body in bodies if not wanted(body)]
        telling = _requirement(doomed, others)
        if telling and len(doomed) > 1:
            try:
                await self._cluster.delete_collection(
                    kind, model.metadata.namespace, selector=f"{selector},{telling}", propagation=propagation
                )
                return
            except Rejected:
                pass  # the role of an older installation lets them be deleted one by one only
        await self._delete_each(kind, doomed, propagation)

    async def _delete_each(self, kind: Kind, bodies: Iterable[Object], propagation: Propagation) -> None:
        for body in bodies:
            await self._cluster.delete_exactly(kind, body, propagation)


def _requirement(doomed: Iterable[Object], others: Iterable[Object]) -> str:
    """What a label must be on all of the doomed and is on none of the others; empty if no label tells them apart."""
    for label in _TELLING:
        values = {_labels(body).get(label, "") for body in doomed}
        if "" not in values and not any(_labels(body).get(label) in values for body in others):
            return f"{label} in ({','.join(sorted(values))})"
    return ""


def _attempt(body: Object) -> tuple[str, str]:
    labels = _labels(body)
    return labels.get(names.RUN_LABEL, ""), labels.get(names.ATTEMPT_LABEL, "")


def _labels(body: Object) -> dict[str, str]:
    return body["metadata"].get("labels") or {}


def _is_one_of(uids: Set[str], body: Object) -> bool:
    return _uid(body) in uids


def _uid(body: Object) -> str:
    uid: str = body["metadata"]["uid"]
    return uid
