"""Suspending, resuming and cancelling."""

from __future__ import annotations

from fake_cluster import timestamp
from world import World

from kronos_operator.names import CANCEL_ANNOTATION, RETRAIN_ANNOTATION


def test_suspend_waits_for_the_pods_and_resume_counts_nothing() -> None:
    world = World()
    job = world.run()
    world.cluster.change_spec(suspend=True)
    world.reconcile()
    assert world.status.phase == "Suspending"
    world.cluster.end_pods(job, 75)
    world.reconcile()
    assert world.status.phase == "Suspended"
    assert world.cluster.workloads() == []
    world.cluster.change_spec(suspend=False)
    assert world.run().endswith("-1")
    assert not any(world.status.run.restarts.model_dump().values())


def test_a_gang_is_stopped_by_its_name() -> None:
    world = World()
    world.run()
    world.end()
    job = world.run()
    world.cluster.annotate(CANCEL_ANNOTATION, "now")
    world.cluster.reads.clear()
    world.reconcile()
    assert [write for write in world.cluster.writes if write.startswith("delete")] == [f"delete jobs {job}"]
    # By labels, the API server would look through all that thousands of models have.
    assert not [read for read in world.cluster.reads if read.startswith("list")]


def test_retrain_and_cancel_are_each_answered_once() -> None:
    world = World()
    world.train()
    first = world.status.run.id
    world.cluster.annotate(RETRAIN_ANNOTATION, "monday")
    world.train()
    assert world.status.run.id != first
    assert world.status.tracking.last_trigger == "monday"
    assert world.reconcile() is not None  # its children expire some day
    assert world.cluster.live() == []

    world.cluster.annotate(RETRAIN_ANNOTATION, "tuesday")
    job = world.run()
    world.cluster.annotate(CANCEL_ANNOTATION, "now")
    world.reconcile()
    world.cluster.end_pods(job, 75)
    world.reconcile()
    assert world.condition("Finished") == ("True", "Cancelled")
    del world.cluster.model()["metadata"]["annotations"][CANCEL_ANNOTATION]
    world.cluster.annotate(RETRAIN_ANNOTATION, "wednesday")
    world.train()
    assert world.condition("Finished") == ("True", "Succeeded")
    assert [entry.outcome for entry in world.status.history] == ["Succeeded", "Cancelled", "Succeeded", "Succeeded"]


def test_a_cancel_answers_what_was_asked_for_before_it_and_not_what_comes_after() -> None:
    world = World(schedule={"cron": "0 6 * * *"})
    world.run()
    world.cluster.now = world.status.schedule.next_time + 60
    world.cluster.annotate(RETRAIN_ANNOTATION, timestamp(world.cluster.now))
    world.step()
    world.cluster.annotate(CANCEL_ANNOTATION, timestamp(world.cluster.now))
    world.reconcile()
    world.cluster.end_pods(world.job, 75)
    world.reconcile()
    assert world.condition("Finished") == ("True", "Cancelled")
    assert world.cluster.live() == []
    assert world.status.schedule.next_time > world.cluster.now
    del world.cluster.model()["metadata"]["annotations"][CANCEL_ANNOTATION]
    world.cluster.annotate("example.org/note", "tidied up")
    world.reconcile()
    assert world.cluster.live() == []

    world.pass_time(60)
    world.cluster.annotate(RETRAIN_ANNOTATION, timestamp(world.cluster.now))
    world.run()
    world.pass_time(60)
    world.cluster.annotate(CANCEL_ANNOTATION, timestamp(world.cluster.now))
    later = timestamp(world.cluster.now + 1)
    world.cluster.annotate(RETRAIN_ANNOTATION, later)  # seen together with the cancel request
    world.reconcile()
    world.cluster.end_pods(world.job, 75)
    world.reconcile()
    assert [entry.outcome for entry in world.status.history] == ["Cancelled", "Cancelled"]
    assert len(world.cluster.live()) == 1
    assert world.status.run.trigger == later
