"""Phase and conditions: what they say of a run, and of what stands in its way."""

from __future__ import annotations

from typing import Any

import pytest

from kronos_operator.api import KronosModel, Outcome, Phase, Restarts, Run, StopReason, TrainedStage
from kronos_operator.plan import Attempt, AttemptState, Observed, Obstacle, Plan, plan
from kronos_trainer.config import StageName

TOKENIZER, PREDICTOR = StageName.TOKENIZER, StageName.PREDICTOR
NOW = 1_000_000.0
TYPES = ["Ready", "Stalled", "Progressing", "TokenizerTrained", "PredictorTrained", "Available", "Finished"]
HUB = {"hub": {"repo": "a/b"}}


def make_model(**changes: Any) -> KronosModel:
    spec = {"timeframe": "1d", "data": {"source": {"path": "bars"}}, "evaluation": {"enabled": False}}
    return KronosModel.model_validate({"metadata": {"name": "m"}, "spec": spec | changes})


def begun(model: KronosModel | None = None) -> Run:
    run = plan(model or make_model(), Observed(), NOW).run
    assert run is not None
    return run


def decide(run: Run, state: AttemptState | None, model: KronosModel | None = None, /, **observed: Any) -> Plan:
    fields = observed.pop("attempt", {})
    attempts = []
    if state is not None:
        assert run.next_stage is not None
        common = {"run": run.id, "stage": run.next_stage.stage, "attempt": run.attempt, "reported_at": NOW}
        attempts = [Attempt(**common | {"state": state} | fields)]
    return plan(model or make_model(), Observed(run=run, attempts=attempts, **observed), NOW)


