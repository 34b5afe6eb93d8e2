"""Status: progress, metrics, artifacts, conditions and notes."""

from __future__ import annotations

import asyncio

import pytest
from fake_cluster import make_model
from world import KEY, World, running_world

from kronos_operator.api import Phase, Progress, Status
from kronos_operator.kube.kinds import (
    KRONOSMODEL,
    PVC,
)
from kronos_operator.names import RETRAIN_ANNOTATION
from kronos_operator.reconcile.status import worth_writing


def test_progress_metrics_and_artifacts_come_from_the_log_of_rank_0() -> None:
    world = World()
    job = world.run()
    world.cluster.say(job, event="phase", phase="training", step=10, steps=100, percent=10.0, etaSeconds=7980)
    world.cluster.logs[f"{job}-0"] += '{"kronos": 1, "event": "progress", "loss": NaN, "percent": \nwarning: x\n'
    world.pass_time(31)
    world.reconcile()
    progress = world.status.progress
    assert (progress.summary, progress.eta, progress.step, progress.epoch) == ("10%", "2h13m", 10, None)

    world.cluster.say(job, event="progress", phase="training", step=41, steps=100, percent=41.0, checkpoint=40)
    world.pass_time(31)
    world.reconcile()
    assert world.status.checkpoint.step == 40
    writes = len(world.cluster.writes)
    world.cluster.say(job, event="progress", phase="training", step=41, steps=100, percent=41.1, loss=1.5)
    world.pass_time(31)
    world.reconcile()
    assert len(world.cluster.writes) == writes  # the percentage stands
    world.pass_time(300)
    world.cluster.say(job, event="progress", phase="training", step=41, steps=100, percent=41.2, loss=1.5)
    world.reconcile()
    assert world.status.progress.loss == 1.5

    result = {"stage": "tokenizer", "digest": "d" * 64, "bestValidationLoss": 0.5, "seconds": 90.0, "epochs": 3}
    result |= {"bytes": 512, "dataThrough": "2024-03-01T00:00:00"}
    world.cluster.say(job, event="result", stage="tokenizer", result=result)
    world.end()
    job = world.run()
    world.cluster.say(job, event="result", result=result | {"stage": "predictor", "digest": "e" * 64})
    world.end()
    status = world.status
    assert status.artifacts.tokenizer.digest == "d" * 64
    assert status.artifacts.predictor.digest == "e" * 64
    assert (status.artifacts.tokenizer.bytes, status.artifacts.tokenizer.data_through) == (512, "2024-03-01")
    assert status.metrics["predictorBestValidationLoss"] == 0.5
    assert status.history[0].metrics["tokenizerSeconds"] == 90.0
    assert (status.progress.summary, status.progress.eta) == ("100%", None)


@pytest.mark.parametrize(
    ("seconds", "summary", "phase", "told"),
    [
        (29, "44%", Phase.TRAINING, False),
        (30, "44%", Phase.TRAINING, True),
        (299, "43%", Phase.TRAINING, False),
        (300, "43%", Phase.TRAINING, True),
        (1, "43%", Phase.RESTARTING, True),
    ],
)
def test_progress_alone_is_written_no_more_often_than_the_interval(
    seconds: int, summary: str, phase: Phase, told: bool
) -> None:
    def status(phase: Phase, summary: str, at: float) -> Status:
        return Status(phase=phase, progress=Progress(summary=summary, updated_at=at))

    assert worth_writing(status(Phase.TRAINING, "43%", 1000), status(phase, summary, 1000 + seconds), 30.0) is told


def test_only_the_ready_condition_has_a_long_message_in_full() -> None:
    world = World()
    world.run()
    world.end(65, '{"kronos":1,"event":"error","message":"%s"}' % ("x" * 2000))
    said = {condition.type: condition.message for condition in world.status.conditions}
    assert said.pop("Ready") == "x" * 1024
    assert max(map(len, said.values())) == 256


