from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kronos_operator.api import KronosModel, Outcome, Phase, Restarts, Run, StopReason, TrainedStage
from kronos_operator.plan import (
    Attempt,
    AttemptState,
    Condition,
    Observed,
    Obstacle,
    Plan,
    StartAttempt,
    StopAttempt,
    plan,
)
from kronos_trainer.config import FINAL_CODES, Reuse, StageName

TOKENIZER, PREDICTOR = StageName.TOKENIZER, StageName.PREDICTOR
NOW = 1_000_000.0
REFUSED = Obstacle(reason="PolicyDenied", message="too many nodes")


def make_model(**changes: Any) -> KronosModel:
    spec = {
        "timeframe": "1d",
        "data": {"source": {"path": "bars"}},
        "evaluation": {"enabled": False},
        "retry": {"maxRestarts": 2, "backoffSeconds": 10},
    }
    return KronosModel.model_validate({"metadata": {"name": "m"}, "spec": spec | changes})


def started(model: KronosModel, **observed: Any) -> tuple[Run, StartAttempt]:
    """The run and the action of a first attempt."""
    first = plan(model, Observed(**observed), NOW)
    (action,) = first.actions
    assert isinstance(action, StartAttempt)
    assert first.run is not None
    return first.run, action


def gang(run: Run, state: AttemptState, **fields: Any) -> Attempt:
    """The run's current attempt in this state."""
    assert run.next_stage is not None
    common = {"run": run.id, "stage": run.next_stage.stage, "attempt": run.attempt, "reported_at": NOW}
    return Attempt(**common | {"state": state} | fields)


def after(model: KronosModel, run: Run, state: AttemptState, now: float = NOW, **fields: Any) -> Plan:
    return plan(model, Observed(run=run, attempts=[gang(run, state, **fields)]), now)


def condition(decided: Plan, kind: str) -> Condition:
    return next(item for item in decided.conditions if item.type == kind)


def summary(decided: Plan) -> tuple[str, ...]:
    """A plan in words: phase, then each action."""
    words = [
        f"stop {a.attempt} {a.reason}" if isinstance(a, StopAttempt) else f"start {a.attempt}" for a in decided.actions
    ]
    return (decided.phase.value, *words)


