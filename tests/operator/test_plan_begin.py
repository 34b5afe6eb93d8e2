"""How a run begins, and exactly what is started and stopped."""

from __future__ import annotations

from typing import Any

import pytest

from kronos_operator.api import KronosModel, Outcome, Run, RunStage, StopReason, TrainedStage
from kronos_operator.hashing import Digests, run_id, stage_hashes, template_hash
from kronos_operator.plan import Attempt, AttemptState, EventKind, Observed, Obstacle, StartAttempt, StopAttempt, plan
from kronos_trainer.config import Reuse, StageName

TOKENIZER, PREDICTOR = StageName.TOKENIZER, StageName.PREDICTOR
NOW = 1_000_000.0
HUB = {"hub": {"repo": "a/b"}}


def make_model(**changes: Any) -> KronosModel:
    spec = {
        "timeframe": "1d",
        "data": {"source": {"path": "bars"}},
        "evaluation": {"enabled": False},
        "retry": {"progressDeadlineSeconds": 60},
    }
    return KronosModel.model_validate({"metadata": {"name": "m"}, "spec": spec | changes})


def begun(model: KronosModel, **observed: Any) -> Run:
    run = plan(model, Observed(**observed), NOW).run
    assert run is not None
    return run


def test_a_first_run_has_all_stages_before_it_and_starts_the_first() -> None:
    model = make_model()
    hashes = stage_hashes(model.spec)
    decided = plan(model, Observed(trigger="t", cancel="c"), NOW)
    assert decided.run == Run(
        id=run_id(hashes, "t"),
        attempt=0,
        started_at=NOW,
        stage_hashes=hashes,
        stages=(
            RunStage(stage=TOKENIZER, hash=hashes[TOKENIZER]),
            RunStage(stage=PREDICTOR, hash=hashes[PREDICTOR], publish=True),
        ),
        trigger="t",
        cancel="c",
        template_hash=template_hash(model.spec),
    )
    assert decided.actions == (
        StartAttempt(
            run=run_id(hashes, "t"),
            stage=TOKENIZER,
            attempt=0,
            stage_hashes=hashes,
            out_of_memory_restarts=0,
            publish=False,
            reuse={},
        ),
    )


def test_a_later_run_counts_its_attempts_on_and_keeps_what_is_known_of_a_stage_with_the_same_hash() -> None:
    model = make_model()
    hashes = stage_hashes(model.spec)
    before = begun(model)
    tokenizer, predictor = before.stages
    known = {"digest": "a" * 64, "bytes": 512, "data_through": "2024-03-01", "metrics": {"loss": 0.5}}
    over = before.evolve(
        attempt=7,
        outcome=Outcome.SUCCEEDED,
        stages=(tokenizer.evolve(done=True, **known), predictor.evolve(done=True, digest="b" * 64)),
    )
    newer = make_model(predictor={"epochs": 7})
    trained = [TrainedStage(run=over.id, stage=TOKENIZER, hash=hashes[TOKENIZER])]
    decided = plan(newer, Observed(run=over, trained=trained), NOW + 5)
    assert decided.run is not None
    assert (decided.run.attempt, decided.run.started_at) == (7, NOW + 5)
    changed = stage_hashes(newer.spec)[PREDICTOR]
    assert decided.run.stages == (
        RunStage(stage=TOKENIZER, hash=hashes[TOKENIZER], done=True, reuse=over.id, **known),
        RunStage(stage=PREDICTOR, hash=changed, publish=True),
    )
    (action,) = decided.actions
    assert isinstance(action, StartAttempt)
    assert (action.attempt, action.publish) == (7, True)
    assert action.reuse == {TOKENIZER: Reuse(run=over.id, hash=hashes[TOKENIZER])}


def test_a_stage_that_several_runs_have_trained_is_reused_from_the_newest() -> None:
    model = make_model()
    hash_ = stage_hashes(model.spec)[TOKENIZER]
    trained = [TrainedStage(run=run, stage=TOKENIZER, hash=hash_) for run in ("newest", "older")]
    assert begun(model, trained=trained).stages[0].reuse == "newest"
    own = run_id(stage_hashes(model.spec))
    trained = [TrainedStage(run=run, stage=TOKENIZER, hash=hash_) for run in ("newest", own)]
    assert (begun(model, trained=trained).stages[0].reuse, begun(model, trained=trained).stages[0].done) == (None, True)


