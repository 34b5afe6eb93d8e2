"""An operator that is cut off anywhere, overtaken by another, or has a watch that lags behind."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from fake_cluster import JOB, Crash
from world import KEY, World, running_world

from kronos_operator.names import CANCEL_ANNOTATION, RETRAIN_ANNOTATION
from kronos_operator.reconcile.causes import disruption_of
from kronos_operator.reconcile.reconciler import Reconciler


def test_after_a_conflict_the_newest_version_is_decided_on() -> None:
    world = World()
    world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
    world.cluster.change_spec(suspend=True)
    asyncio.run(world.reconciler.reconcile(KEY))
    assert world.status.phase == "Suspended"
    assert world.cluster.live() == []


def test_a_lagging_watch_creates_no_job_twice() -> None:
    world = World()
    world.lister.freeze()
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job)
    world.cluster.run_pods(job)
    for _ in range(3):
        world.restart()
        world.reconcile()
    assert [write for write in world.cluster.writes if write.startswith("create jobs")] == [f"create jobs {job}"]


def test_a_gang_that_a_lagging_watch_does_not_list_is_stopped_when_it_is_cancelled() -> None:
    world = World()
    world.lister.freeze()
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job)
    world.cluster.run_pods(job)
    world.cluster.annotate(CANCEL_ANNOTATION, "now")
    world.cluster.annotate(RETRAIN_ANNOTATION, "now")
    world.reconcile()
    assert world.cluster.live() == [job]
    assert "deletionTimestamp" in world.cluster.workloads()[0]["metadata"]


def calls_of_a_pass(make: Callable[[], World]) -> int:
    world = make()
    before = world.cluster.calls
    world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
    asyncio.run(world.reconciler.reconcile(KEY))
    return world.cluster.calls - before


@pytest.mark.parametrize("make", [World, running_world])
def test_a_change_that_comes_at_any_moment_of_a_pass_is_acted_on(make: Callable[[], World]) -> None:
    total = calls_of_a_pass(make)
    assert total >= 2
    for moment in range(total):
        world = make()

        async def suspend(world: World = world) -> None:
            world.cluster.change_spec(suspend=True)
            world.reconciler.models.put(copy.deepcopy(world.cluster.model()))

        world.cluster.meanwhile[world.cluster.calls + moment] = suspend
        world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
        for _ in range(4):  # of which nobody tells the operator anything more
            asyncio.run(world.reconciler.reconcile(KEY))
        started = [body for body in world.cluster.workloads() if "deletionTimestamp" not in body["metadata"]]
        assert started == [], f"before answer {moment}"


@pytest.mark.parametrize("make", [World, running_world])
def test_an_operator_that_is_overtaken_leaves_the_others_gang_alone_and_ends_its_own(make: Callable[[], World]) -> None:
    total = calls_of_a_pass(make)
    for moment in range(total):
        world = make()
        slow = world.reconciler
        world.restart()
        quick = world.reconciler

        async def overtake(world: World = world, slow: Reconciler = slow, quick: Reconciler = quick) -> None:
            """The other operator sees two attempts crash and starts the next, which the slow one is told of."""
            for _ in range(3):
                for _ in range(3):
                    world.pass_time(60)
                    quick.models.put(copy.deepcopy(world.cluster.model()))
                    await quick.reconcile(KEY)
                    for job in world.cluster.live():
                        world.cluster.make_pods(job)
                        world.cluster.run_pods(job)
                if world.status.run.attempt < 2:
                    world.cluster.end_pods(world.job, 1)
            slow.models.put(copy.deepcopy(world.cluster.model()))

        world.cluster.meanwhile[world.cluster.calls + moment] = overtake
        slow.models.put(copy.deepcopy(world.cluster.model()))
        for _ in range(4):
            asyncio.run(slow.reconcile(KEY))
        (live,) = world.cluster.live()
        assert live.endswith("-2") and world.status.run.attempt == 2, f"before answer {moment}"


def test_a_changed_backend_starts_no_second_gang_beside_one_that_a_lagging_watch_does_not_list() -> None:
    world = World()
    world.lister.freeze()
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job)
    world.cluster.run_pods(job)
    world.cluster.change_spec(backend="PyTorchJob")
    for _ in range(3):
        world.reconcile()
    assert [body["kind"] for body in world.cluster.workloads()] == ["Job"]


def test_a_run_trains_what_it_was_begun_with_though_the_operator_died_before_its_first_child() -> None:
    world = World(updatePolicy="Manual")  # else a run that has trained nothing gives way
    world.cluster.crash_in = 1  # the record is written
    with pytest.raises(Crash):
        world.reconcile()
    assert world.cluster.names(JOB) == []
    first = world.status.run.id
    world.cluster.change_spec(training={"seed": 7})
    world.restart()
    world.train()
    assert world.status.history[0].run == first
    assert '"seed": 100' in world.cluster.objects["configmaps", world.cluster.names(JOB)[0]]["data"]["run.json"]
    world.cluster.change_spec(updatePolicy="Finish")
    world.reconcile()
    assert world.status.run.id != first


def test_an_operator_that_was_left_behind_starts_and_stops_nothing() -> None:
    world = World()
    world.reconcile()
    job = world.job
    behind = world.reconciler
    world.restart()
    world.run()
    world.end(1)
    world.cluster.remove(JOB, job)
    world.pass_time(60)
    world.run()
    asyncio.run(behind.reconcile(KEY))
    assert world.cluster.writes.count(f"create jobs {job}") == 1
    assert world.job != job
    assert not any(body["metadata"].get("deletionTimestamp") for body in world.cluster.workloads())


def scenario(world: World) -> None:
    """A crash, an eviction, a suspension, both stages, and the end of the children: everything has its turn."""
    steps: list[tuple[int, bool]] = [(1, False), (75, False), (75, True), (0, False), (0, False)]
    for code, suspend in steps:
        surviving(world)
        job = world.job
        world.cluster.make_pods(job)
        world.cluster.run_pods(job)
        surviving(world)
        if suspend:
            world.cluster.change_spec(suspend=True)
            surviving(world)
        world.pass_time(1)
        world.cluster.end_pods(job, code)
        surviving(world)
        if suspend:
            world.cluster.change_spec(suspend=False)
        world.pass_time(60)
    world.pass_time(86400)
    surviving(world)
    surviving(world)


def surviving(world: World) -> None:
    """Reconciles, as a new process after each crash."""
    for _ in range(10):
        try:
            world.reconcile()
        except Crash:
            world.restart()
        else:
            return
    raise AssertionError("no pass came to its end")


def outcome(world: World) -> dict[str, Any]:
    kept = sorted(name for plural, name in world.cluster.objects if plural != "kronosmodels")
    return {"status": world.cluster.model()["status"], "objects": kept}


def test_a_process_killed_between_any_two_effects_changes_nothing() -> None:
    whole = World()
    scenario(whole)
    assert whole.condition("Finished") == ("True", "Succeeded")
    total = len(whole.cluster.writes)
    assert total > 20
    made = [write for write in whole.cluster.writes if write.startswith("create jobs")]
    for at in range(total):
        world = World()
        world.cluster.crash_in = at
        scenario(world)
        assert outcome(world) == outcome(whole), f"killed after write {at}: {whole.cluster.writes[at]}"
        assert [write for write in world.cluster.writes if write.startswith("create jobs")] == made


def test_pods_that_went_with_their_node_are_remembered_by_the_job() -> None:
    """The Job controller saw the condition of a pod that nobody can read any more."""
    said = "Pod ns/m-0 has condition DisruptionTarget matching FailJob rule at index 2"
    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": said}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "m"}, "status": {"conditions": [failed]}}
    found = disruption_of(job, [])
    assert found is not None and (found.reason, found.message) == ("Disrupted", said)
    crashed = {**failed, "message": "Container trainer for pod ns/m-0 failed with exit code 65 matching FailJob rule"}
    assert disruption_of({**job, "status": {"conditions": [crashed]}}, []) is None
