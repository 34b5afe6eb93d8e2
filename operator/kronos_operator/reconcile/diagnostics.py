"""What is read from the API server only to explain: why nothing runs, what will not work. Called by the observer."""

from __future__ import annotations

from dataclasses import replace

from kronos_operator.api import KronosModel
from kronos_operator.kube import Cluster, ClusterError, Object
from kronos_operator.kube.kinds import CORE_EVENT, NODE, PVC
from kronos_operator.plan import Obstacle
from kronos_operator.reconcile.gangs import ObservedWorkload, has_started
from kronos_operator.reconcile.kueue import Admissions, steady_place
from kronos_operator.reconcile.times import created_at
from kronos_operator.reconcile.waiting import PATIENCE, why_waiting


class Diagnostics:
    """Reads that change nothing but messages; what may not be read is passed over."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._admissions = Admissions(cluster)
        self._shared_claims: set[tuple[str, str]] = set()

    async def waiting(self, gang: ObservedWorkload, place: int | None, now: float) -> Obstacle | None:
        """Why a gang that was created a while ago does not run; `place` is its last reported place in the queue."""
        if gang.workload is None or now - created_at(gang.workload) < PATIENCE:
            return None
        metadata = gang.workload["metadata"]
        namespace, uid = metadata["namespace"], metadata["uid"]
        if gang.suspended:
            admission = await self._admissions.of(namespace, uid, now)
            if admission is not None:
                admission = replace(admission, place=steady_place(admission.place, place))
            return why_waiting(gang, [], admission, now)
        obstacle = why_waiting(gang, [], None, now)
        if obstacle is not None:
            return obstacle
        held = next((pod for pod in gang.pods if not has_started(pod)), None)
        uids = [uid] if held is None else [uid, held["metadata"]["uid"]]
        events = [event for one in uids for event in await self._events(namespace, one)]
        return why_waiting(gang, events, None, now)

    async def taints(self, node: str) -> str:
        """The taints of a node that drive pods away, in words; empty where nodes may not be read, as in a namespace."""
        try:
            body = await self._cluster.get(NODE, None, node)
        except ClusterError:
            return ""
        if body is None:
            return f"node {node} is gone"
        taints = (body.get("spec") or {}).get("taints") or []
        driving = [_taint(taint) for taint in taints if taint.get("effect") == "NoExecute"]
        return f"node {node} is tainted {', '.join(driving)}" if driving else ""

    async def unshared(self, model: KronosModel) -> str:
        """A warning if several nodes are to write to a volume that one node at a time can mount; else empty."""
        storage = model.spec.storage
        if model.spec.resources.nodes < 2 or storage is None or storage.claim is None:
            return ""
        place = (model.metadata.namespace, storage.claim.name)
        if place in self._shared_claims:
            return ""
        try:
            claim = await self._cluster.get(PVC, *place)
        except ClusterError:
            return ""
        if claim is None:
            return ""  # its pods will say so
        modes = (claim.get("spec") or {}).get("accessModes") or []
        if "ReadWriteMany" in modes:
            self._shared_claims.add(place)
            return ""
        return (
            f"claim {storage.claim.name} is {' and '.join(modes)}: pods on different nodes cannot all write to it; "
            "use a ReadWriteMany claim, or resources.nodes 1"
        )

    async def _events(self, namespace: str, uid: str) -> list[Object]:
        try:
            found, _ = await self._cluster.list(CORE_EVENT, namespace, fields=f"involvedObject.uid={uid}")
        except ClusterError:
            return []
        return found


def _taint(taint: Object) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint['effect']}"
