"""Restarts: which end of an attempt counts as what, and that it counts once."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from fake_cluster import JOB, PYTORCHJOB, timestamp
from world import World

from kronos_operator.kube.kinds import NODE, POD


def test_a_failed_read_of_a_log_is_no_stall_and_a_silent_trainer_is() -> None:
    world = World()
    job = world.run()
    world.cluster.logs[f"{job}-0"] = None
    for _ in range(30):
        world.pass_time(31)
        world.reconcile()
    assert world.cluster.live() == [job]
    world.cluster.say(job, event="progress", phase="training", step=1, steps=9)
    for _ in range(30):
        world.pass_time(31)
        world.reconcile()
        if not world.cluster.pods(job) or world.cluster.pods(job)[0]["metadata"].get("deletionTimestamp"):
            break
    world.end(75)
    assert world.status.run.restarts.stalls == 1
    assert world.status.failure.reason == "ProgressDeadlineExceeded"


def test_a_trainer_that_never_reports_is_stalled_after_the_start_patience() -> None:
    world = World()
    world.run()
    world.pass_time(599)
    world.reconcile()
    assert world.condition("Ready") == ("True", "TrainingTokenizer")
    world.pass_time(2)
    world.reconcile()
    world.end(75)
    assert world.status.run.restarts.stalls == 1


@pytest.mark.parametrize("skew", [-86400, 86400])
def test_a_nodes_clock_does_not_decide_who_is_stalled(skew: float) -> None:
    world = World()
    job = world.run()
    for step in range(1, 30):
        world.pass_time(100)
        time = timestamp(world.cluster.now + skew)
        world.cluster.say(job, event="progress", phase="training", step=step, steps=99, time=time)
        world.reconcile()
    assert world.cluster.workloads()[0]["metadata"].get("deletionTimestamp") is None
    world.pass_time(601)
    world.reconcile()
    world.end(75)
    assert world.status.run.restarts.stalls == 1


ERROR = '{"kronos":1,"event":"error","exitCode":%d,"message":"bars.csv, row 7: no number"}\n'


@pytest.mark.parametrize(
    ("code", "ready", "reason"),
    [
        (65, "False", "DataInvalid"),
        (64, "False", "ConfigInvalid"),
        (70, "False", "TrainingDiverged"),
        (1, "True", "TrainerCrashed"),
        (74, "True", "StorageFailed"),
    ],
)
def test_the_exit_code_decides_whether_a_failure_is_final(code: int, ready: str, reason: str) -> None:
    world = World()
    world.run()
    world.end(code, ERROR % code)
    assert world.condition("Ready") == (ready, reason)
    assert world.status.failure.message.startswith("bars.csv, row 7")
    assert world.status.failure.log_tail.startswith('{"kronos"')
    assert (world.condition("Finished")[0] == "True") == (ready == "False")


def test_out_of_memory_and_disruptions_are_free_and_crashes_are_not() -> None:
    world = World()
    for code in (71, 75, 71, 75):
        world.run()
        world.end(code)
        world.pass_time(20)
    restarts = world.status.run.restarts
    assert (restarts.out_of_memory, restarts.disruptions, restarts.crashes) == (2, 2, 0)
    for crashes in (1, 2):
        world.run()
        world.end(1)
        assert world.status.run.restarts.crashes == crashes
        assert world.status.phase == "Restarting"
        assert world.cluster.live() == []
        world.pass_time(20)
    world.run()
    world.end(1)
    assert world.condition("Stalled") == ("True", "TrainerCrashed")


def test_a_pod_that_others_delete_is_noted_at_once_and_costs_nothing() -> None:
    world = World()
    job = world.run(pods=2)
    first, second = world.cluster.pods(job)
    world.cluster.delete_pod(first)
    world.reconcile()
    assert world.status.run.disrupted
    world.cluster.remove(POD, first["metadata"]["name"])
    world.cluster.end_pod(second, 1)
    world.cluster.finish(job, failed=True)
    world.restart()
    world.reconcile()
    assert world.status.run.restarts.disruptions == 1
    assert world.status.run.restarts.crashes == 0


@pytest.mark.parametrize("looks", [*itertools.product([False, True], repeat=3)])
def test_a_deleted_pod_counts_once_though_all_end_in_one_second(looks: tuple[bool, ...]) -> None:
    world = World(resources={"nodes": 2})
    job = world.run(pods=2)
    first, second = world.cluster.pods(job)
    world.cluster.delete_pod(first)
    world.reconcile()
    ends = [
        lambda: world.cluster.end_pod(second, 1),
        lambda: world.cluster.end_pod(first, 75),
        lambda: world.cluster.finish(job, failed=True),
    ]
    world.live_through(ends, looks)
    assert (world.status.run.restarts.crashes, world.status.run.restarts.disruptions) == (0, 1)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("looks", [*itertools.product([False, True], repeat=5)])
def test_an_eviction_by_a_queue_counts_once_whenever_it_is_looked_at(looks: tuple[bool, ...], fails: bool) -> None:
    world = World(resources={"nodes": 2})
    name = world.run(pods=2)
    job = world.cluster.objects["jobs", name]

    def is_suspended() -> None:
        job["spec"]["suspend"] = True
        for pod in world.cluster.pods(name):
            world.cluster.delete_pod(pod)

    def pods_end() -> None:
        for pod in world.cluster.pods(name):
            world.cluster.end_pod(pod, 75)

    def job_is_about_to_fail() -> None:
        if fails:
            message = "failed with exit code 75 matching FailJob rule at index 1"
            told = {"type": "FailureTarget", "status": "True", "reason": "PodFailurePolicy", "message": message}
            job["status"]["conditions"] = [told | {"lastTransitionTime": timestamp(world.cluster.now)}]

    def pods_are_gone() -> None:
        for pod in world.cluster.pods(name):
            world.cluster.remove(POD, pod["metadata"]["name"])

    def is_resumed() -> None:
        job["spec"]["suspend"] = False
        if fails:
            job["status"]["conditions"] += [job["status"]["conditions"][0] | {"type": "Failed"}]

    world.live_through([is_suspended, pods_end, pods_are_gone, job_is_about_to_fail, is_resumed], looks)
    world.pass_time(20)
    world.run(pods=2)
    seen = fails or looks[0] or looks[1]  # a gang that only lost its pods for a moment has left no trace
    assert world.status.run.restarts.disruptions == int(seen)
    assert world.status.run.restarts.crashes == 0
    assert world.status.phase == "Training"


def test_pods_that_go_because_another_crashed_are_no_disruption() -> None:
    world = World()
    job = world.run(pods=2)
    first, second = world.cluster.pods(job)
    world.pass_time(5)
    world.cluster.end_pod(first, 1)
    world.cluster.delete_pod(second)
    world.reconcile()
    world.pass_time(1)
    world.cluster.end_pod(second, 143)
    world.cluster.finish(job, failed=True)
    world.reconcile()
    assert (world.status.run.restarts.crashes, world.status.run.restarts.disruptions) == (1, 0)


def test_an_eviction_and_the_exit_code_that_the_job_controller_noted_count_when_pods_are_gone() -> None:
    world = World()
    job = world.run()
    world.cluster.pods(job)[0]["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    world.end(137)
    assert world.status.run.restarts.disruptions == 1
    world.pass_time(20)
    job = world.run()
    (pod,) = world.cluster.pods(job)
    world.cluster.remove(POD, pod["metadata"]["name"])
    told = "Container trainer for pod ns/x failed with exit code 65 matching FailJob rule at index 0"
    world.cluster.finish(job, failed=True, reason="PodFailurePolicy", message=told)
    world.reconcile()
    assert world.condition("Stalled") == ("True", "DataInvalid")


def test_a_job_that_somebody_deletes_is_a_disruption_and_its_name_does_not_come_again() -> None:
    world = World()
    for number in range(3):
        job = world.run()
        world.step()
        assert job.endswith(f"-{number}")
        asyncio.run(world.cluster.delete(JOB, "ns", job, propagation="Foreground"))
        world.reconcile()
        assert world.status.run.disrupted
        for pod in world.cluster.pods(job):
            world.cluster.end_pod(pod, 75)
        world.cluster.collect()
        world.reconcile()
        assert world.status.run.restarts.disruptions == number + 1
        assert world.status.run.restarts.last.reason == "WorkloadDeleted"
        world.pass_time(3600)


def test_the_taint_that_evicts_a_gang_is_named_in_the_last_restart() -> None:
    world = World()
    job = world.run()
    world.step()
    taints = [
        {"key": "maintenance", "value": "disk", "effect": "NoExecute"},
        {"key": "gpu", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
    ]
    world.cluster.put(NODE, {"metadata": {"name": "gpu-7"}, "spec": {"taints": taints}})
    (pod,) = world.cluster.pods(job)
    pod["spec"] = {"nodeName": "gpu-7"}
    words = {"reason": "DeletionByTaintManager", "message": "Taint manager: deleting due to NoExecute taint"}
    pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"} | words]
    world.end(143)
    last = world.status.run.restarts.last
    assert (world.status.run.restarts.disruptions, last.reason) == (1, "DeletionByTaintManager")
    assert last.message == (
        f"{job}-0 on node gpu-7: Taint manager: deleting due to NoExecute taint; "
        "node gpu-7 is tainted maintenance=disk:NoExecute, node.kubernetes.io/unreachable:NoExecute"
    )


def test_a_lost_pod_is_given_up_a_minute_after_its_grace() -> None:
    world = World()
    job = world.run()
    world.cluster.delete_pod(world.cluster.pods(job)[0], grace=120)
    world.reconcile()
    world.pass_time(179)
    world.reconcile()
    assert world.cluster.live() == [job]
    assert "deletionTimestamp" not in world.cluster.workloads()[0]["metadata"]
    world.pass_time(2)
    world.reconcile()
    assert "deletionTimestamp" in world.cluster.workloads()[0]["metadata"]
    world.reconcile()
    world.pass_time(20)
    world.reconcile()
    assert world.status.run.attempt == 1
    assert len(world.cluster.workloads()) == 2
    assert world.status.run.restarts.disruptions == 1


def test_a_pytorchjob_whose_pod_was_deleted_is_started_anew() -> None:
    world = World(backend="PyTorchJob", resources={"nodes": 2})
    job = world.run(pods=2)
    assert world.cluster.names(PYTORCHJOB) == [job]
    first, second = world.cluster.pods(job)
    world.cluster.delete_pod(first)
    world.reconcile()
    assert world.status.run.disrupted
    assert "deletionTimestamp" in world.cluster.workloads()[0]["metadata"]
    for pod in (first, second):
        world.cluster.end_pod(pod, 75)
    world.cluster.collect()
    world.pass_time(20)
    world.reconcile()
    assert world.status.run.restarts.disruptions == 1
    assert world.job.endswith("-1")


def test_a_job_that_kubernetes_ended_at_its_deadline_has_exceeded_the_runtime_and_is_no_crash() -> None:
    world = World(retry={"maxRuntimeSeconds": 3600})
    job = world.run()
    world.step()
    for pod in world.cluster.pods(job):
        world.cluster.end_pod(pod, 143)
    world.cluster.finish(job, failed=True, reason="DeadlineExceeded", message="Job was active longer than specified")
    world.reconcile()
    assert world.condition("Stalled") == ("True", "MaxRuntimeExceeded")
    assert (world.status.run.restarts.crashes, world.status.run.restarts.disruptions) == (0, 0)
    assert world.cluster.live() == []