# How a run looks before each event, by phase: changes to the model, to the run, and the state of attempt 0.
PHASES: dict[Phase, tuple[dict[str, Any], dict[str, Any], AttemptState | None]] = {
    Phase.PENDING: ({}, {}, AttemptState.WAITING),
    Phase.QUEUED: ({}, {}, AttemptState.QUEUED),
    Phase.TRAINING: ({}, {}, AttemptState.RUNNING),
    Phase.RESTARTING: ({}, {"restarts": Restarts(crashes=1)}, AttemptState.WAITING),
    Phase.SUSPENDING: ({"suspend": True}, {"stop": StopReason.SUSPENDED}, AttemptState.STOPPING),
    Phase.SUSPENDED: ({"suspend": True}, {}, None),
    Phase.SUCCEEDED: ({}, {"outcome": Outcome.SUCCEEDED}, AttemptState.SUCCEEDED),
    Phase.FAILED: ({}, {"outcome": Outcome.FAILED}, AttemptState.FAILED),
}
EVENTS: dict[str, dict[str, Any] | None] = {
    "running": {"state": AttemptState.RUNNING, "has_progress": True},
    "stopping": {"state": AttemptState.STOPPING, "disrupted": True},
    "succeeding": {"state": AttemptState.STOPPING, "succeeding": True},
    "succeeded": {"state": AttemptState.SUCCEEDED},
    "final": {"state": AttemptState.FAILED, "exit_code": 65},
    "out of memory": {"state": AttemptState.FAILED, "exit_code": 71},
    "saved": {"state": AttemptState.FAILED, "exit_code": 75, "has_progress": True},
    "evicted": {"state": AttemptState.FAILED, "exit_code": 137, "disrupted": True, "has_progress": True},
    "storage": {"state": AttemptState.FAILED, "exit_code": 74},
    "crashed": {"state": AttemptState.FAILED, "exit_code": 1},
    "gone": None,
}
FREE = ("Restarting", "start 1")
OPEN_RUN = {
    "running": ("Training",),
    "stopping": ("Restarting",),
    "succeeding": ("Training",),
    "succeeded": ("Pending", "start 1"),
    "final": ("Failed",),
    "out of memory": FREE,
    "saved": FREE,
    "evicted": FREE,
    "storage": ("Restarting",),
    "crashed": ("Restarting",),
    "gone": ("Pending", "start 0"),
}
EXPECTED: dict[Phase, dict[str, tuple[str, ...]]] = {
    Phase.PENDING: OPEN_RUN,
    Phase.QUEUED: OPEN_RUN,
    Phase.TRAINING: OPEN_RUN,
    Phase.RESTARTING: OPEN_RUN | {"succeeded": ("Restarting", "start 1"), "gone": ("Restarting", "start 0")},
    # Whatever a gang ends with while it is being suspended, it neither counts nor starts again.
    Phase.SUSPENDING: dict.fromkeys(EVENTS, ("Suspended",))
    | {"running": ("Suspending", "stop 0 Suspended"), "stopping": ("Suspending",), "succeeding": ("Suspending",)},
    Phase.SUSPENDED: dict.fromkeys(EVENTS, ("Suspended",))
    | {"running": ("Suspending", "stop 0 Suspended"), "final": ("Failed",)}
    | dict.fromkeys(("stopping", "succeeding"), ("Suspending",)),
    Phase.SUCCEEDED: dict.fromkeys(EVENTS, ("Succeeded",)) | {"running": ("Succeeded", "stop 0 Stray")},
    Phase.FAILED: dict.fromkeys(EVENTS, ("Failed",)) | {"running": ("Failed", "stop 0 Stray")},
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("phase", Phase)
def test_every_phase_and_every_outcome_of_the_gang(phase: Phase, event: str) -> None:
    changes, remembered, state = PHASES[phase]
    run, _ = started(make_model())
    gangs = [] if state is None else [gang(run, state)]
    run = run.evolve(**remembered)
    model = make_model(**changes)
    assert plan(model, Observed(run=run, attempts=gangs), NOW).phase is phase

    fields = EVENTS[event]
    gangs = [] if fields is None else [Attempt(run=run.id, stage=TOKENIZER, attempt=0, reported_at=NOW, **fields)]
    decided = plan(model, Observed(run=run, attempts=gangs), NOW)
    assert summary(decided) == EXPECTED[phase][event]

    ready, stalled = condition(decided, "Ready"), condition(decided, "Stalled")
    assert ready.status is not stalled.status
    assert stalled.status is (decided.phase is Phase.FAILED)
    assert condition(decided, "Finished").status is (decided.phase in (Phase.SUCCEEDED, Phase.FAILED))
    # Nothing new to see: nothing new to do.
    again = plan(model, Observed(run=decided.run, attempts=gangs), NOW)
    assert again.run == decided.run or decided.wake_at == NOW


def test_tokenizer_then_predictor_then_done() -> None:
    model = make_model()
    run, action = started(model)
    assert (action.stage, action.attempt, action.publish, action.reuse) == (TOKENIZER, 0, False, {})
    second = after(model, run, AttemptState.SUCCEEDED)
    (action,) = second.actions
    assert isinstance(action, StartAttempt)
    assert (action.stage, action.attempt, action.publish) == (PREDICTOR, 1, True)
    assert condition(second, "TokenizerTrained").status
    assert second.run is not None
    done = after(model, second.run, AttemptState.SUCCEEDED)
    assert (done.phase, done.actions) == (Phase.SUCCEEDED, ())
    assert [condition(done, kind).status for kind in ("PredictorTrained", "Available", "Finished")] == [True] * 3


def test_a_stage_without_epochs_is_no_stage() -> None:
    hub = {"hub": {"repo": "a/b"}}
    _, action = started(make_model(tokenizer={"epochs": 0, "init": hub}))
    assert (action.stage, action.publish) == (PREDICTOR, True)
    _, action = started(make_model(predictor={"epochs": 0, "init": hub}))
    assert (action.stage, action.publish) == (TOKENIZER, True)


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
def test_final_codes_are_final_even_in_a_disruption(code: int) -> None:
    run, _ = started(make_model())
    decided = after(make_model(), run, AttemptState.FAILED, exit_code=code, disrupted=True, message="row 7")
    assert decided.phase is Phase.FAILED
    assert condition(decided, "Ready").message == "row 7"


def test_crashes_wait_longer_each_time_and_then_end_the_run() -> None:
    model = make_model(retry={"maxRestarts": 4, "backoffSeconds": 1500})
    run, _ = started(model)
    waits = []
    while True:
        decided = after(model, run, AttemptState.FAILED, exit_code=1)
        assert decided.run is not None
        if decided.run.outcome is not None:
            break
        assert decided.wake_at is not None
        waits.append(decided.wake_at - NOW)
        assert not decided.actions
        early = plan(model, Observed(run=decided.run), decided.wake_at - 0.1)
        assert not early.actions
        due = plan(model, Observed(run=decided.run), decided.wake_at)
        assert len(due.actions) == 1
        assert due.run is not None
        run = due.run
    assert waits == [1500, 3000, 3600, 3600]
    assert (decided.run.restarts.crashes, decided.run.reason) == (5, "TrainerCrashed")


def test_out_of_memory_reduces_until_it_cannot_and_starts_afresh_for_the_next_stage() -> None:
    model = make_model(tokenizer={"microBatchSize": 4})
    run, _ = started(model)
    for restarts in (1, 2):
        decided = after(model, run, AttemptState.FAILED, exit_code=71)
        (action,) = decided.actions
        assert isinstance(action, StartAttempt)
        assert action.out_of_memory_restarts == restarts
        assert decided.run is not None
        run = decided.run
    assert after(model, run, AttemptState.FAILED, exit_code=71).phase is Phase.FAILED
    (action,) = after(model, run, AttemptState.SUCCEEDED).actions
    assert isinstance(action, StartAttempt)
    assert action.out_of_memory_restarts == 0


def disrupted(model: KronosModel, run: Run, now: float, **fields: Any) -> Plan:
    fields = {
        "exit_code": 137,
        "disrupted": True,
        "has_progress": True,
        "reason": "Evicted",
        "message": "low on disk",
    } | fields
    return after(model, run, AttemptState.FAILED, now, **fields)


def test_a_disruption_is_free_but_does_not_spin_before_the_first_step() -> None:
    model = make_model(retry={"maxRestarts": 0, "backoffSeconds": 10})
    run, _ = started(model)
    assert len(disrupted(model, run, NOW).actions) == 1
    early = disrupted(model, run, NOW, has_progress=False)
    assert (early.actions, early.wake_at) == ((), NOW + 10)


def test_from_the_third_disruption_in_ten_minutes_on_the_run_waits_longer_each_time() -> None:
    model = make_model(retry={"maxRestarts": 0, "backoffSeconds": 10})
    run, _ = started(model)
    waits = []
    for number in range(5):
        decided = disrupted(model, run, NOW + 60 * number)
        assert decided.run is not None
        waits.append(0.0 if decided.actions else (decided.wake_at or 0.0) - NOW - 60 * number)
        run = decided.run.evolve(retry_at=None)
    assert waits == [0, 0, 10, 20, 40]
    last = run.restarts.last
    assert last is not None and (last.reason, last.message) == ("Evicted", "low on disk")
    assert len(disrupted(model, run, NOW + 3600).actions) == 1


def test_a_run_that_is_driven_away_too_often_has_failed() -> None:
    model = make_model(retry={"maxDisruptions": 2})
    run, _ = started(model)
    for hour in range(2):
        decided = disrupted(model, run, NOW + 3600 * hour)
        assert decided.run is not None
        run = decided.run
    decided = disrupted(model, run, NOW + 9999)
    assert condition(decided, "Stalled").reason == "TooManyDisruptions"
    assert condition(decided, "Stalled").message == "low on disk; given up after 2 disruptions"


def test_a_kill_for_memory_is_retried_once_and_names_the_limit_and_what_to_raise() -> None:
    model = make_model(resources={"memory": "4Gi"})
    run, _ = started(model)
    decided = after(model, run, AttemptState.FAILED, exit_code=137, memory_killed=True)
    assert decided.run is not None and decided.wake_at == NOW + 10
    decided = after(model, decided.run.evolve(retry_at=None), AttemptState.FAILED, exit_code=1, memory_killed=True)
    stalled = condition(decided, "Stalled")
    assert (decided.phase, stalled.reason) == (Phase.FAILED, "MemoryLimitExceeded")
    assert "4Gi" in stalled.message and "resources.memory" in stalled.message


@pytest.mark.parametrize("gone", ["deleted in sight", "gone unseen"])
def test_a_workload_that_somebody_deletes_is_a_disruption_and_gets_a_new_number(gone: str) -> None:
    model = make_model()
    run, _ = started(model)
    running = after(model, run, AttemptState.RUNNING)
    if gone == "deleted in sight":
        assert running.run is not None
        running = after(model, running.run, AttemptState.STOPPING, disrupted=True, reason="WorkloadDeleted")
    decided = plan(model, Observed(run=running.run), NOW)
    assert decided.run is not None
    assert summary(decided) == FREE
    assert decided.run.restarts.disruptions == 1


HALF = {"unplaced_since": NOW, "placed": 1}


@pytest.mark.parametrize(
    ("fields", "observed", "seconds", "stops"),
    [
        (HALF, {"gang_start_seconds": 300}, 299, None),
        (HALF, {"gang_start_seconds": 300}, 300, StopReason.INCOMPLETE),
        (HALF, {"gang_start_seconds": None}, 9999, None),  # a queue of Kueue sees to it
        (HALF | {"placed": 0}, {"gang_start_seconds": 300}, 9999, None),  # in nobody's way
        (HALF | {"placed": 0}, {"gang_start_seconds": 300, "contended": True}, 300, StopReason.INCOMPLETE),
        (HALF | {"placed": 0}, {"gang_start_seconds": 300, "outranked": True}, 1, StopReason.OUTRANKED),
        ({"unplaced_since": None, "placed": 2}, {"gang_start_seconds": 300}, 9999, None),  # pulls its image
    ],
)
def test_a_gang_that_is_not_whole_gives_its_places_back(
    fields: dict[str, Any], observed: dict[str, Any], seconds: float, stops: StopReason | None
) -> None:
    model = make_model(resources={"nodes": 2, "gpusPerNode": 0})
    run, _ = started(model)
    waiting = gang(run, AttemptState.WAITING, **fields)
    decided = plan(model, Observed(run=run, attempts=[waiting], **observed), NOW + seconds)
    assert [action.reason for action in decided.actions if isinstance(action, StopAttempt)] == (
        [stops] if stops else []
    )
    if stops is None:
        assert decided.wake_at is None or decided.wake_at > NOW + seconds
        return
    decided = plan(model, Observed(run=decided.run, place=3, **observed), NOW + seconds)
    assert decided.run is not None and decided.run.restarts.total == 0
    if stops is StopReason.INCOMPLETE:
        assert decided.wake_at == NOW + seconds + 10
        decided = plan(model, Observed(run=decided.run, place=3, **observed), NOW + seconds + 10)
    ready = condition(decided, "Ready")
    assert (decided.phase, decided.actions, ready.reason) == (Phase.QUEUED, (), "GangIncomplete")
    assert "place 3" in ready.message


def test_a_run_whose_turn_it_is_not_waits_in_line() -> None:
    decided = plan(make_model(), Observed(place=7), NOW)
    assert (decided.phase, decided.actions) == (Phase.QUEUED, ())
    assert condition(decided, "Ready").reason == "WaitingForTurn"


def test_a_disruption_seen_once_is_remembered_after_the_gang_is_gone() -> None:
    model = make_model()
    run, _ = started(model)
    seen = after(model, run, AttemptState.RUNNING, disrupted=True, has_progress=True)
    assert seen.run is not None
    decided = plan(model, Observed(run=seen.run), NOW)
    assert summary(decided) == FREE
    assert decided.run is not None
    assert (decided.run.restarts.disruptions, decided.run.restarts.crashes) == (1, 0)


def test_a_gang_that_its_queue_took_back_was_disrupted_once_and_is_not_forgiven_a_crash_later() -> None:
    model = make_model(retry={"progressDeadlineSeconds": 60})
    run, _ = started(model)
    for state in ("running", "stopping", "queued"):
        decided = after(model, run, AttemptState(state), disrupted=True, has_progress=True)
        assert decided.run is not None
        run = decided.run
    assert after(model, run, AttemptState.WAITING).phase is Phase.RESTARTING
    # It waited for longer than a running gang may be silent.
    for _ in range(2):
        fields = {"now": NOW + 100, "started_at": NOW + 90, "reported_at": NOW, "whole": True}
        again = after(model, run, AttemptState.RUNNING, **fields)
        assert summary(again) == ("Training",)
        assert again.run is not None
        run = again.run
        assert (run.attempt, run.restarts.disruptions, run.disrupted) == (0, 1, False)
    crashed = after(model, run, AttemptState.FAILED, exit_code=1, has_progress=True)
    assert crashed.run is not None
    assert (crashed.run.restarts.crashes, crashed.run.restarts.disruptions) == (1, 1)


def test_a_silent_gang_is_stopped_and_counted() -> None:
    model = make_model(retry={"progressDeadlineSeconds": 60, "maxRestarts": 0})
    run, _ = started(model)
    assert after(model, run, AttemptState.RUNNING).wake_at == NOW + 60
    stalled = after(model, run, AttemptState.RUNNING, now=NOW + 60)
    assert summary(stalled) == ("Restarting", "stop 0 Stalled")
    assert stalled.run is not None
    decided = plan(model, Observed(run=stalled.run), NOW + 70)
    assert decided.run is not None
    assert (decided.phase, decided.run.restarts.stalls) == (Phase.FAILED, 1)


def test_a_gang_that_runs_too_long_ends_the_run() -> None:
    model = make_model(retry={"maxRuntimeSeconds": 100})
    run, _ = started(model)
    assert after(model, run, AttemptState.RUNNING, started_at=NOW).wake_at == NOW + 100
    over = after(model, run, AttemptState.RUNNING, now=NOW + 100, started_at=NOW, reported_at=NOW + 99)
    assert summary(over) == ("Restarting", "stop 0 Overtime")
    assert over.run is not None
    assert plan(model, Observed(run=over.run), NOW + 110).phase is Phase.FAILED


def test_suspending_and_resuming_count_nothing() -> None:
    run, _ = started(make_model())
    paused = make_model(suspend=True)
    stopping = after(paused, run, AttemptState.RUNNING)
    assert summary(stopping) == ("Suspending", "stop 0 Suspended")
    assert stopping.run is not None
    quiet = after(paused, stopping.run, AttemptState.FAILED, exit_code=75)
    assert summary(quiet) == ("Suspended",)
    resumed = plan(make_model(), Observed(run=quiet.run), NOW)
    assert summary(resumed) == ("Pending", "start 1")
    assert resumed.run is not None
    assert resumed.run.restarts.total == 0


@pytest.mark.parametrize(
    ("policy", "running", "finished"),
    [
        ("Finish", ("Training",), ("Pending", "start 2")),
        ("Cancel", ("Restarting", "stop 1 Superseded"), ("Pending", "start 2")),
        ("Manual", ("Training",), ("Succeeded",)),
    ],
)
def test_a_new_spec_while_running(policy: str, running: tuple[str, ...], finished: tuple[str, ...]) -> None:
    before = make_model(updatePolicy=policy)
    run, _ = started(before)
    second = after(before, run, AttemptState.SUCCEEDED).run
    assert second is not None
    newer = make_model(updatePolicy=policy, predictor={"epochs": 7})
    decided = after(newer, second, AttemptState.RUNNING, has_progress=True)
    assert summary(decided) == running
    assert decided.run is not None
    ended = after(
        newer, decided.run, AttemptState.SUCCEEDED if policy != "Cancel" else AttemptState.FAILED, exit_code=75
    )
    assert ended.run is not None
    trained = [TrainedStage(run=run.id, stage=TOKENIZER, hash=run.stages[0].hash)]
    following = plan(newer, Observed(run=ended.run, trained=trained), NOW)
    assert summary(following) == finished
    if policy == "Manual":
        assert condition(following, "Ready").reason == "UpdateWaiting"
        following = plan(newer, Observed(run=ended.run, trained=trained, trigger="now"), NOW)
        assert summary(following) == ("Pending", "start 2")
    else:
        (action,) = following.actions
        assert isinstance(action, StartAttempt)
        assert (action.stage, action.reuse) == (PREDICTOR, {TOKENIZER: Reuse(run=run.id, hash=run.stages[0].hash)})


@pytest.mark.parametrize("has_progress", [False, True])
@pytest.mark.parametrize(
    ("policy", "asked", "gives_way"),
    [
        ("Finish", {}, True),
        ("Manual", {}, False),
        ("Manual", {"trigger": "now"}, True),
        ("Manual", {"trigger": "schedule 6:00", "scheduled": True}, False),
        ("Finish", {"refused": REFUSED}, False),
    ],
)
@pytest.mark.parametrize(
    "state", [AttemptState.QUEUED, AttemptState.WAITING, AttemptState.RUNNING, AttemptState.STOPPING, None]
)
def test_a_run_that_has_trained_nothing_gives_way_for_it_may_be_one_that_cannot_start(
    state: AttemptState | None, policy: str, asked: dict[str, Any], gives_way: bool, has_progress: bool
) -> None:
    run, _ = started(make_model())
    run = run.evolve(has_progress=has_progress, retry_at=NOW + 1000)
    gangs = [] if state is None else [gang(run, state)]
    newer = make_model(updatePolicy=policy, data={"source": {"path": "no-longer-mistyped"}})
    decided = plan(newer, Observed(run=run, attempts=gangs, **asked), NOW)
    assert decided.run is not None
    words = (decided.run.stop, decided.run.outcome)
    if not gives_way or has_progress:
        assert words == (None, None)
        assert decided.actions == ()
        return
    assert words == ((None, Outcome.SUPERSEDED) if state is None else (StopReason.SUPERSEDED, None))
    ended = plan(newer, Observed(run=decided.run, **asked), NOW).run
    (action,) = plan(newer, Observed(run=ended, **asked), NOW).actions
    assert isinstance(action, StartAttempt)
    assert action.run != run.id


@pytest.mark.parametrize("last", [AttemptState.RUNNING, AttemptState.SUCCEEDED])
def test_what_an_earlier_attempt_has_trained_is_not_given_up(last: AttemptState) -> None:
    run, _ = started(make_model())
    trained = after(make_model(), run, last, has_progress=last is AttemptState.RUNNING).run
    assert trained is not None
    evicted = after(make_model(), trained, AttemptState.FAILED, exit_code=137, disrupted=True).run
    assert evicted is not None
    assert summary(after(make_model(predictor={"epochs": 7}), evicted, AttemptState.WAITING)) == ("Restarting",)


def test_a_tick_of_the_schedule_waits_for_its_turn_whatever_the_policy() -> None:
    model = make_model(updatePolicy="Cancel")
    run, _ = started(model)
    gangs = [gang(run, AttemptState.RUNNING, has_progress=True)]
    tick = {"trigger": "schedule 6:00", "scheduled": True}
    assert summary(plan(model, Observed(run=run, attempts=gangs, **tick), NOW)) == ("Training",)
    asked = plan(model, Observed(run=run, attempts=gangs, trigger="6:00"), NOW)
    assert summary(asked) == ("Restarting", "stop 0 Superseded")
    over = run.evolve(outcome=Outcome.SUCCEEDED)
    assert condition(plan(model, Observed(run=over), NOW), "Finished").status
    assert summary(plan(model, Observed(run=over, **tick), NOW)) == ("Pending", "start 0")


def test_a_finished_model_is_left_alone_until_asked_anew() -> None:
    model = make_model()
    run, _ = started(model)
    facts = [TrainedStage(run=run.id, stage=stage.stage, hash=stage.hash) for stage in run.stages]
    fresh = plan(model, Observed(trained=facts, published=run.id), NOW)
    assert (summary(fresh), condition(fresh, "Available").status) == (("Succeeded",), True)
    # Asked anew, both stages are trained again, in a run of its own, and only once.
    again = plan(model, Observed(run=fresh.run, trained=facts, published=run.id, trigger="t1"), NOW)
    (action,) = again.actions
    assert isinstance(action, StartAttempt)
    assert (action.stage, action.reuse) == (TOKENIZER, {})
    assert action.run != run.id
    assert again.run is not None
    over = again.run.evolve(outcome=Outcome.SUCCEEDED)
    assert plan(model, Observed(run=over, trained=facts, published=action.run, trigger="t1"), NOW).actions == ()


def test_a_request_in_the_words_of_an_earlier_one_is_a_request() -> None:
    model = make_model()
    run: Run | None = None
    facts: list[TrainedStage] = []
    runs = []
    for words in ("a", "b", "a", "b"):
        for stage in StageName.with_weights():
            seen = Observed(run=run, trained=facts, published=runs[-1] if runs else "", trigger=words)
            (action,) = plan(model, seen, NOW).actions
            assert isinstance(action, StartAttempt)
            assert action.stage is stage
            run = plan(model, seen, NOW).run
            assert run is not None
            facts.insert(0, TrainedStage(run=action.run, stage=stage, hash=run.stage_hashes[stage]))
            run = after(model, run, AttemptState.SUCCEEDED).run
        runs.append(action.run)
        again = Observed(run=run, trained=facts, published=runs[-1], trigger=words)
        assert summary(plan(model, again, NOW)) == ("Succeeded",)
    assert len(set(runs)) == 4
    # An object that is recreated with these words finds the files that they led to.
    assert [started(model, trigger=words)[0].id for words in "ab"] == runs[:2]


def test_a_spec_that_is_reverted_publishes_the_old_run_without_training() -> None:
    model = make_model()
    run, _ = started(model)
    facts = [TrainedStage(run=run.id, stage=stage.stage, hash=stage.hash) for stage in run.stages]
    newer = run.evolve(id="ffffffff", stage_hashes={}, outcome=Outcome.SUCCEEDED)
    (action,) = plan(model, Observed(run=newer, trained=facts, published="ffffffff"), NOW).actions
    assert isinstance(action, StartAttempt)
    assert (action.run, action.stage, action.publish) == (run.id, PREDICTOR, True)


def test_a_failed_run_starts_again_when_its_surroundings_are_mended() -> None:
    model = make_model()
    run, _ = started(model)
    failed = after(model, run, AttemptState.FAILED, exit_code=78).run
    assert plan(model, Observed(run=failed), NOW).actions == ()
    mended = make_model(resources={"gpusPerNode": 2})
    assert summary(plan(mended, Observed(run=failed), NOW)) == ("Pending", "start 1")


def test_other_surroundings_restart_a_gang_only_before_its_first_step() -> None:
    run, _ = started(make_model())
    changed = make_model(image="trainer:2")
    assert summary(after(changed, run, AttemptState.WAITING)) == ("Restarting", "stop 0 Updated")
    assert summary(after(changed, run, AttemptState.RUNNING, has_progress=True)) == ("Training",)


def test_what_is_mended_while_a_restart_waits_is_tried_at_once_if_nothing_was_trained_yet() -> None:
    model = make_model(retry={"backoffSeconds": 3600})
    run, _ = started(model)
    waiting = after(model, run, AttemptState.FAILED, exit_code=1).run
    assert waiting is not None
    more_memory = make_model(retry={"backoffSeconds": 3600}, resources={"memory": "64Gi"})
    assert plan(model, Observed(run=waiting), NOW).actions == ()
    mended = plan(more_memory, Observed(run=waiting), NOW)
    assert summary(mended) == FREE
    assert mended.run is not None
    assert mended.run.restarts.crashes == 1
    trained = waiting.evolve(has_progress=True)
    assert plan(more_memory, Observed(run=trained), NOW).wake_at == waiting.retry_at


@pytest.mark.parametrize(
    ("changes", "asked", "finished"),
    [
        ({}, {}, (True, "Succeeded", "every stage is done")),
        ({"suspend": True}, {}, (True, "Succeeded", "every stage is done")),
        (
            {"suspend": True},
            {"trigger": "schedule 6:00", "scheduled": True},
            (True, "Succeeded", "every stage is done"),
        ),
        (
            {"suspend": True},
            {"trigger": "now"},
            (False, "UpdateWaiting", "retraining waits for the end of spec.suspend"),
        ),
        (
            {"suspend": True, "predictor": {"epochs": 7}},
            {},
            (False, "UpdateWaiting", "a newer spec waits for the end of spec.suspend"),
        ),
        (
            {"updatePolicy": "Manual", "predictor": {"epochs": 7}},
            {},
            (False, "UpdateWaiting", "a newer spec waits for a retrain request, as updatePolicy is Manual"),
        ),
    ],
)
def test_who_waits_for_finished_does_not_get_the_run_before(
    changes: dict[str, Any], asked: dict[str, Any], finished: tuple[bool, str, str]
) -> None:
    model = make_model(predictor={"epochs": 0, "init": {"hub": {"repo": "a/b"}}})
    run, _ = started(model)
    over = after(model, run, AttemptState.SUCCEEDED).run
    assert over is not None
    model = make_model(**{"predictor": {"epochs": 0, "init": {"hub": {"repo": "a/b"}}}} | changes)
    told = plan(model, Observed(run=over, published=over.id, **asked), NOW)
    assert told.actions == ()
    answer = condition(told, "Finished")
    assert (answer.status, answer.reason, answer.message) == finished
    ready = condition(told, "Ready")
    assert (ready.status, ready.reason, ready.message) == (True, *finished[1:])


def test_the_end_of_a_run_is_not_told_as_the_end_of_what_follows_it() -> None:
    run, _ = started(make_model())
    newer = make_model(predictor={"epochs": 7})
    failed = after(newer, run.evolve(has_progress=True), AttemptState.FAILED, exit_code=65)
    assert (failed.run and failed.run.outcome, failed.wake_at) == (Outcome.FAILED, NOW)
    assert not condition(failed, "Finished").status


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.QUEUED, Phase.TRAINING, Phase.RESTARTING, Phase.SUSPENDED])
@pytest.mark.parametrize(
    ("changes", "asked", "waits"),
    [
        ({"predictor": {"epochs": 7}}, {}, "a newer spec waits for the end of this run"),
        ({"predictor": {"epochs": 7}, "updatePolicy": "Manual"}, {}, "a newer spec waits for a retrain request, as"),
        ({}, {"trigger": "now"}, "retraining waits for the end of this run"),
    ],
)
def test_what_waits_is_told_in_every_phase(
    phase: Phase, changes: dict[str, Any], asked: dict[str, Any], waits: str
) -> None:
    so_far, remembered, state = PHASES[phase]
    run, _ = started(make_model())
    gangs = [] if state is None else [gang(run, state)]
    run = run.evolve(has_progress=True, reason="TrainerCrashed", message="it crashed", **remembered)
    told = plan(make_model(**so_far | changes), Observed(run=run, attempts=gangs, **asked), NOW)
    assert told.phase is phase
    assert f"; {waits}" in condition(told, "Ready").message
    assert condition(told, "Finished").message.startswith(waits)


