"""Where workloads stand in Kueue's queues. Read by the inquiries, for all models of a namespace at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from kronos_operator.kube import Cluster, ClusterError, Object
from kronos_operator.kube.conditions import condition
from kronos_operator.kube.kinds import WORKLOAD
from kronos_operator.names import JOB_UID_LABEL
from kronos_operator.reconcile.times import created_at, seconds_of

# However many models of a namespace wait, its Workloads are listed no more often than this.
_EVERY = 30.0
# After these evictions Kueue lines a workload up behind those that have come meanwhile; else it keeps its place.
_LINED_UP_ANEW = ("PodsReadyTimeout", "AdmissionCheck")


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Kueue's state of a workload."""

    queue: str  # the LocalQueue
    place: int | None  # in that queue, 1 being the next; None if it does not stand in line
    message: str  # why it is not admitted, in Kueue's words; may be empty


class Admissions:
    """Kueue's state, from a listing that is at most half a minute old."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[str, tuple[float, dict[str, Admission]]] = {}
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(self, namespace: str, uid: str, now: float) -> Admission | None:
        """What is said of the workload with this uid; None if nothing is, or if it may not be read."""
        async with self._reading[namespace]:
            known = self._known.get(namespace)
            if known is None or now - known[0] >= _EVERY:
                known = self._known[namespace] = (now, await self._read(namespace))
        return known[1].get(uid)

    async def _read(self, namespace: str) -> dict[str, Admission]:
        workloads: list[Object] = []
        try:
            async for page in self._cluster.pages(WORKLOAD, namespace):
                workloads += map(_trimmed, page.items)
        except ClusterError:
            return {}
        return admissions(workloads)


def admissions(workloads: Iterable[Object]) -> dict[str, Admission]:
    """What the Workloads of a namespace say, by the uid of the Job, or other workload, that each is for.

    Those that wait are in the order of Kueue's own queues (pkg/cache/queue/cluster_queue.go): by priority, then by age.
    """
    lines: defaultdict[str, int] = defaultdict(int)
    found = {}
    for workload in sorted(workloads, key=_order):
        queue = str(workload["spec"].get("queueName") or "")
        place = None
        if _in_line(workload):
            lines[queue] += 1
            place = lines[queue]
        job = (workload["metadata"].get("labels") or {}).get(JOB_UID_LABEL)
        if job:
            found[job] = Admission(queue=queue, place=place, message=_message(workload))
    return found


def steady_place(place: int | None, shown: int | None) -> int | None:
    """The place to show after `shown`: the same one until the workload has moved by a tenth of it.

    An admission moves all that wait behind it, and each place that is shown anew is a write.
    """
    if place is None or shown is None or abs(place - shown) * 10 >= shown:
        return place
    return shown


def _order(workload: Object) -> tuple[int, float, str]:
    evicted = condition(workload, "Evicted")
    anew = evicted.get("status") == "True" and evicted.get("reason") in _LINED_UP_ANEW
    since = seconds_of(evicted.get("lastTransitionTime")) if anew else None
    priority = workload["spec"].get("priority") or 0
    return -priority, since or created_at(workload), str(workload["metadata"].get("uid", ""))


def _in_line(workload: Object) -> bool:
    """Whether it waits for quota, and for nothing else: its queue is there and open."""
    reserved = condition(workload, "QuotaReserved")
    return not (
        workload["spec"].get("active") is False
        or condition(workload, "Finished").get("status") == "True"
        or reserved.get("status") == "True"
        or reserved.get("reason") == "Inadmissible"
    )


def _message(workload: Object) -> str:
    words = (condition(workload, kind).get("message") for kind in ("QuotaReserved", "Admitted"))
    return next((str(message) for message in words if message), "")


def _trimmed(workload: Object) -> Object:
    """Only what is read here: a Workload carries whole pod templates, and thousands of them would not fit."""
    metadata, spec = workload["metadata"], workload.get("spec") or {}
    return {
        "metadata": {key: metadata.get(key) for key in ("uid", "labels", "creationTimestamp")},
        "spec": {key: spec.get(key) for key in ("queueName", "priority", "active")},
        "status": {"conditions": (workload.get("status") or {}).get("conditions")},
    }
