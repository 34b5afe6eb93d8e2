"""A status that an operator before `status.run.stages` has written: its run goes on, and nothing starts twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from fake_cluster import Object
from world import World

from kronos_operator.names import CANCEL_ANNOTATION, RETRAIN_ANNOTATION


def older(status: Object) -> Object:
    """The status as that operator had written it: the same facts, some of them under other names."""
    old = copy.deepcopy(status)
    run, tracking = old["run"], old["tracking"]
    old["restarts"] = run.pop("restarts")
    run["steps"] = run.pop("stages")
    renamed = {"templateHash": "settings", "hasProgress": "stepped"}
    for name in ("cancel", "templateHash", "hasProgress", "begun", "disrupted", "disruptedAt"):
        tracking[renamed.get(name, name)] = run.pop(name)
    return old


def pruned(status: Object) -> Object:
    """The same as today's CRD gives it back, which knows the old names no more."""
    old = older(status)
    del old["restarts"], old["run"]["steps"]
    old["tracking"] = {name: old["tracking"][name] for name in ("lastTrigger", "trained") if name in old["tracking"]}
    return old


def upgraded(world: World, as_read: Callable[[Object], Object]) -> None:
    """The operator of today takes over."""
    body = world.cluster.model()
    body["status"] = as_read(body["status"])
    world.cluster.touch(body)
    world.restart()
    world.reconcile()


@pytest.mark.parametrize("as_read", [older, pruned])
@pytest.mark.parametrize("stages_done", [0, 1])
@pytest.mark.parametrize("has_progress", [False, True])
def test_a_run_in_progress_goes_on_with_its_id_attempt_and_trained_stages(
    as_read: Callable[[Object], Object], stages_done: int, has_progress: bool
) -> None:
    world = World()
    for _ in range(stages_done):
        world.run()
        world.end()
    world.run()
    world.end(1)
    world.pass_time(60)
    job = world.run()
    if has_progress:
        world.step()
    before, writes = world.status, list(world.cluster.writes)
    upgraded(world, as_read)
    after = world.status
    assert [write for write in world.cluster.writes[len(writes) :] if write != "status"] == []
    assert world.cluster.live() == [job]
    assert after.run.model_dump(exclude={"restarts"}) == before.run.model_dump(exclude={"restarts"})
    assert (after.tracking, after.phase) == (before.tracking, before.phase)
    assert after.condition("TokenizerTrained").status == ("True" if stages_done else "False")
    world.end()
    for _ in range(1 - stages_done):
        world.run()
        world.end()
    assert world.condition("Finished") == ("True", "Succeeded")
    assert world.status.artifacts.run == before.run.id


@pytest.mark.parametrize("as_read", [older, pruned])
def test_a_stage_that_an_earlier_run_has_trained_is_still_reused(as_read: Callable[[Object], Object]) -> None:
    world = World()
    world.train()
    first = world.status.run.id
    world.cluster.change_spec(predictor={"epochs": 7})
    job = world.run()
    before = world.status.run
    upgraded(world, as_read)
    assert (world.cluster.live(), world.status.run.stages) == ([job], before.stages)
    assert world.status.run.stages[0].reuse == first
    world.end()
    assert world.condition("Finished") == ("True", "Succeeded")


@pytest.mark.parametrize("as_read", [older, pruned])
@pytest.mark.parametrize("code", [0, 65])
def test_a_run_that_has_ended_stays_ended_until_something_is_asked_for(
    as_read: Callable[[Object], Object], code: int
) -> None:
    world = World()
    world.run()
    world.end()
    world.run()
    world.end(code)
    before = world.status
    upgraded(world, as_read)
    after = world.status
    assert world.cluster.live() == []
    kept: dict[str, Any] = {"phase", "history", "artifacts", "tracking", "conditions", "failure"}
    assert after.model_dump(include=kept) == before.model_dump(include=kept)
    assert (after.run.id, after.run.attempt, after.run.outcome) == (before.run.id, 2, before.run.outcome)
    world.cluster.change_spec(image="example.org/mended:1")
    world.reconcile()
    assert len(world.cluster.live()) == (0 if code == 0 else 1)


@pytest.mark.parametrize("as_read", [older, pruned])
def test_a_cancel_or_retrain_request_that_was_answered_is_not_answered_again(
    as_read: Callable[[Object], Object],
) -> None:
    world = World()
    world.run()
    world.cluster.annotate(CANCEL_ANNOTATION, "stop it")
    world.reconcile()
    world.cluster.end_pods(world.job, 75)
    world.reconcile()
    world.cluster.annotate(RETRAIN_ANNOTATION, "again")
    job = world.run()
    upgraded(world, as_read)
    assert world.cluster.live() == [job]
    assert world.status.phase == "Training"


def test_what_was_trained_before_a_crash_is_not_given_up_for_a_changed_spec() -> None:
    world = World()
    world.run()
    world.step()
    world.end(1)
    upgraded(world, pruned)
    world.cluster.change_spec(predictor={"epochs": 7})
    world.reconcile()
    assert world.status.run.has_progress
    assert world.status.run.outcome is None