def test_a_request_that_was_answered_retrains_nothing_that_a_newer_spec_leaves_as_it_was() -> None:
    over = begun(make_model(), trigger="t").evolve(outcome=Outcome.SUCCEEDED)
    trained = [TrainedStage(run=over.id, stage=TOKENIZER, hash=over.stages[0].hash)]
    newer = make_model(predictor={"epochs": 7})
    assert begun(newer, run=over, trained=trained, trigger="t").stages[0].reuse == over.id
    assert begun(newer, run=over, trained=trained, trigger="u").stages[0].reuse is None


def test_run_json_says_of_which_object_run_and_attempt_it_is() -> None:
    metadata = {"name": "m", "namespace": "quant", "creationTimestamp": "2026-01-01T00:00:00Z"}
    model = KronosModel.model_validate(
        {"metadata": metadata, "spec": {"timeframe": "1d", "data": {"source": {"path": "b"}}}}
    )
    (action,) = plan(model, Observed(trigger="t"), NOW).actions
    assert isinstance(action, StartAttempt)
    config = action.run_config(model, bars="b", output="o")
    assert model.metadata.creation_timestamp is not None
    assert (config.model, config.model_created) == (model.ref, model.metadata.creation_timestamp)
    assert (config.run, config.stage, config.attempt, config.publish) == (action.run, TOKENIZER, 0, False)
    assert (config.stage_hashes, config.bars, config.output) == (action.stage_hashes, "b", "o")
    assert not config.gpu_required and action.run_config(model, bars="b", output="o", gpu_required=True).gpu_required


def test_a_model_of_weights_as_they_are_has_nothing_to_train() -> None:
    decided = plan(
        make_model(tokenizer={"epochs": 0, "init": HUB}, predictor={"epochs": 0, "init": HUB}), Observed(), NOW
    )
    assert decided.run is not None and decided.actions == ()
    assert (decided.run.outcome, decided.run.reason) == (Outcome.SUCCEEDED, "Succeeded")
    assert decided.run.message == "nothing is left to train"


def test_restarts_for_gpu_memory_are_taken_over_by_the_stage_of_the_run_that_needed_them() -> None:
    model = make_model()
    own = run_id(stage_hashes(model.spec))

    def restarts(**needed: int) -> int:
        seen = {(own, TOKENIZER): needed.get("own", 0), (own, PREDICTOR): 5, ("other", TOKENIZER): 6}
        (action,) = plan(model, Observed(out_of_memory=seen), NOW).actions
        assert isinstance(action, StartAttempt)
        return action.out_of_memory_restarts

    assert (restarts(own=2), restarts()) == (2, 0)


def test_a_stop_names_the_attempt_that_is_to_end() -> None:
    run = begun(make_model())
    gangs = [
        Attempt(run=run.id, stage=TOKENIZER, attempt=0, state=AttemptState.RUNNING, reported_at=NOW),
        Attempt(run="0ld", stage=PREDICTOR, attempt=4, state=AttemptState.WAITING),
        Attempt(run="0ld", stage=PREDICTOR, attempt=3, state=AttemptState.FAILED),
    ]
    decided = plan(make_model(suspend=True), Observed(run=run, attempts=gangs), NOW)
    assert decided.actions == (
        StopAttempt(run="0ld", stage=PREDICTOR, attempt=4, reason=StopReason.STRAY),
        StopAttempt(run=run.id, stage=TOKENIZER, attempt=0, reason=StopReason.SUSPENDED),
    )


STRAY = Attempt(run="0ld", stage=PREDICTOR, attempt=4, state=AttemptState.WAITING)
FINAL = {"state": AttemptState.FAILED, "exit_code": 65}


@pytest.mark.parametrize(
    ("changes", "current", "asked", "goes_on"),
    [
        ({}, {"state": AttemptState.RUNNING, "reported_at": NOW}, {}, True),
        ({}, FINAL, {}, False),
        ({}, None, {"cancel": "c"}, False),
        ({"suspend": True}, None, {}, True),
        ({}, None, {}, True),
    ],
)
def test_gangs_that_nobody_waits_for_are_stopped_whatever_becomes_of_the_run(
    changes: dict[str, Any], current: dict[str, Any] | None, asked: dict[str, Any], goes_on: bool
) -> None:
    run = begun(make_model())
    gangs = [STRAY] if current is None else [Attempt(run=run.id, stage=TOKENIZER, attempt=0, **current), STRAY]
    decided = plan(make_model(**changes), Observed(run=run, attempts=gangs, **asked), NOW)
    assert decided.run is not None and (decided.run.outcome is None) is goes_on
    assert decided.actions == (StopAttempt(run="0ld", stage=PREDICTOR, attempt=4, reason=StopReason.STRAY),)


