"""A run's verdict on its way from the trainer's report into the status, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from world import World

from kronos_operator.api import Evaluated, RunStage, Status
from kronos_operator.kube.kinds import SERVICE
from kronos_trainer.config import Comparison, EvaluationSummary, PromotionResult, StageName, StageResult

TOKENIZER, PREDICTOR, EVALUATION = StageName
DEFAULT: dict[str, Any] = {"evaluation": {}}
START = Comparison(
    rival="start", verdict="Better", dates=40, improvement=0.041, low=0.012, high=0.069, p_better=0.01, p_worse=0.99
)
NAIVE = Comparison(
    rival="naive", verdict="Worse", dates=40, improvement=-0.2, low=-0.3, high=-0.1, p_better=0.999, p_worse=0.001
)


def judged(verdict: str, decision: str, message: str, *comparisons: Comparison) -> StageResult:
    """The result of an evaluation."""
    summary = EvaluationSummary(
        verdict=verdict,
        dates=40,
        symbols=3,
        first="2024-07-01",
        last="2025-01-01",
        readings=1,
        comparisons=comparisons or (START,),
        coverage80=0.61,
        calibrated80=0.79,
    )
    promotion = PromotionResult(decision=decision, message=message)
    return StageResult(stage=EVALUATION, seconds=9.0, scores={"crps": 1.5}, evaluation=summary, promotion=promotion)


BETTER = judged("Better", "Published", "CRPS 4.1 % lower than the start's (1.2 % to 6.9 %)")
HELD = judged("Worse", "Held", "CRPS 20 % higher than the naive forecast's (10 % to 30 %)", START, NAIVE)


def report(world: World, result: StageResult) -> None:
    world.cluster.say(world.job, event="result", result=result.short)


def evaluate(world: World, result: StageResult) -> None:
    """A run trains, and its evaluation comes to this."""
    world.train()
    world.run()
    report(world, result)
    world.end()


def starts(world: World) -> list[str]:
    """Stages of all attempts, in their order."""
    return [name.split("-")[1] for name in world.cluster.started]


def test_a_better_model_is_published_with_its_verdict() -> None:
    world = World(**DEFAULT)
    evaluate(world, BETTER)
    status = world.status
    assert status.run is not None and status.artifacts is not None and status.evaluation is not None
    assert (status.artifacts.run, status.evaluation.run) == (status.run.id, status.run.id)
    assert world.condition("EvaluationCompleted") == ("True", "Completed")
    assert world.condition("Finished") == ("True", "Succeeded")
    assert "4.1 % lower" in next(one.message for one in status.conditions if one.type == "Finished")
    assert status.metrics["evaluationCrps"] == 1.5
    found = status.evaluation
    assert found.in_words == "Better: CRPS 4.1 % lower than start's (1.2 to 6.9 %), on 40 dates"
    assert (found.promotion, found.coverage80, found.calibrated80) == ("Published", 0.61, 0.79)
    assert [(one.rival, one.p) for one in found.comparisons] == [("start", 0.01)]
    assert found.report == status.report == f"models/ns/m/runs/{status.run.id}/report.html"
    (entry,) = status.history
    assert (entry.verdict, entry.promotion) == ("Better", "Published")
    assert world.cluster.events[-1] == ("Normal", "Succeeded")


def test_a_held_run_succeeds_and_what_was_published_stays() -> None:
    world = World(**DEFAULT)
    evaluate(world, BETTER)
    before = world.status
    world.cluster.change_spec(predictor={"epochs": 7})
    world.run()
    assert world.status.evaluation == before.evaluation  # until there is another
    world.end()
    world.run()
    report(world, HELD)
    world.end()
    after = world.status
    assert after.run is not None and before.run is not None and after.run.id != before.run.id
    assert (after.phase, after.run.outcome) == ("Succeeded", "Succeeded")
    assert (after.artifacts, after.metrics) == (before.artifacts, before.metrics)
    assert world.condition("Finished") == ("True", "PromotionHeld")
    assert world.condition("Available") == ("True", "Published")
    finished = after.condition("Finished")
    assert finished is not None and "20 % higher" in finished.message
    assert world.cluster.events[-1] == ("Normal", "PromotionHeld")
    assert after.evaluation is not None
    assert (after.evaluation.run, after.evaluation.promotion) == (after.run.id, "Held")
    assert (after.evaluation.against, after.evaluation.comparisons[1].p) == ("naive", 0.001)
    assert (after.history[0].verdict, after.history[0].promotion) == ("Worse", "Held")
    # Nobody starts it again, also not after a restart of the operator.
    count = len(world.cluster.started)
    world.restart()
    world.reconcile()
    assert len(world.cluster.started) == count


def test_without_a_published_run_a_held_one_leaves_none() -> None:
    world = World(**DEFAULT)
    evaluate(world, HELD)
    assert world.condition("Available") == ("False", "NotPublished")
    assert world.status.artifacts is None and world.status.metrics == {}


def test_another_gate_judges_the_same_run_again_and_trains_nothing() -> None:
    world = World(**DEFAULT)
    evaluate(world, HELD)
    run = world.status.run
    world.cluster.change_spec(promotion={"onUndecided": "publish"})
    world.run()
    report(world, BETTER)
    world.end()
    after = world.status
    assert run is not None and after.run is not None and after.artifacts is not None
    assert (after.run.id, after.artifacts.run) == (run.id, run.id)
    assert starts(world) == ["tok", "pred", "eval", "eval"]
    # Under the first gate again it stays published: that was decided.
    world.cluster.change_spec(promotion={})
    world.reconcile()
    assert len(starts(world)) == 4
    assert world.status.artifacts == after.artifacts


def test_a_stage_of_scores_is_one_pod_with_one_process_and_one_gpu() -> None:
    world = World(resources={"nodes": 2, "gpusPerNode": 4}, **DEFAULT)
    for stage in (TOKENIZER, PREDICTOR):
        world.run(2)
        assert world.status.run is not None and world.status.run.gpus == 8, stage
        world.end()
    job = world.run()
    assert world.status.run is not None and world.status.run.gpus == 1
    assert world.status.phase == "Training"  # it waits for no second pod
    assert job not in world.cluster.names(SERVICE)


def test_a_lost_verdict_is_asked_for_again_and_publishes_nothing_by_itself() -> None:
    world = World(**DEFAULT)
    world.train()
    world.run()
    world.end()  # without a word
    assert world.condition("Ready")[1] == "ReportLost"
    ready = world.status.condition("Ready")
    assert ready is not None and "not known here whether run" in ready.message
    assert world.status.artifacts is None
    world.pass_time(60)
    world.run()
    report(world, BETTER)
    world.end()
    assert world.status.artifacts is not None
    assert starts(world) == ["tok", "pred", "eval", "eval"]


def test_a_verdict_that_is_lost_time_and_again_fails_the_run() -> None:
    world = World(**DEFAULT)
    world.train()
    for _ in range(3):
        world.run()
        world.end()
        world.pass_time(120)
    world.reconcile()
    assert world.condition("Finished") == ("True", "Failed")
    assert world.status.failure is not None and world.status.failure.reason == "ReportLost"
    assert world.status.artifacts is None


def test_a_model_of_a_release_without_evaluations_is_judged_once_in_its_run() -> None:
    world = World()  # as that release has finished it: evaluated by nobody
    world.train()
    before = world.status
    world.cluster.change_spec(**DEFAULT)
    world.restart()
    world.run()
    assert world.condition("Available") == ("True", "Published")
    report(world, HELD)
    world.end()
    after = world.status
    assert before.run is not None and after.run is not None
    assert after.run.id == before.run.id
    assert [stage.hash for stage in after.run.stages[:2]] == [stage.hash for stage in before.run.stages]
    assert [stage.digest for stage in after.run.stages[:2]] == [stage.digest for stage in before.run.stages]
    assert starts(world) == ["tok", "pred", "eval"]
    assert (after.artifacts, world.condition("Finished")) == (before.artifacts, ("True", "PromotionHeld"))


@pytest.mark.parametrize("policy", ["Finish", "Cancel"])
@pytest.mark.parametrize("has_progress", [False, True])
def test_what_trains_is_not_stopped_for_the_sake_of_scores(policy: str, has_progress: bool) -> None:
    world = World(updatePolicy=policy)
    job = world.run()
    if has_progress:
        world.step()
    run = world.status.run
    world.cluster.change_spec(**DEFAULT)
    world.reconcile()
    assert world.cluster.live() == [job]
    world.end()
    world.run()
    world.end()
    world.run()
    report(world, BETTER)
    world.end()
    assert run is not None and world.status.run is not None and world.status.run.id == run.id
    assert starts(world) == ["tok", "pred", "eval"]
    assert world.condition("Finished") == ("True", "Succeeded")


def test_an_evaluation_gives_way_to_other_settings_before_it_has_begun() -> None:
    world = World(**DEFAULT)
    world.train()
    world.restart()
    world.run()
    world.cluster.change_spec(updatePolicy="Cancel", evaluation={"samples": 40})
    world.reconcile()
    world.cluster.end_pods(world.cluster.started[-1], 75)
    job = world.run()
    assert job != world.cluster.started[2] and starts(world) == ["tok", "pred", "eval", "eval"]


def test_under_manual_other_scores_wait_for_the_next_training() -> None:
    world = World(updatePolicy="Manual")
    world.train()
    world.cluster.change_spec(**DEFAULT)
    world.reconcile()
    assert starts(world) == ["tok", "pred"]
    assert world.condition("Finished") == ("True", "Succeeded")


@pytest.mark.parametrize(
    "wire",
    [
        {"verdict": "\x1b[2J" + "x" * 9000, "metric": "é" * 9000, "note": "n" * 9000},
        {"comparisons": [{"rival": "r" * 9000, "verdict": "v" * 9000, "improvement": 1e300}] * 99},
        {"verdict": "Odd", "dates": 2**61, "coverage80": -5.0, "comparisons": [{}]},
        {"verdict": 5, "comparisons": "none"},
    ],
)
def test_a_status_bounds_what_a_trainer_says(wire: dict[str, Any]) -> None:
    result = StageResult.read({"evaluation": wire, "promotion": {"decision": "d" * 9000, "message": "m" * 9000}})
    found = Evaluated.of(result, "1a2b3c4d")
    assert found is not None
    document = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert Status.model_validate({"evaluation": document}).evaluation == found
    assert len(found.comparisons) <= 16 and len(found.verdict) <= 64 and "\x1b" not in found.verdict
    assert found.in_words


def test_too_many_scores_cost_no_more_than_themselves() -> None:
    scores = {"x" * 65: 1.0, "": 1.0} | {f"score{number}": float(number) for number in range(99)}
    stage = RunStage(stage=EVALUATION, hash="a" * 16, metrics=StageResult(scores=scores).metrics)
    assert len(stage.metrics) == 64 and stage.metrics["score0"] == 0.0
    with pytest.raises(ValidationError):
        RunStage(stage=EVALUATION, hash="a" * 16, metrics=[])


def test_a_worse_model_is_said_to_be_so_by_a_loss_that_is_higher() -> None:
    numbers = {"improvement": -0.8, "low": -1.2, "high": -0.5, "dates": 20}
    worse = Evaluated.model_validate({"run": "a", "verdict": "Worse", "metric": "crps", "against": "naive", **numbers})
    assert worse.in_words == "Worse: CRPS 80.0 % higher than naive's (50.0 to 120.0 %), on 20 dates"
    unsure = worse.model_copy(update={"verdict": "Undecided", "improvement": 0.02, "low": -0.1, "high": 0.15})
    assert unsure.in_words == "Undecided: CRPS 2.0 % lower than naive's (-10.0 to 15.0 %), on 20 dates"
