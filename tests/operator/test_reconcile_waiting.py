"""Why nothing runs yet, and whose turn it is."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from fake_cluster import timestamp
from world import World

from kronos_operator.kube import Key, Kind
from kronos_operator.kube.kinds import (
    CORE_EVENT,
    KRONOSMODEL,
    PVC,
    WORKLOAD,
)
from kronos_operator.policy import Policy
from kronos_operator.settings import Settings


def waiting_pod(world: World, **status: Any) -> None:
    world.reconcile()
    world.cluster.make_pods(world.job)
    world.cluster.pods(world.job)[0]["status"] |= status
    world.pass_time(11)
    world.reconcile()


def unscheduled(message: str, reason: str = "Unschedulable") -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), "Unschedulable"),
        (unscheduled("pod has unbound immediate PersistentVolumeClaims"), "VolumeNotBound"),
        (unscheduled("gated", "SchedulingGated"), "SchedulingGated"),
        (
            {"containerStatuses": [{"name": "trainer", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
            "ImageNotPulled",
        ),
    ],
)
def test_the_ready_condition_says_why_a_pod_does_not_run(status: dict[str, Any], reason: str) -> None:
    world = World()
    waiting_pod(world, **status)
    assert world.condition("Ready") == ("True", reason)
    assert world.cluster.events[-1] == ("Normal", reason)


@pytest.mark.parametrize(
    ("backend", "plural", "reason"), [("Job", "jobs", "FailedCreate"), ("PyTorchJob", "pytorchjobs", "FailedCreatePod")]
)
def test_the_ready_condition_says_why_a_workload_has_no_pods(backend: str, plural: str, reason: str) -> None:
    world = World(backend=backend)
    world.reconcile()
    uid = world.cluster.objects[plural, world.job]["metadata"]["uid"]
    event = {"metadata": {"name": "e"}, "reason": reason, "message": "forbidden: exceeded quota: gpus"}
    world.cluster.put(CORE_EVENT, event | {"involvedObject": {"uid": uid}})
    world.pass_time(11)
    world.reconcile()
    assert world.condition("Ready") == ("True", "QuotaExceeded")


def test_a_gang_that_is_not_whole_does_not_train_and_says_why() -> None:
    world = World(resources={"nodes": 4})
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job, 2)
    world.cluster.run_pods(job)
    event = {"metadata": {"name": "e"}, "reason": "FailedCreate", "message": "forbidden: exceeded quota: gpus"}
    uid = world.cluster.objects["jobs", job]["metadata"]["uid"]
    world.cluster.put(CORE_EVENT, event | {"involvedObject": {"uid": uid}})
    world.pass_time(11)
    world.reconcile()
    assert world.status.phase == "Pending"
    assert world.condition("Ready") == ("True", "QuotaExceeded")


def test_a_failed_mount_is_shown_while_the_kubelet_retries_it() -> None:
    world = World()
    world.reconcile()
    world.cluster.make_pods(world.job)
    uid = world.cluster.pods(world.job)[0]["metadata"]["uid"]
    event = {"metadata": {"name": "e"}, "reason": "FailedMount", "message": "no such share"}
    seen = {"lastTimestamp": timestamp(world.cluster.now + 11), "involvedObject": {"uid": uid}}
    world.cluster.put(CORE_EVENT, event | seen)
    world.pass_time(60)
    world.reconcile()
    assert world.condition("Ready") == ("True", "VolumeNotMounted")
    world.pass_time(180)
    world.reconcile()
    assert world.condition("Ready") == ("True", "Pending")


@pytest.mark.parametrize("kind", [CORE_EVENT, PVC])
def test_diagnostics_that_may_not_be_read_stop_nothing(kind: Kind) -> None:
    world = World(resources={"nodes": 2})
    world.cluster.unavailable = kind
    world.reconcile()
    world.cluster.make_pods(world.job)
    world.pass_time(11)
    world.cluster.change_spec(suspend=True)
    world.reconcile()
    world.reconcile()
    assert world.status.phase == "Suspended"


def test_a_workload_that_kueue_does_not_admit_shows_its_place_and_the_reason() -> None:
    world = World()
    world.reconcile()
    job = world.cluster.objects["jobs", world.job]
    job["spec"]["suspend"] = True
    condition = {"type": "QuotaReserved", "status": "False", "message": "insufficient quota for nvidia.com/gpu"}
    for name, uid in (("other", "other"), ("ours", job["metadata"]["uid"])):
        metadata = {"name": name, "labels": {"kueue.x-k8s.io/job-uid": uid}}
        status = {"conditions": [condition]}
        world.cluster.put(WORKLOAD, {"metadata": metadata, "spec": {"queueName": "gpus"}, "status": status})
    world.pass_time(11)
    world.reconcile()
    assert world.status.phase == "Queued"
    assert world.status.queue_position == 2
    ready = next(item for item in world.status.conditions if item.type == "Ready")
    assert ready.reason == "NotAdmitted"
    assert ready.message == "place 2 in queue gpus: insufficient quota for nvidia.com/gpu"

    world.cluster.remove(WORKLOAD, "other")
    world.pass_time(30)
    world.reconcile()
    assert world.status.queue_position == 1
    job["spec"]["suspend"] = False
    world.reconcile()
    assert world.status.queue_position is None
    assert world.condition("Ready") == ("True", "Pending")


def test_a_restarted_operator_does_not_start_who_waited_for_its_turn() -> None:
    world = World(Settings(default_image="example.org/trainer:1", policy=Policy(max_running=1)))
    first = copy.deepcopy(world.cluster.model()) | {"kind": "KronosModel"}
    first["metadata"] |= {"name": "a"}
    world.cluster.put(KRONOSMODEL, first)
    world.reconciler.models.put(copy.deepcopy(world.cluster.model("a")))
    asyncio.run(world.reconciler.reconcile(Key("ns", "a")))
    world.reconcile()
    assert (world.status.phase, world.status.queue_position) == ("Queued", 1)
    assert world.condition("Ready") == ("True", "WaitingForTurn")

    world.restart()  # nothing is known of the other yet
    due = world.reconcile()
    assert (world.status.phase, world.status.queue_position) == ("Queued", 1)
    assert due is not None and 0 < due <= 20
    world.pass_time(20)
    world.reconcile()
    assert world.status.phase != "Queued"  # by now it would be