def shown(decided: Plan) -> dict[str, tuple[bool, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in decided.conditions}


def states(decided: Plan) -> dict[str, tuple[bool, str, str]]:
    return {name: value for name, value in shown(decided).items() if name in ("Ready", "Stalled", "Progressing")}


def alike(ready: bool, progressing: bool, reason: str, message: str) -> dict[str, tuple[bool, str, str]]:
    """Ready, Stalled and Progressing give one reason."""
    return {
        "Ready": (ready, reason, message),
        "Stalled": (not ready, reason, message),
        "Progressing": (progressing, reason, message),
    }


def test_a_model_without_a_run_is_ready_and_has_trained_nothing() -> None:
    decided = plan(make_model(suspend=True), Observed(), NOW)
    assert decided.phase is Phase.SUSPENDED and decided.stage is None
    assert list(shown(decided)) == TYPES
    assert shown(decided) == alike(True, False, "Suspended", "no run has begun") | {
        "TokenizerTrained": (False, "Pending", ""),
        "PredictorTrained": (False, "Pending", ""),
        "Available": (False, "NotPublished", "no run is published"),
        "Finished": (False, "InProgress", ""),
    }


def test_a_running_model_names_its_stage_run_and_attempt() -> None:
    run = begun()
    decided = decide(run, AttemptState.RUNNING, published="0ld")
    assert (decided.phase, decided.stage) == (Phase.TRAINING, TOKENIZER)
    assert shown(decided) == alike(True, True, "TrainingTokenizer", f"run {run.id}, attempt 0") | {
        "TokenizerTrained": (False, "Pending", f"hash {run.stages[0].hash}"),
        "PredictorTrained": (False, "Pending", f"hash {run.stages[1].hash}"),
        "Available": (True, "Published", "run 0ld is published"),
        "Finished": (False, "InProgress", ""),
    }


def test_a_trained_stage_says_by_which_run_or_that_none_was_needed() -> None:
    run = begun()
    second = decide(run, AttemptState.SUCCEEDED)
    assert second.stage is PREDICTOR
    assert shown(second)["TokenizerTrained"] == (True, "Trained", f"hash {run.stages[0].hash}")
    trained = [TrainedStage(run="0ld", stage=TOKENIZER, hash=run.stages[0].hash)]
    reused = plan(make_model(), Observed(trained=trained), NOW)
    assert shown(reused)["TokenizerTrained"] == (True, "Reused", "trained by run 0ld")
    untrained = plan(make_model(tokenizer={"epochs": 0, "init": HUB}), Observed(), NOW)
    assert shown(untrained)["TokenizerTrained"] == (True, "InitialWeights", "epochs is 0")


def test_the_run_that_has_published_is_available_before_it_is_observed_to_be() -> None:
    run = begun()
    first = decide(run, AttemptState.SUCCEEDED, published="0ld").run
    assert first is not None
    done = decide(first, AttemptState.SUCCEEDED, published="0ld")
    assert shown(done) == alike(True, False, "Succeeded", "every stage is done") | {
        "TokenizerTrained": (True, "Trained", f"hash {run.stages[0].hash}"),
        "PredictorTrained": (True, "Trained", f"hash {run.stages[1].hash}"),
        "Available": (True, "Published", f"run {run.id} is published"),
        "Finished": (True, "Succeeded", "every stage is done"),
    }
    assert (done.phase, done.stage) == (Phase.SUCCEEDED, None)


def test_a_failed_run_is_stalled_and_finished_with_its_cause() -> None:
    failed = decide(begun(), AttemptState.FAILED, attempt={"exit_code": 65, "message": "row 7"})
    assert states(failed) == alike(False, False, "DataInvalid", "row 7")
    assert shown(failed)["Finished"] == (True, "Failed", "row 7")
    cancelled = decide(begun().evolve(stop=StopReason.CANCELLED), None)
    assert cancelled.phase is Phase.FAILED
    assert states(cancelled) == alike(True, False, "Cancelled", "cancelled by request")


@pytest.mark.parametrize(
    ("state", "remembered", "fields", "phase"),
    [
        (AttemptState.QUEUED, {}, {}, Phase.QUEUED),
        (AttemptState.WAITING, {}, {}, Phase.PENDING),
        (AttemptState.RUNNING, {}, {}, Phase.TRAINING),
        (AttemptState.STOPPING, {}, {}, Phase.RESTARTING),
        (AttemptState.STOPPING, {}, {"succeeding": True}, Phase.TRAINING),
        (AttemptState.WAITING, {"disrupted": True}, {}, Phase.RESTARTING),
        (AttemptState.WAITING, {"restarts": Restarts(stalls=1)}, {}, Phase.RESTARTING),
        (AttemptState.RUNNING, {"stop": StopReason.CANCELLED}, {}, Phase.SUSPENDING),
        (AttemptState.RUNNING, {"stop": StopReason.SUSPENDED}, {}, Phase.SUSPENDING),
        (AttemptState.RUNNING, {"stop": StopReason.STALLED}, {}, Phase.RESTARTING),
        (None, {"outcome": Outcome.CANCELLED}, {}, Phase.FAILED),
        (None, {"outcome": Outcome.SUCCEEDED}, {}, Phase.SUCCEEDED),
    ],
)
def test_the_phase_of_a_run_follows_its_gang(
    state: AttemptState | None, remembered: dict[str, Any], fields: dict[str, Any], phase: Phase
) -> None:
    assert decide(begun().evolve(**remembered), state, attempt=fields).phase is phase


REFUSED = Obstacle(reason="PolicyDenied", message="too many nodes")


def test_a_refused_spec_is_stalled_and_finished_if_nothing_goes_on() -> None:
    first = plan(make_model(), Observed(refused=REFUSED), NOW)
    assert first.phase is Phase.FAILED
    refused = ("PolicyDenied", "too many nodes")
    assert states(first) == alike(False, False, *refused)
    assert shown(first)["Finished"] == (False, *refused)
    assert shown(first)["Available"] == (False, "NotPublished", "no run is published")
    going_on = decide(begun(), AttemptState.RUNNING, refused=REFUSED)
    assert going_on.phase is Phase.TRAINING
    assert states(going_on) == alike(False, False, *refused)
    assert shown(going_on)["Finished"] == (False, "InProgress", "")
    over = decide(begun().evolve(outcome=Outcome.SUCCEEDED), None, refused=REFUSED)
    assert over.phase is Phase.FAILED
    assert shown(over)["Finished"] == (False, *refused)


@pytest.mark.parametrize("kind", ["postponed", "waiting"])
@pytest.mark.parametrize(
    ("state", "explained"),
    [
        (AttemptState.QUEUED, True),
        (AttemptState.WAITING, True),
        (AttemptState.STOPPING, True),
        (AttemptState.RUNNING, False),
    ],
)
def test_what_holds_up_a_gang_that_does_not_run_yet_explains_its_state(
    kind: str, state: AttemptState, explained: bool
) -> None:
    why = Obstacle(reason="Unschedulable", message="no node has 8 GPUs", place=3)
    decided = decide(begun(), state, **{kind: why})
    said = ("Unschedulable", "no node has 8 GPUs")
    assert (shown(decided)["Ready"] == (True, *said)) is explained
    assert (shown(decided)["Progressing"] == (True, *said)) is explained
    assert shown(decided)["Stalled"][1:] != said
    assert decided.queue_position == (3 if state is AttemptState.QUEUED else None)


def test_what_cannot_be_done_now_comes_before_what_the_attempt_waits_for() -> None:
    postponed, waiting = (Obstacle(reason=name, message=name, place=place) for name, place in (("A", 1), ("B", 2)))
    decided = decide(begun(), AttemptState.QUEUED, postponed=postponed, waiting=waiting)
    assert (shown(decided)["Ready"], decided.queue_position) == ((True, "A", "A"), 1)


def test_nodes_that_are_not_ready_are_named_while_the_gang_runs() -> None:
    run = begun()
    silent = {"silent_nodes": ("n1", "n2")}
    decided = decide(run, AttemptState.RUNNING, attempt=silent)
    message = f"run {run.id}, attempt 0; not ready: node n1, n2"
    assert states(decided) == alike(True, True, "TrainingTokenizer", message) | {
        "Stalled": (False, "TrainingTokenizer", f"run {run.id}, attempt 0")
    }
    waiting = decide(run, AttemptState.WAITING, attempt=silent)
    assert "not ready" not in shown(waiting)["Ready"][2]


def test_a_run_that_has_ended_is_not_the_end_of_what_is_asked_for_by_now() -> None:
    run = begun().evolve(has_progress=True)
    newer = make_model(predictor={"epochs": 7})
    failed = decide(run, AttemptState.FAILED, newer, attempt={"exit_code": 65})
    assert shown(failed)["Finished"] == (False, "InProgress", "")


def test_storage_that_is_not_shared_is_a_condition_of_its_own() -> None:
    decided = plan(make_model(), Observed(unshared_storage="claim c is ReadWriteOnce"), NOW)
    assert list(shown(decided)) == [*TYPES, "StorageShared"]
    assert shown(decided)["StorageShared"] == (False, "StorageNotShared", "claim c is ReadWriteOnce")


def test_a_model_that_waits_for_its_turn_gives_its_place_and_what_it_waits_for_besides() -> None:
    turn = "place 7 of the models that wait for their turn"
    decided = plan(make_model(), Observed(place=7), NOW)
    assert (decided.phase, decided.queue_position) == (Phase.QUEUED, 7)
    assert states(decided) == alike(True, True, "WaitingForTurn", turn)
    evicted = begun().evolve(reason="Evicted", message="low on disk")
    assert states(decide(evicted, None, place=7)) == alike(True, True, "Evicted", f"low on disk; {turn}")
    running = decide(begun(), AttemptState.RUNNING, place=7)
    assert (running.queue_position, shown(running)["Ready"][1]) == (None, "TrainingTokenizer")
    run = begun()
    elsewhere = decide(run, AttemptState.QUEUED)
    assert states(elsewhere) == alike(True, True, "Queued", f"run {run.id}, attempt 0")


def test_a_run_that_restarts_gives_its_cause() -> None:
    crashed = decide(begun(), AttemptState.FAILED, attempt={"exit_code": 1})
    assert states(crashed) == alike(True, True, "TrainerCrashed", "the trainer ended with exit code 1")
    stopping = decide(begun(), AttemptState.STOPPING)
    assert shown(stopping)["Ready"][1] == "Restarting"


@pytest.mark.parametrize(
    ("outcome", "changes", "asked", "waits"),
    [
        (None, {}, {}, ""),
        (None, {"predictor": {"epochs": 7}}, {}, "a newer spec waits for the end of this run"),
        (None, {}, {"trigger": "now"}, "retraining waits for the end of this run"),
        (None, {"updatePolicy": "Manual"}, {"trigger": "now"}, "retraining waits for the end of this run"),
        (Outcome.SUCCEEDED, {"suspend": True}, {"trigger": "now"}, "retraining waits for the end of spec.suspend"),
        (Outcome.FAILED, {"suspend": True, "image": "t:2"}, {}, "a newer spec waits for the end of spec.suspend"),
        (
            Outcome.FAILED,
            {"suspend": True, "image": "t:2", "updatePolicy": "Manual"},
            {},
            "a newer spec waits for the end of spec.suspend",
        ),
    ],
)
def test_what_is_asked_for_and_has_to_wait_is_told_with_what_it_waits_for(
    outcome: Outcome | None, changes: dict[str, Any], asked: dict[str, Any], waits: str
) -> None:
    run = begun().evolve(has_progress=True, outcome=outcome, reason="Why", message="so")
    state = AttemptState.RUNNING if outcome is None else None
    decided = decide(run, state, make_model(**changes), attempt={"has_progress": True}, **asked)
    ready, finished = shown(decided)["Ready"], shown(decided)["Finished"]
    if outcome is None:
        assert ready[2] == f"run {run.id}, attempt 0" + (f"; {waits}" if waits else "")
        assert finished == (False, "InProgress", waits)
    else:
        assert ready[1:] == ("UpdateWaiting", waits)
        assert finished == (False, "UpdateWaiting", waits)