def test_a_node_that_is_not_ready_is_named_in_the_conditions_while_its_pod_seems_to_run() -> None:
    world = World()
    job = world.run()
    (pod,) = world.cluster.pods(job)
    pod["spec"] = {"nodeName": "gpu-7"}
    pod["status"]["containerStatuses"][0]["ready"] = True
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    world.reconcile()
    (ready,) = [one for one in world.status.conditions if one.type == "Ready"]
    assert (ready.status, ready.reason) == ("True", "TrainingTokenizer")
    assert ready.message.endswith("not ready: node gpu-7")
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    world.reconcile()
    assert not any("gpu-7" in one.message for one in world.status.conditions)


def test_damaged_checkpoints_that_were_skipped_stay_in_status() -> None:
    world = World()
    job = world.run()
    world.cluster.say(job, event="checkpointSkipped", step=40, directory="step-40", reason="weights: digest differs")
    world.step()
    assert world.status.skipped_checkpoints == ["step 40: weights: digest differs"]
    world.end(1)
    world.restart()
    world.pass_time(20)
    world.run()
    world.step()
    assert world.status.skipped_checkpoints == ["step 40: weights: digest differs"]


def test_what_trainers_noted_of_the_bars_stays_in_status_few_and_short() -> None:
    world = World()
    job = world.run()
    for index in range(20):
        world.cluster.say(job, event="note", message=f"note {index}: " + "some prices are 0, " * 50)
    world.step()
    assert [note[:8] for note in world.status.notes] == [f"note {index}: "[:8] for index in range(8)]
    assert {len(note) for note in world.status.notes} == {256}
    before = world.status.notes
    world.end(1)
    world.restart()
    world.pass_time(20)
    job = world.run()
    world.cluster.say(job, event="note", message="one more")
    world.step()
    assert world.status.notes == before


def test_a_claim_that_nodes_cannot_share_sets_a_condition() -> None:
    world = World(resources={"nodes": 2})
    world.cluster.put(PVC, {"metadata": {"name": "models"}, "spec": {"accessModes": ["ReadWriteOnce"]}})
    world.reconcile()
    assert world.condition("StorageShared") == ("False", "StorageNotShared")
    assert world.cluster.live() != []


def test_a_model_that_is_deleted_during_a_pass_leaves_no_metrics() -> None:
    world = running_world()
    asyncio.run(world.reconciler.reconcile(KEY))
    world.pass_time(31)  # its log is read again, and has nothing new

    async def delete() -> None:
        world.cluster.remove(KRONOSMODEL, "m")
        world.reconciler.models.remove(KEY)
        world.reconciler.forget(KEY)

    world.cluster.meanwhile[world.cluster.calls] = delete
    asyncio.run(world.reconciler.reconcile(KEY))
    assert world.metrics.phases() == {} and world.metrics.checkpoint_ages() == {}


def test_a_model_created_anew_under_the_same_name_inherits_no_progress() -> None:
    world = running_world()
    asyncio.run(world.reconciler.reconcile(KEY))
    assert world.status.progress.percent == 50.0
    for plural, name in list(world.cluster.objects):
        del world.cluster.objects[plural, name]
    world.cluster.logs.clear()
    world.cluster.put(KRONOSMODEL, make_model())
    world.run()
    assert world.status.progress is None


def test_no_more_ended_runs_than_the_history_limit_are_kept_and_the_newest_is_first() -> None:
    world = World(historyLimit=2)
    ended = []
    for request in ("", "monday", "tuesday"):
        if request:
            world.cluster.annotate(RETRAIN_ANNOTATION, request)
        world.train()
        ended.insert(0, world.status.run.id)
    assert [entry.run for entry in world.status.history] == ended[:2]
    world.cluster.change_spec(historyLimit=0)
    world.reconcile()
    assert world.status.history == []


def test_that_pods_are_being_made_is_no_event_and_that_they_train_or_wait_in_vain_is_one() -> None:
    world = World()
    world.reconcile()
    assert world.condition("Ready") == ("True", "Pending")
    assert world.cluster.events == []
    world.run()
    assert world.cluster.events == [("Normal", "TrainingTokenizer")]
