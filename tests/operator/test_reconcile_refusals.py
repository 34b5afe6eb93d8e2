"""What is refused here, rejected by the API server, or postponed until something outside changes."""

from __future__ import annotations

import json

import pytest
from fake_cluster import JOB, frozen_runs
from world import World

from kronos_operator.kube import ClusterError, Rejected
from kronos_operator.kube.kinds import CONFIGMAP
from kronos_operator.policy import Policy
from kronos_operator.settings import Settings


def refused(world: World) -> str:
    world.reconcile()
    assert world.cluster.names(JOB) == world.cluster.names(CONFIGMAP) == []
    status, reason = world.condition("Stalled")
    assert status == "True"
    return reason


def test_a_spec_that_is_refused_here_gets_no_children_and_says_why() -> None:
    local = World(data={"source": {"path": "bars"}})
    assert refused(local) == "LocalPathInCluster"
    assert "claim" in next(item.message for item in local.status.conditions if item.type == "Ready")
    policy = Policy(max_nodes=1)
    denied = World(Settings(default_image="i", policy=policy), resources={"nodes": 2})
    assert refused(denied) == "PolicyDenied"
    assert refused(World(Settings())) == "ImageMissing"
    assert refused(World(schedule={"cron": "0 6 * * *", "timeZone": "Mars/Olympus"})) == "SpecInvalid"
    denied.cluster.change_spec(resources={"nodes": 1})
    denied.run()
    assert denied.condition("Stalled")[0] == "False"


def test_a_finished_model_whose_new_spec_is_refused_is_not_finished() -> None:
    world = World(Settings(default_image="i", policy=Policy(max_nodes=1)))
    world.train()
    world.cluster.change_spec(resources={"nodes": 2})
    world.reconcile()
    assert world.condition("Finished") == ("False", "PolicyDenied")
    world.cluster.change_spec(resources={"nodes": 1})
    world.reconcile()
    assert world.condition("Finished") == ("True", "Succeeded")


def test_a_run_in_progress_is_not_touched_by_a_spec_that_is_refused() -> None:
    world = World()
    job = world.run()
    world.cluster.change_spec(data={"source": {"path": "bars"}})
    world.reconcile()
    assert world.cluster.live() == [job]
    assert world.condition("Stalled") == ("True", "LocalPathInCluster")


def test_a_child_that_the_server_will_never_accept_ends_the_run_and_a_new_spec_mends_it() -> None:
    world = World()
    world.cluster.reject["Job"] = Rejected("spec.template: Invalid value", status=422)
    world.reconcile()
    assert world.condition("Stalled") == ("True", "ChildRejected")
    assert world.status.failure.message == "spec.template: Invalid value"
    world.reconcile()
    world.cluster.reject.clear()
    world.cluster.change_spec(image="example.org/other:1")
    world.train()
    assert world.condition("Finished") == ("True", "Succeeded")


def test_an_exceeded_quota_is_shown_and_waited_for() -> None:
    world = World()
    world.cluster.reject["Job"] = Rejected("exceeded quota: gpus", status=403)
    with pytest.raises(Exception, match="exceeded quota"):
        world.reconcile()
    assert world.condition("Ready") == ("True", "QuotaExceeded")
    world.cluster.reject.clear()
    world.run()
    assert world.condition("Ready") == ("True", "TrainingTokenizer")


def test_a_childs_name_that_another_owner_has_taken_is_waited_for() -> None:
    world = World()
    world.reconcile()
    job = world.cluster.objects["jobs", world.job]
    job["metadata"]["ownerReferences"] = [{"uid": "other", "controller": True}]
    with pytest.raises(ClusterError, match="does not belong to this model: delete it"):
        world.reconcile()
    assert world.condition("Ready") == ("True", "NameTaken")
    world.cluster.remove(JOB, job["metadata"]["name"])
    world.reconcile()
    assert world.cluster.objects["jobs", world.job]["metadata"]["uid"] != job["metadata"]["uid"]


def test_a_run_whose_config_map_cannot_be_created_now_has_not_begun() -> None:
    world = World()
    world.cluster.reject["ConfigMap"] = Rejected("exceeded quota: few-configmaps", status=403)
    with pytest.raises(ClusterError, match="exceeded quota"):
        world.reconcile()
    assert world.condition("Ready") == ("True", "QuotaExceeded")
    assert world.status.run is None
    world.cluster.reject.clear()
    world.train()
    assert world.condition("Finished") == ("True", "Succeeded")


def test_a_run_whose_config_map_is_rejected_for_good_is_stalled() -> None:
    world = World()
    world.cluster.reject["ConfigMap"] = Rejected("data: Too long", status=422)
    world.reconcile()
    assert world.condition("Stalled") == ("True", "ChildRejected")
    assert world.reconcile() is None


def test_somebody_elses_config_map_is_left_alone() -> None:
    world = World()
    world.reconcile()
    (name,) = frozen_runs(world.cluster)
    world = World()
    other = {"metadata": {"name": name, "ownerReferences": [{"uid": "other", "controller": True}]}, "data": {}}
    world.cluster.put(CONFIGMAP, other)
    with pytest.raises(ClusterError, match=f"ConfigMap {name} exists and does not belong to this model"):
        world.reconcile()
    assert world.condition("Ready") == ("True", "NameTaken")
    assert world.cluster.objects[CONFIGMAP.plural, name] is other


def test_what_a_refused_attempt_left_is_not_read_by_the_one_that_starts() -> None:
    world = World()
    world.cluster.reject["Job"] = Rejected("denied by a webhook", status=403)
    with pytest.raises(ClusterError):
        world.reconcile()
    world.cluster.reject.clear()
    world.cluster.change_spec(storage={"claim": {"name": "models", "path": "elsewhere"}})
    world.reconcile()
    config = json.loads(world.cluster.objects[CONFIGMAP.plural, world.job]["data"]["run.json"])
    assert config["output"].endswith("/elsewhere")


def test_a_postponed_start_is_not_counted_as_a_reconcile_error() -> None:
    world = World()
    world.cluster.reject["Job"] = Rejected("exceeded quota: few-jobs", status=403)
    with pytest.raises(ClusterError):
        world.reconcile()
    assert world.metrics.registry.get_sample_value("kronos_reconcile_errors_total") == 0


def test_an_obstacle_is_shown_no_longer_than_it_stands_in_the_way() -> None:
    world = World()
    world.cluster.reject["Job"] = Rejected("exceeded quota: gpus", status=403)
    with pytest.raises(ClusterError, match="exceeded quota"):
        world.reconcile()
    world.cluster.reject.clear()
    world.reconcile()
    assert world.cluster.live() != []
    world.reconcile()
    assert world.condition("Ready") == ("True", "Pending")
