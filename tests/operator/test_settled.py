"""Models that an operator has left with nothing to do, as the next one lists them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_cluster import JOB, Crash, timestamp
from world import KEY, World

from kronos_operator import names
from kronos_operator.kube import Change
from kronos_operator.kube.kinds import POD
from kronos_operator.policy import Policy
from kronos_operator.reconcile.operation import Operation
from kronos_operator.settings import Settings


def trained(**spec: Any) -> World:
    """A model that has ended, an hour before its children expire."""
    world = World(childTTLSecondsAfterFinished=3600, **spec)
    world.train()
    return world


def started(world: World, settings: Settings | None = None) -> Operation:
    """A new process that has listed everything."""
    cluster: Any = world.cluster
    operation = Operation(cluster, settings or world.settings)
    for body in world.cluster.children():
        operation._child_changed(KEY, body)
    for change in operation.reconciler.models.put(world.cluster.model()):
        operation.model_changed(change)
    operation.listed()
    return operation


def due(operation: Operation) -> float | None:
    """In how many seconds the model is to be looked at."""
    moment = operation.queue._due.get(KEY)
    return None if moment is None else max(0.0, moment - operation.queue._clock())


def test_one_with_nothing_to_do_is_looked_at_when_its_children_expire() -> None:
    world = trained()
    world.pass_time(600)
    operation = started(world)
    assert due(operation) == pytest.approx(3000, abs=5)
    assert operation.metrics.phases() == {("ns", "Succeeded"): 1}  # all the same


def test_once_its_children_are_gone_nothing_is_due() -> None:
    world = trained()
    world.pass_time(3601)
    assert due(started(world)) == 0.0
    world.reconcile()
    world.cluster.collect()
    operation = started(world)
    assert not world.cluster.workloads()
    assert due(operation) is None
    operation.model_changed(Change(KEY, None, world.cluster.model()))
    assert due(operation) == 0.0


def test_a_failed_model_rests_too() -> None:
    world = World(childTTLSecondsAfterFinished=3600)
    world.run()
    world.end(65)
    assert world.status.phase == "Failed"
    assert due(started(world)) == pytest.approx(3600, abs=5)


def test_one_that_ends_while_more_is_asked_for_is_looked_at() -> None:
    world = World(childTTLSecondsAfterFinished=3600)
    world.run()
    world.end()
    job = world.run()
    world.cluster.change_spec(predictor={"epochs": 31})  # waits for the end of this run
    world.cluster.end_pods(job, 0)
    world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
    assert asyncio.run(world.reconciler.reconcile(KEY)) == 0.0  # the operator dies before it is back
    assert world.status.phase == "Succeeded"
    assert due(started(world)) == 0.0


def test_a_promotion_of_which_only_the_intention_is_written_is_looked_at() -> None:
    world = trained()
    world.cluster.annotate(names.PROMOTE_ANNOTATION, world.status.run.id)
    world.reconciler.models.put(copy.deepcopy(world.cluster.model()))
    world.cluster.crash_in = 0
    with pytest.raises(Crash):
        asyncio.run(world.reconciler.reconcile(KEY))
    assert world.cluster.writes[-1] == "status"
    assert due(started(world)) == 0.0


def _change_the_spec(world: World) -> None:
    world.cluster.change_spec(priority=1)


def _ask(annotation: str) -> Callable[[World], None]:
    return lambda world: world.cluster.annotate(annotation, "now")


def _start_a_pod(world: World) -> None:
    """Of an attempt that nobody knows."""
    pod = {"metadata": {"name": "stray", "labels": {names.MODEL_LABEL: "m"}}, "status": {"phase": "Running"}}
    world.cluster.put(POD, pod)


def _delete_a_job(world: World) -> None:
    job = world.cluster.objects[JOB.plural, world.cluster.names(JOB)[0]]
    job["metadata"]["deletionTimestamp"] = timestamp(world.cluster.now)


def _lose_the_note(world: World) -> None:
    """As a status by an older operator lacks it."""
    del world.cluster.model()["status"]["tracking"]["settled"]


def _break_the_status(world: World) -> None:
    world.cluster.model()["status"]["phase"] = "Unknown to this release"


@pytest.mark.parametrize(
    "happens",
    [
        _change_the_spec,
        _ask(names.RETRAIN_ANNOTATION),
        _ask(names.CANCEL_ANNOTATION),
        _ask(names.PROMOTE_ANNOTATION),
        _ask(names.ROLLBACK_ANNOTATION),
        _start_a_pod,
        _delete_a_job,
        _lose_the_note,
        _break_the_status,
    ],
)
def test_what_happened_while_no_operator_ran_is_looked_at(happens: Callable[[World], None]) -> None:
    world = trained()
    happens(world)
    assert due(started(world)) == 0.0


@pytest.mark.parametrize(
    "changes", [{"policy": Policy(max_gpus=1)}, {"default_image": "example.org/trainer:2"}], ids=["policy", "image"]
)
def test_an_operator_with_other_settings_looks(changes: dict[str, Any]) -> None:
    world = trained()
    assert due(started(world, replace(world.settings, **changes))) == 0.0


@pytest.mark.parametrize(
    ("what", "value"), [("version", lambda name: "9.9.9"), ("NUMERICS_VERSION", 999)], ids=["release", "numerics"]
)
def test_an_operator_of_another_release_looks_and_writes_nothing_for_it(
    what: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = trained()
    monkeypatch.setattr(f"kronos_operator.reconcile.settled.{what}", value)
    assert due(started(world)) == 0.0
    world.restart()
    world.cluster.writes.clear()
    world.reconcile()
    assert world.cluster.writes == []


def test_a_schedule_is_kept() -> None:
    world = trained(schedule={"cron": "0 6 * * 6", "timeZone": "UTC"})
    assert due(started(world)) == 0.0
