"""Children: what is created again, what is deleted and when, and what is left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from fake_cluster import JOB, PYTORCHJOB, frozen_runs, timestamp
from world import KEY, World

from kronos_operator.kube import Kind
from kronos_operator.kube.kinds import CONFIGMAP, KRONOSMODEL, POD, SERVICE
from kronos_operator.names import RETRAIN_ANNOTATION


def test_ended_children_are_deleted_after_their_ttl_and_the_last_failure_stays() -> None:
    world = World(childTTLSecondsAfterFinished=100, historyLimit=1)
    for _ in range(2):
        world.run()
        world.end(1)
        world.pass_time(30)
    world.reconcile()
    assert len([name for name in world.cluster.names(JOB) if name not in world.cluster.live()]) == 1
    world.train()
    due = world.reconcile()
    assert due == pytest.approx(100, abs=1)
    assert len(world.cluster.names(JOB)) == 2
    world.pass_time(101)
    world.reconcile()
    assert world.cluster.names(JOB) == world.cluster.names(SERVICE) == []
    assert world.cluster.names(CONFIGMAP) == frozen_runs(world.cluster)
    assert world.condition("Finished") == ("True", "Succeeded")
    world.restart()
    world.reconcile()
    assert world.cluster.live() == []
    assert len(world.status.history) == 1


def expired_world(**spec: Any) -> World:
    """A world whose run has ended, and whose children have just expired."""
    world = World(childTTLSecondsAfterFinished=100, **spec)
    world.reconcile()
    while world.status.phase != "Succeeded":
        job = world.run()
        # What the evaluation has decided: a success without it is repeated.
        result = {"stage": "evaluation", "promotion": {"decision": "Published", "message": ""}}
        world.cluster.say(job, event="result", result=result if "-eval-" in job else {"stage": "tokenizer"})
        world.pass_time(200)  # no stage's children go before the run's end
        world.end()
    world.pass_time(101)
    world.cluster.writes.clear()
    return world


@pytest.mark.parametrize(("backend", "kind", "stages"), [("Job", JOB, 3), ("PyTorchJob", PYTORCHJOB, 2)])
def test_what_a_run_leaves_behind_goes_by_one_request_for_each_kind(backend: str, kind: Kind, stages: int) -> None:
    world = expired_world(backend=backend, evaluation={"enabled": stages == 3})
    assert len(world.cluster.names(kind)) == stages
    world.reconcile()
    assert world.cluster.writes == ["deletecollection configmaps", f"deletecollection {kind.plural}"]
    assert world.cluster.names(kind) == []
    assert world.cluster.names(CONFIGMAP) == frozen_runs(world.cluster) != []


def test_a_role_that_allows_no_collections_lets_them_be_deleted_one_by_one() -> None:
    world = expired_world()
    world.cluster.single_deletions = True
    world.reconcile()
    assert [write.split()[0] for write in world.cluster.writes] == ["delete"] * 4
    assert world.cluster.names(JOB) == []


def test_a_copy_of_a_job_is_not_deleted_with_those_that_expire() -> None:
    world = expired_world()
    job = world.cluster.names(JOB)[0]
    copied = copy.deepcopy(world.cluster.objects["jobs", job])
    copied["metadata"]["name"] = f"{job}-debug"
    world.cluster.put(JOB, copied)
    world.reconcile()
    assert world.cluster.names(JOB) == [f"{job}-debug"]
    assert "deletionTimestamp" not in world.cluster.objects["jobs", f"{job}-debug"]["metadata"]


def test_what_was_asked_to_go_is_asked_again_only_if_it_stays_longer_than_a_watch_lags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = expired_world()
    first, _ = world.cluster.names(JOB)
    monkeypatch.setattr(world.cluster, "collect", lambda: None)  # the garbage collector takes its time
    world.lister.freeze()
    world.reconcile()
    assert len(world.cluster.writes) == 2
    before = world.lister.workloads(KEY)
    monkeypatch.setattr(
        world.lister, "workloads", lambda key: [body for body in before if body["metadata"]["name"] == first]
    )
    world.reconcile()  # the watch has shown that one of them is gone
    assert len(world.cluster.writes) == 2
    world.pass_time(61)
    world.reconcile()
    assert world.cluster.writes[2:] == [f"delete jobs {first}"]


def test_an_earlier_run_goes_with_what_it_was_to_train_and_leaves_the_present_one_alone() -> None:
    world = expired_world()
    (before,) = frozen_runs(world.cluster)
    world.cluster.annotate(RETRAIN_ANNOTATION, "again")
    world.run()
    after = [name for name in frozen_runs(world.cluster) if name != before]
    assert frozen_runs(world.cluster) == after
    assert world.cluster.names(JOB) == [world.job]
    assert sorted(world.cluster.names(CONFIGMAP)) == sorted([world.job, *after])


def test_a_foreign_object_with_a_childs_labels_neither_stops_nor_blocks_a_run_and_is_warned_of_once() -> None:
    world = World()
    job = world.run()
    copied = copy.deepcopy(world.cluster.objects["jobs", job])
    copied["metadata"]["name"] = f"{job}-debug"
    world.cluster.put(JOB, copied)
    labels = copied["metadata"]["labels"]
    world.cluster.put(POD, {"metadata": {"name": "look", "labels": labels}, "status": {"phase": "Running"}})
    for _ in range(3):
        world.pass_time(31)
        world.reconcile()
    assert not any(body["metadata"].get("deletionTimestamp") for body in world.cluster.workloads())
    assert world.cluster.events.count(("Warning", "ForeignObject")) == 2
    world.cluster.end_pods(job, 1)
    world.reconcile()
    world.pass_time(20)
    world.reconcile()
    assert f"{job[:-1]}1" in world.cluster.live()
    world.cluster.change_spec(suspend=True)
    world.reconcile()
    assert not world.cluster.objects["jobs", f"{job}-debug"]["metadata"].get("deletionTimestamp")


def test_a_model_that_is_deleted_is_left_alone_and_forgotten() -> None:
    world = World()
    world.run()
    world.cluster.model()["metadata"]["deletionTimestamp"] = timestamp(world.cluster.now)
    world.cluster.touch(world.cluster.model())
    writes = list(world.cluster.writes)
    assert world.reconcile() is None
    assert world.cluster.writes == writes
    world.cluster.remove(KRONOSMODEL, "m")
    world.reconciler.models.remove(KEY)
    world.reconciler.forget(KEY)
    assert world.reconcile() is None
    assert world.metrics.phases() == {}


@pytest.mark.parametrize(("backend", "kinds"), [("Job", (CONFIGMAP, SERVICE)), ("PyTorchJob", (CONFIGMAP,))])
@pytest.mark.parametrize("runs", [False, True], ids=["waits", "runs"])
def test_a_config_map_or_service_that_somebody_deletes_is_created_again_for_a_gang_that_has_not_trained(
    backend: str, kinds: tuple[Kind, ...], runs: bool
) -> None:
    world = World(backend=backend, resources={"nodes": 2})
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job, 2)
    for pod in world.cluster.pods(job):
        pod["spec"] = {"nodeName": "n"}
    if runs:
        world.cluster.run_pods(job)
    before = {kind: copy.deepcopy(world.cluster.objects[kind.plural, job]) for kind in kinds}
    for kind in kinds:
        world.cluster.remove(kind, job)
    world.reconcile()
    assert job not in world.cluster.names(CONFIGMAP)  # what takes a moment is given that
    world.pass_time(31)
    world.reconcile()
    for kind in kinds:
        restored = world.cluster.objects[kind.plural, job]
        for part in ("data", "spec"):
            assert restored.get(part) == before[kind].get(part)
        assert restored["metadata"]["ownerReferences"] == before[kind]["metadata"]["ownerReferences"]
    assert world.cluster.names(SERVICE) == ([job] if SERVICE in kinds else [])
    assert world.cluster.events.count(("Warning", "ChildRestored")) == len(kinds)
    assert world.status.run.attempt == 0


def test_children_are_looked_for_only_while_a_placed_gang_has_not_trained() -> None:
    world = World(resources={"nodes": 2})
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job, 2)
    world.reconcile()

    def reads() -> list[str]:
        world.cluster.reads.clear()
        world.pass_time(31)
        world.reconcile()
        return [read for read in world.cluster.reads if read.endswith(job) and read.startswith("get")]

    assert reads() == []  # it waits for a node
    world.cluster.run_pods(job)
    assert reads() == [f"get configmaps {job}", f"get services {job}"]
    world.step()
    assert reads() == []


def test_a_run_whose_frozen_config_is_lost_fails_with_the_cause() -> None:
    world = World()
    job = world.run()
    for name in world.cluster.names(CONFIGMAP):
        world.cluster.remove(CONFIGMAP, name)
    world.cluster.change_spec(predictor={"learningRate": 0.5}, updatePolicy="Manual")
    world.pass_time(31)
    world.reconcile()
    assert world.status.phase == "Failed"
    assert world.status.failure.reason == "RunConfigLost"
    assert "deletionTimestamp" in world.cluster._workload(job)["metadata"]