def test_a_spec_that_is_refused_starts_nothing_and_stops_nothing() -> None:
    newer = make_model(predictor={"epochs": 7}, image="trainer:2", updatePolicy="Cancel")
    assert plan(newer, Observed(refused=REFUSED), NOW).run is None
    run, _ = started(make_model())
    seen = Observed(run=run, attempts=[gang(run, AttemptState.WAITING)], refused=REFUSED)
    assert summary(plan(newer, seen, NOW)) == ("Pending",)
    over = run.evolve(outcome=Outcome.SUCCEEDED)
    assert plan(newer, Observed(run=over, refused=REFUSED), NOW).run == over
    # The next attempt would be built from what is refused.
    crashed = after(make_model(), run, AttemptState.FAILED, exit_code=1).run
    decided = plan(newer, Observed(run=crashed, refused=REFUSED), NOW + 1000)
    assert (decided.run, decided.actions) == (crashed, ())


def test_cancelling_ends_the_run_until_something_else_is_asked_for() -> None:
    model = make_model()
    run, _ = started(model)
    seen = Observed(run=run, attempts=[gang(run, AttemptState.RUNNING)], cancel="c1")
    stopping = plan(model, seen, NOW)
    assert summary(stopping) == ("Suspending", "stop 0 Cancelled")
    cancelled = plan(model, Observed(run=stopping.run, cancel="c1"), NOW)
    assert condition(cancelled, "Finished").reason == "Cancelled"
    assert condition(cancelled, "Ready").status
    assert plan(model, Observed(run=cancelled.run, cancel="c1"), NOW).actions == ()
    assert len(plan(model, Observed(run=cancelled.run, cancel="c1", trigger="t1"), NOW).actions) == 1