@pytest.mark.parametrize("asked", [{}, {"attempts": [STRAY]}, {"place": 7}])
def test_a_run_that_begins_is_reported_also_if_nothing_can_be_started_yet(asked: dict[str, Any]) -> None:
    decided = plan(make_model(), Observed(**asked), NOW)
    assert decided.run is not None
    assert [one.kind for one in decided.events] == [EventKind.RUN_BEGAN]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [({}, {}), ({}, {"place": 7}), ({}, {"refused": Obstacle(reason="R", message="m")}), ({"suspend": True}, {})],
)
def test_a_failed_attempt_is_reported_whatever_comes_next(changes: dict[str, Any], asked: dict[str, Any]) -> None:
    run = begun(make_model())
    gang = Attempt(run=run.id, stage=TOKENIZER, attempt=0, state=AttemptState.FAILED, exit_code=1)
    decided = plan(make_model(**changes), Observed(run=run, attempts=[gang], **asked), NOW)
    assert [one.kind for one in decided.events] == [EventKind.ATTEMPT_FAILED]


def test_a_disruption_that_is_over_is_reported_also_if_the_gang_is_to_stop() -> None:
    run = begun(make_model()).evolve(disrupted=True)
    gang = Attempt(run=run.id, stage=TOKENIZER, attempt=0, state=AttemptState.RUNNING, whole=True, reported_at=NOW)
    decided = plan(make_model(suspend=True), Observed(run=run, attempts=[gang]), NOW)
    assert [one.kind for one in decided.events] == [EventKind.ATTEMPT_FAILED] and len(decided.actions) == 1


def test_a_run_that_is_cancelled_while_nothing_runs_is_reported_and_looked_at_again_at_once() -> None:
    decided = plan(make_model(), Observed(run=begun(make_model()), cancel="c"), NOW)
    assert [one.kind for one in decided.events] == [EventKind.ATTEMPT_STOPPED, EventKind.RUN_ENDED]
    assert decided.wake_at == NOW


def test_a_request_does_not_stop_the_run_that_answers_it_nor_ask_again_once_it_is_gone() -> None:
    model = make_model(updatePolicy="Cancel")
    run = begun(model, trigger="t")
    gang = Attempt(
        run=run.id, stage=TOKENIZER, attempt=0, state=AttemptState.RUNNING, reported_at=NOW, has_progress=True
    )
    running = plan(model, Observed(run=run, attempts=[gang], trigger="t"), NOW)
    assert running.actions == () and "retraining" not in running.conditions[0].message
    assert plan(model, Observed(run=run, attempts=[gang], trigger="u"), NOW).actions != ()
    for trigger in ("t", ""):
        assert plan(model, Observed(run=run, attempts=[gang], trigger=trigger), NOW).actions == ()
        over = run.evolve(outcome=Outcome.SUCCEEDED)
        assert plan(model, Observed(run=over, trigger=trigger), NOW).run == over


def test_a_gang_that_waits_for_places_is_looked_at_again_when_it_has_to_give_them_back() -> None:
    model = make_model()
    run = begun(model)
    gang = Attempt(run=run.id, stage=TOKENIZER, attempt=0, state=AttemptState.WAITING, unplaced_since=NOW)
    for now, wakes in ((NOW, NOW + 300), (NOW + 299, NOW + 300), (NOW + 300, None)):
        assert plan(model, Observed(run=run, attempts=[gang], gang_start_seconds=300), now).wake_at == wakes


def test_a_run_that_failed_before_it_started_anything_does_not_begin_again_by_itself() -> None:
    only = {"stages": frozenset({PREDICTOR})}
    failed = begun(make_model(), **only)
    assert failed.outcome is Outcome.FAILED
    again = plan(make_model(), Observed(run=failed, **only), NOW)
    assert (again.run, again.events) == (failed, ())


def test_bars_that_are_known_by_their_bytes_count_by_these() -> None:
    digests = Digests(bars="a" * 64)
    assert begun(make_model(), digests=digests).stage_hashes == stage_hashes(make_model().spec, digests)


