"""Runs: how one begins, what it trains, and what a changed spec, a request or the schedule makes of it."""

from __future__ import annotations

import json

import pytest
from fake_cluster import frozen_runs
from world import World

from kronos_operator.names import RETRAIN_ANNOTATION
from kronos_operator.policy import Policy
from kronos_operator.settings import Settings


def test_a_model_is_trained_stage_by_stage_published_and_then_left_alone() -> None:
    world = World()
    world.reconcile()
    assert world.cluster.writes[:2] == [f"create configmaps {frozen_runs(world.cluster)[0]}", "status"]
    assert [write.split()[1] for write in world.cluster.writes[2:]] == ["configmaps", "jobs"]
    assert not world.cluster.reads  # what was just frozen is known
    job = world.run()
    assert "-tok-" in job
    assert world.condition("Ready") == ("True", "TrainingTokenizer")
    world.end()
    assert "-pred-" in world.run()
    world.end()
    status = world.status
    assert world.condition("Finished") == ("True", "Succeeded")
    assert world.condition("Available") == ("True", "Published")
    assert status.phase == "Succeeded"
    assert status.history[0].run == status.artifacts.run == status.run.id
    # 7 children, and a status for each: begun, running, next stage, running, done.
    assert len(world.cluster.writes) <= 12
    before = list(world.cluster.writes)
    world.restart()
    world.reconcile()
    assert world.cluster.writes == before


def test_a_running_training_keeps_the_spec_and_the_image_it_began_with() -> None:
    world = World()
    world.run()
    world.step()
    world.cluster.change_spec(training={"seed": 7})
    world.settings = Settings(default_image="example.org/trainer:2")
    world.restart()
    world.end(75)
    world.pass_time(60)
    world.reconcile()
    template = world.cluster.objects["jobs", world.job]["spec"]["template"]["spec"]
    assert template["containers"][0]["image"] == "example.org/trainer:1"
    assert '"seed": 100' in world.cluster.objects["configmaps", world.job]["data"]["run.json"]


@pytest.mark.parametrize(
    ("image", "starts"),
    [("example.org/ml/kronos:1", True), ("example.org/trainer:0.9", True), ("evil.example.org/kronos:1", False)],
)
def test_a_run_goes_on_with_its_frozen_image_only_if_that_is_still_allowed(image: str, starts: bool) -> None:
    world = World(image="example.org/ml/kronos:1")
    world.run()
    (name,) = frozen_runs(world.cluster)
    kept = world.cluster.objects["configmaps", name]
    content = json.loads(kept["data"]["frozen.json"]) | {"image": image}
    kept["data"]["frozen.json"] = json.dumps(content)
    policy = Policy(allowed_image_prefixes=("example.org/ml",))
    world.settings = Settings(default_image="example.org/trainer:1", policy=policy)
    world.restart()
    world.end(1)
    world.pass_time(20)
    world.reconcile()
    assert bool(world.cluster.live()) is starts
    if not starts:
        assert world.condition("Stalled") == ("True", "PolicyDenied")


def test_the_update_policy_decides_what_a_changed_spec_does_to_a_run() -> None:
    world = World()
    job = world.run()
    world.step()
    world.cluster.change_spec(predictor={"epochs": 3})
    world.reconcile()
    assert world.cluster.live() == [job]  # Finish
    world.end()
    assert "-pred-" in world.run()
    old = world.status.run.id
    world.end()
    assert world.status.run.id != old
    assert "-pred-" in world.job  # the tokenizer is used again
    cancelled = world.run()
    world.cluster.change_spec(updatePolicy="Cancel", predictor={"epochs": 4})
    world.reconcile()
    world.cluster.end_pods(cancelled, 75)
    world.reconcile()
    assert world.job != cancelled
    world.cluster.change_spec(updatePolicy="Manual")
    world.run()
    world.end()
    world.cluster.change_spec(predictor={"epochs": 5})
    world.reconcile()
    assert world.cluster.live() == []
    assert world.condition("Ready") == ("True", "UpdateWaiting")


def test_a_run_that_can_never_start_is_superseded_by_the_spec_that_mends_it() -> None:
    world = World(data={"source": {"claim": {"name": "brs"}}}, image="example.org/typo:1")
    world.reconcile()
    job = world.job
    world.cluster.make_pods(job)
    world.cluster.change_spec(data={"source": {"claim": {"name": "bars"}}}, image="example.org/right:1")
    world.reconcile()
    assert world.cluster.live() == []
    world.reconcile()
    assert world.job != job
    template = world.cluster.objects["jobs", world.job]["spec"]["template"]["spec"]
    assert template["containers"][0]["image"] == "example.org/right:1"
    world.train()
    assert world.condition("Finished") == ("True", "Succeeded")


def test_the_text_of_an_earlier_retrain_request_retrains_again() -> None:
    world = World()
    runs = []
    for words in ("a", "b", "a"):
        world.cluster.annotate(RETRAIN_ANNOTATION, words)
        world.train()
        runs.append(world.status.artifacts.run)
    assert len(set(runs)) == 3


def test_a_schedule_fires_once_however_often_the_operator_dies() -> None:
    world = World(schedule={"cron": "0 6 * * *"})
    world.train()
    assert world.status.schedule.last_time is None
    tick = world.status.schedule.next_time
    world.cluster.now = tick + 86400 * 3  # three ticks passed while nobody looked
    for _ in range(3):
        world.restart()
        world.reconcile()
    assert len(world.cluster.live()) == 1
    assert world.status.schedule.last_time == tick
    assert world.status.schedule.next_time > world.cluster.now
    world.train()
    world.restart()
    world.reconcile()
    assert len(world.status.history) == 2


def test_a_tick_that_is_due_waits_for_the_run_before_it() -> None:
    world = World(schedule={"cron": "*/5 * * * *"})
    job = world.run()
    for _ in range(3):
        world.pass_time(400)
        world.cluster.say(job, event="progress", phase="training", step=1, steps=9)
        assert (world.reconcile() or 0) > 1
    assert world.cluster.live() == [job]
    first = world.status.run.id
    world.end()
    world.run()
    world.end()
    assert world.status.run.id != first
    assert len(world.cluster.live()) == 1


def test_a_tick_of_the_schedule_stops_no_run() -> None:
    world = World(schedule={"cron": "0 * * * *"}, updatePolicy="Cancel")
    job = world.run()
    for _ in range(3):
        world.pass_time(3600)
        world.step()
    assert world.cluster.live() == [job]
    world.cluster.annotate(RETRAIN_ANNOTATION, "now")
    world.reconcile()
    assert world.status.run.stop == "Superseded"