@pytest.mark.parametrize(
    ("asked", "changes", "outcome"),
    [
        ({"cancel": "c1"}, {}, Outcome.CANCELLED),
        ({}, {"updatePolicy": "Cancel", "predictor": {"epochs": 7}}, Outcome.SUPERSEDED),
    ],
)
def test_what_arrives_while_a_restart_waits_is_heard_before_it(
    asked: dict[str, str], changes: dict[str, Any], outcome: Outcome
) -> None:
    run, _ = started(make_model())
    waiting = after(make_model(), run, AttemptState.FAILED, exit_code=1).run
    assert waiting is not None
    assert waiting.retry_at is not None
    heard = plan(make_model(**changes), Observed(run=waiting, **asked), NOW)
    assert (heard.actions, heard.run and heard.run.outcome) == ((), outcome)


def test_a_run_goes_on_under_the_id_that_its_finished_stage_has() -> None:
    """The run is lost and the bars moved: the finished run answers, though its id came from an older trigger."""
    model = make_model()
    run, _ = started(model, trigger="long ago")
    facts = [TrainedStage(run=run.id, stage=stage.stage, hash=stage.hash) for stage in run.stages]
    found = plan(model, Observed(trained=facts, published=run.id), NOW)
    assert (found.run and found.run.id, found.actions) == (run.id, ())


