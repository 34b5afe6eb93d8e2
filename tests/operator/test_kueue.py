"""Places in Kueue's queues: in which order, for whom, and how seldom they are read and told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_cluster import FakeCluster, timestamp

from kronos_operator.kube import ClusterError, Rejected, Unavailable
from kronos_operator.kube.kinds import WORKLOAD
from kronos_operator.reconcile.kueue import Admissions, admissions, steady_place

NOW = 1_800_000_000.0


def workload(name: str, *, queue: str = "team-a", age: int = 0, **spec: Any) -> dict[str, Any]:
    """A Workload that was created `age` seconds ago, for the Job whose uid is its name."""
    metadata = {"name": name, "uid": f"uid-{name}", "labels": {"kueue.x-k8s.io/job-uid": name}}
    return {
        "metadata": metadata | {"creationTimestamp": timestamp(NOW - age)},
        "spec": {"queueName": queue, "podSets": [{"template": {}}]} | spec,
        "status": {"conditions": []},
    }


def having(body: dict[str, Any], kind: str, status: str, reason: str = "", **more: Any) -> dict[str, Any]:
    """The Workload with a condition more."""
    body["status"]["conditions"].append({"type": kind, "status": status, "reason": reason} | more)
    return body


def places(*workloads: dict[str, Any]) -> dict[str, int | None]:
    return {job: admission.place for job, admission in admissions(workloads).items()}


def test_a_queue_is_in_the_order_of_priority_then_of_age() -> None:
    assert places(
        workload("young", age=10),
        workload("old", age=20),
        workload("urgent", age=5, priority=1000),
        workload("idle", age=90, priority=-1),
        workload("elsewhere", age=30, queue="team-b"),
    ) == {"urgent": 1, "old": 2, "young": 3, "idle": 4, "elsewhere": 1}


def test_of_equally_old_workloads_kueue_takes_the_lower_uid_first() -> None:
    assert places(workload("b"), workload("a")) == {"a": 1, "b": 2}


@pytest.mark.parametrize(("reason", "first"), [("Preempted", "evicted"), ("PodsReadyTimeout", "other")])
def test_what_was_evicted_keeps_its_place_unless_it_was_not_ready_in_time(reason: str, first: str) -> None:
    evicted = workload("evicted", age=100)
    having(evicted, "Evicted", "True", reason, lastTransitionTime=timestamp(NOW - 10))
    other = workload("other", age=50)
    assert places(evicted, other)[first] == 1


@pytest.mark.parametrize(
    "body",
    [
        having(workload("first", age=9), "QuotaReserved", "True", "QuotaReserved"),
        having(workload("first", age=9), "Finished", "True", "Succeeded"),
        having(workload("first", age=9), "QuotaReserved", "False", "Inadmissible", message="LocalQueue is stopped"),
        workload("first", age=9, active=False),
    ],
    ids=["admitted", "finished", "its queue is closed", "deactivated"],
)
def test_only_what_waits_for_quota_stands_in_line(body: dict[str, Any]) -> None:
    assert places(body, workload("second")) == {"first": None, "second": 1}


def test_a_place_is_told_anew_once_it_has_moved_by_a_tenth() -> None:
    assert steady_place(7, None) == 7
    assert steady_place(9, 10) == 9
    assert steady_place(91, 100) == 100
    assert steady_place(90, 100) == 90
    assert steady_place(110, 100) == 110  # an urgent workload came in between
    assert steady_place(None, 100) is None
    told, writes = 5000, 0
    for place in range(5000, 0, -1):
        writes += steady_place(place, told) != told
        told = steady_place(place, told) or 0
    assert told == 1
    assert writes < 80


def test_however_many_models_wait_their_namespace_is_read_once_in_half_a_minute() -> None:
    cluster = FakeCluster(NOW)
    for number in range(100):
        cluster.put(WORKLOAD, workload(f"w{number:03}"))
    reader: Any = cluster
    known = Admissions(reader)

    async def read(now: float) -> list[int | None]:
        found = await asyncio.gather(*(known.of("ns", f"w{number:03}", now) for number in range(100)))
        return [None if one is None else one.place for one in found]

    assert sorted(asyncio.run(read(NOW)), key=lambda place: place or 0) == list(range(1, 101))
    asyncio.run(read(NOW + 29))
    assert cluster.reads == ["list workloads"]
    cluster.remove(WORKLOAD, "w000")
    assert None in asyncio.run(read(NOW + 30))
    assert cluster.reads == ["list workloads"] * 2


@pytest.mark.parametrize("error", [Rejected("forbidden", status=403), Unavailable("the server is busy", status=500)])
def test_workloads_that_cannot_be_read_are_not_asked_for_by_each_model(error: ClusterError) -> None:
    class Closed(FakeCluster):
        async def list(self, *_: Any, **__: Any) -> Any:
            self.reads.append("list workloads")
            raise error

    cluster: Any = Closed(NOW)
    known = Admissions(cluster)

    async def read() -> None:
        assert [await known.of("ns", name, NOW) for name in ("a", "b")] == [None, None]

    asyncio.run(read())
    assert cluster.reads == ["list workloads"]