@pytest.mark.parametrize("changes", [{}, {"tokenizer": {"epochs": 0, "init": HUB}}])
def test_a_finished_run_is_found_again_under_its_id_by_its_last_stage(changes: dict[str, Any]) -> None:
    model = make_model(**changes)
    stage, hash_ = list(stage_hashes(model.spec).items())[-1]
    found = plan(model, Observed(trained=[TrainedStage(run="0ld", stage=stage, hash=hash_)]), NOW).run
    assert found is not None and found.id == "0ld"


@pytest.mark.parametrize(
    ("state", "has_progress", "stops"),
    [
        (AttemptState.QUEUED, False, True),
        (AttemptState.WAITING, False, True),
        (AttemptState.RUNNING, False, True),
        (AttemptState.RUNNING, True, False),
        (AttemptState.STOPPING, False, False),
    ],
)
def test_a_changed_template_stops_a_gang_that_has_not_reported_a_step(
    state: AttemptState, has_progress: bool, stops: bool
) -> None:
    run = begun(make_model())
    gang = Attempt(
        run=run.id, stage=TOKENIZER, attempt=0, state=state, has_progress=has_progress, reported_at=NOW, started_at=NOW
    )
    decided = plan(make_model(image="trainer:2"), Observed(run=run, attempts=[gang]), NOW)
    assert decided.run is not None
    assert (decided.run.stop is StopReason.UPDATED, len(decided.actions)) == (stops, int(stops))


@pytest.mark.parametrize(
    ("started", "reported", "deadline", "limit", "wakes", "stops"),
    [
        (0, None, 60, None, 600, StopReason.STALLED),  # until its first line it may take ten minutes
        (0, None, 1800, None, 1800, StopReason.STALLED),
        (0, 5, 60, None, 65, StopReason.STALLED),
        (30, 5, 60, None, 90, StopReason.STALLED),  # started anew since by its queue
        (None, 5, 60, None, 65, StopReason.STALLED),
        (0, 50, 60, 100, 100, StopReason.OVERTIME),
        (0, 5, 60, 65, 65, StopReason.OVERTIME),  # of both that which ends the run
        (0, 5, 60, 100, 65, StopReason.STALLED),
    ],
)
def test_a_running_gang_is_looked_at_again_when_it_would_be_stalled_or_has_run_for_too_long(
    started: float | None, reported: float | None, deadline: int, limit: int | None, wakes: float, stops: StopReason
) -> None:
    model = make_model(retry={"progressDeadlineSeconds": deadline, "maxRuntimeSeconds": limit})
    run = begun(model)
    gang = Attempt(
        run=run.id,
        stage=TOKENIZER,
        attempt=0,
        state=AttemptState.RUNNING,
        started_at=None if started is None else NOW + started,
        reported_at=None if reported is None else NOW + reported,
    )
    decided = plan(model, Observed(run=run, attempts=[gang]), NOW + wakes - 1)
    assert (decided.wake_at, decided.actions) == (NOW + wakes, ())
    decided = plan(model, Observed(run=run, attempts=[gang]), NOW + wakes)
    assert decided.run is not None and decided.run.stop is stops


def test_a_gang_of_which_nothing_is_known_yet_has_no_deadline() -> None:
    model = make_model(retry={"maxRuntimeSeconds": 100})
    run = begun(model)
    gang = Attempt(run=run.id, stage=TOKENIZER, attempt=0, state=AttemptState.RUNNING)
    assert plan(model, Observed(run=run, attempts=[gang]), NOW + 10**6).wake_at is None


def test_what_was_decided_to_stop_is_stopped_for_that_reason_whatever_is_asked_for_later() -> None:
    run = begun(make_model()).evolve(stop=StopReason.STALLED)
    gang = Attempt(run=run.id, stage=TOKENIZER, attempt=0, state=AttemptState.RUNNING, reported_at=NOW)
    (action,) = plan(make_model(suspend=True), Observed(run=run, attempts=[gang], cancel="c"), NOW).actions
    assert isinstance(action, StopAttempt) and action.reason is StopReason.STALLED


def test_a_run_that_waits_for_its_turn_does_not_wait_for_its_pause_too() -> None:
    run = begun(make_model()).evolve(retry_at=NOW - 1, has_progress=True)
    decided = plan(make_model(), Observed(run=run, place=2), NOW)
    assert decided.run is not None and (decided.run.retry_at, decided.wake_at, decided.actions) == (None, None, ())
    started = plan(make_model(), Observed(run=run), NOW)
    assert started.run is not None and started.run.retry_at is None and len(started.actions) == 1