def test_a_gang_that_nobody_knows_of_ends_before_another_starts() -> None:
    stray = Attempt(run="00000000", stage=TOKENIZER, attempt=4, state=AttemptState.RUNNING)
    assert summary(plan(make_model(), Observed(attempts=[stray]), NOW)) == ("Pending", "stop 4 Stray")
    gone = replace(stray, state=AttemptState.STOPPING)
    assert summary(plan(make_model(), Observed(attempts=[gone]), NOW)) == ("Pending",)


def test_one_stage_alone() -> None:
    model = make_model()
    run, action = started(model, stages=frozenset({TOKENIZER}))
    assert (action.stage, action.publish) == (TOKENIZER, False)
    only = after(model, run, AttemptState.SUCCEEDED)
    assert (only.phase, only.actions) == (Phase.SUCCEEDED, ())
    refused = plan(model, Observed(stages=frozenset({PREDICTOR})), NOW)
    assert condition(refused, "Ready").message == "predictor requires a trained tokenizer"
    facts = [TrainedStage(run="00000001", stage=TOKENIZER, hash=run.stages[0].hash)]
    _, action = started(model, stages=frozenset({PREDICTOR}), trained=facts)
    assert (action.stage, action.publish, bool(action.reuse)) == (PREDICTOR, True, True)
    # --force --stage predictor trains the predictor anew, and not the tokenizer.
    _, forced = started(model, stages=frozenset({PREDICTOR}), trained=facts, trigger="t1")
    assert (forced.stage, bool(forced.reuse)) == (PREDICTOR, True)


def test_an_attempt_that_was_ended_at_its_deadline_ends_the_run_whatever_its_exit_code() -> None:
    model = make_model(retry={"maxRuntimeSeconds": 100})
    run, _ = started(model)
    decided = after(model, run, AttemptState.FAILED, exit_code=143, disrupted=True, deadline_exceeded=True)
    assert (decided.phase, decided.run and decided.run.reason) == (Phase.FAILED, "MaxRuntimeExceeded")
