"""What a run remembers of the end of an attempt, and the events by which it is reported: reasons and messages."""

from __future__ import annotations

from typing import Any

import pytest

from kronos_operator.api import KronosModel, LastRestart, Outcome, Run, StopReason
from kronos_operator.plan import Attempt, AttemptState, EventKind, Observed, Obstacle, Plan, plan
from kronos_trainer.config import StageName, StageResult

TOKENIZER, PREDICTOR = StageName.TOKENIZER, StageName.PREDICTOR
NOW = 1_000_000.0
FAILED, STOPPED, ENDED = EventKind.ATTEMPT_FAILED, EventKind.ATTEMPT_STOPPED, EventKind.RUN_ENDED


def make_model(**changes: Any) -> KronosModel:
    retry = {"maxRestarts": 2, "backoffSeconds": 10, "progressDeadlineSeconds": 60, "maxRuntimeSeconds": 3600}
    spec = {"timeframe": "1d", "data": {"source": {"path": "bars"}}, "evaluation": {"enabled": False}, "retry": retry}
    return KronosModel.model_validate({"metadata": {"name": "m"}, "spec": spec | changes})


def begun(model: KronosModel | None = None) -> Run:
    run = plan(model or make_model(), Observed(), NOW).run
    assert run is not None
    return run


def after(model: KronosModel, run: Run, state: AttemptState | None, **fields: Any) -> Plan:
    """What is decided of the run when its current attempt is in this state; None: nothing is left of it."""
    if state is None:
        return plan(model, Observed(run=run), NOW)
    assert run.next_stage is not None
    common = {"run": run.id, "stage": run.next_stage.stage, "attempt": run.attempt, "reported_at": NOW}
    return plan(model, Observed(run=run, attempts=[Attempt(**common | {"state": state} | fields)]), NOW)


def told(decided: Plan) -> list[tuple[EventKind, int, StageName | None, str, str]]:
    assert decided.run is not None
    assert {one.run for one in decided.events} <= {decided.run.id}
    return [(one.kind, one.attempt, one.stage, one.reason, one.message) for one in decided.events]


OUT_OF_MEMORY = "out of GPU memory; the next attempt uses a smaller micro-batch"
KILLED = "a process was killed for lack of main memory: "
ON_ONE_NODE = "not all of its 1 pod(s) were scheduled"
# How the attempt ended; what is reported and remembered of it; the counter that goes up, and the pause that follows.
AGAIN: dict[str, tuple[dict[str, Any], str, str, str, float]] = {
    "crash": ({"exit_code": 1}, "TrainerCrashed", "the trainer ended with exit code 1", "crashes", 10),
    "crash with a message": ({"exit_code": 1, "message": "it broke"}, "TrainerCrashed", "it broke", "crashes", 10),
    "unknown": ({"exit_code": None}, "TrainerCrashed", "the trainer ended with exit code unknown", "crashes", 10),
    "storage": ({"exit_code": 74}, "StorageFailed", "the trainer ended with exit code 74", "crashes", 10),
    "GPU memory": ({"exit_code": 71}, "OutOfMemory", OUT_OF_MEMORY, "out_of_memory", 0),
    "GPU memory, said": ({"exit_code": 71, "message": "4 GiB"}, "OutOfMemory", "4 GiB", "out_of_memory", 0),
    "kernel": (
        {"exit_code": 72},
        "MemoryLimitExceeded",
        f"{KILLED}its pods have no limit, so the node itself ran out; set resources.memory, so that its pods go where "
        "there is enough",
        "memory_kills",
        10,
    ),
    "stopped": (
        {"exit_code": 75, "has_progress": True},
        "Disrupted",
        "a pod was evicted, preempted or deleted",
        "disruptions",
        0,
    ),
    "evicted": (
        {"exit_code": 137, "disrupted": True, "reason": "Evicted", "message": "low on disk", "has_progress": True},
        "Evicted",
        "low on disk",
        "disruptions",
        0,
    ),
    "evicted before the first step": (
        {"exit_code": 137, "disrupted": True, "reason": "Evicted", "message": "low on disk"},
        "Evicted",
        "low on disk",
        "disruptions",
        10,
    ),
}


@pytest.mark.parametrize("case", AGAIN)
def test_an_attempt_that_is_made_again_is_reported_and_remembered_with_its_cause(case: str) -> None:
    fields, reason, message, counter, pause = AGAIN[case]
    model = make_model()
    decided = after(model, begun(), AttemptState.FAILED, **fields)
    assert decided.run is not None
    assert told(decided) == [(FAILED, 0, TOKENIZER, reason, message)]
    assert (decided.run.reason, decided.run.message, decided.run.attempt) == (reason, message, 1)
    assert decided.run.restarts.last == LastRestart(reason=reason, message=message, time=NOW)
    assert getattr(decided.run.restarts, counter) == decided.run.restarts.total == 1
    assert decided.run.retry_at == (NOW + pause if pause else None)


FINAL = {
    "config": ({"exit_code": 64}, "ConfigInvalid"),
    "data": ({"exit_code": 65}, "DataInvalid"),
    "input": ({"exit_code": 66}, "InputMissing"),
    "diverged": ({"exit_code": 70}, "TrainingDiverged"),
    "environment": ({"exit_code": 78}, "EnvironmentInvalid"),
    "storage for good": ({"exit_code": 74, "final": True}, "StorageFailed"),
}


@pytest.mark.parametrize("message", ["", "row 7"])
@pytest.mark.parametrize("case", FINAL)
def test_a_run_that_fails_for_good_reports_the_attempt_and_the_run_with_one_cause(case: str, message: str) -> None:
    fields, reason = FINAL[case]
    decided = after(make_model(), begun(), AttemptState.FAILED, message=message, **fields)
    why = message or f"the trainer ended with exit code {fields['exit_code']}"
    assert told(decided) == [(FAILED, 0, TOKENIZER, reason, why), (ENDED, 0, TOKENIZER, reason, why)]
    assert decided.run is not None
    assert (decided.run.outcome, decided.run.reason, decided.run.message) == (Outcome.FAILED, reason, why)


def test_a_crash_that_is_final_for_no_known_reason_is_a_crash() -> None:
    decided = after(make_model(), begun(), AttemptState.FAILED, exit_code=1, final=True)
    assert decided.run is not None and decided.run.outcome is None


def test_counters_that_are_used_up_end_the_run_and_say_how_often_it_was_tried() -> None:
    def end_of(fields: dict[str, Any], model: KronosModel | None = None, **restarts: int) -> tuple[str, str]:
        run = begun(model)
        run = run.evolve(restarts=run.restarts.evolve(**restarts))
        decided = after(model or make_model(), run, AttemptState.FAILED, **fields)
        assert decided.run is not None and decided.run.outcome is Outcome.FAILED
        return decided.run.reason, decided.run.message

    crash = "the trainer ended with exit code 1; given up after 2 restarts"
    assert end_of({"exit_code": 1}, crashes=2) == ("TrainerCrashed", crash)
    assert end_of({"exit_code": 1}, crashes=1, stalls=1) == ("TrainerCrashed", crash)
    smallest = "out of memory with the smallest micro-batch"
    one = make_model(tokenizer={"microBatchSize": 1})
    assert end_of({"exit_code": 71}, one) == ("OutOfMemory", smallest)
    assert end_of({"exit_code": 71, "message": "4 GiB"}, one) == ("OutOfMemory", "4 GiB")
    limited = make_model(resources={"memory": "4Gi", "processesPerNode": 2})
    assert end_of({"exit_code": 72}, limited, memory_kills=1) == (
        "MemoryLimitExceeded",
        f"{KILLED}its limit is 4Gi a pod; raise resources.memory, or lower resources.processesPerNode; it was killed "
        "again after a restart",
    )
    assert end_of({"exit_code": 72, "message": "rank 1"}, limited, memory_kills=1) == (
        "MemoryLimitExceeded",
        "rank 1; it was killed again after a restart",
    )


@pytest.mark.parametrize(
    ("fields", "counter", "allowed"), [({"exit_code": 1}, "crashes", 2), ({"exit_code": 75}, "disruptions", 5)]
)
def test_a_run_is_restarted_as_often_as_it_may_be_and_not_once_more(
    fields: dict[str, Any], counter: str, allowed: int
) -> None:
    model = make_model(retry={"maxRestarts": 2, "maxDisruptions": 5})
    for before, outcome in ((allowed - 1, None), (allowed, Outcome.FAILED)):
        run = begun(model)
        run = run.evolve(restarts=run.restarts.evolve(**{counter: before}))
        decided = after(model, run, AttemptState.FAILED, **fields)
        assert decided.run is not None and decided.run.outcome is outcome


def test_each_stage_has_its_own_counters_of_memory_and_none_of_crashes() -> None:
    run = begun()
    run = run.evolve(restarts=run.restarts.evolve(crashes=1, out_of_memory=1, memory_kills=1))
    decided = after(make_model(), run, AttemptState.SUCCEEDED)
    assert decided.run is not None
    restarts = decided.run.restarts
    assert (restarts.crashes, restarts.out_of_memory, restarts.memory_kills) == (1, 0, 0)


@pytest.mark.parametrize(
    ("stop", "reason", "message", "counter"),
    [
        (StopReason.STALLED, "ProgressDeadlineExceeded", "no sign of life for 60 s", "stalls"),
        (
            StopReason.OUTRANKED,
            "GangIncomplete",
            f"{ON_ONE_NODE}, and another model's come first",
            "incomplete",
        ),
        (
            StopReason.INCOMPLETE,
            "GangIncomplete",
            f"{ON_ONE_NODE} in time; it has released the places of those that were",
            "incomplete",
        ),
    ],
)
def test_an_attempt_that_was_stopped_to_be_made_again_counts_as_what_it_was_stopped_for(
    stop: StopReason, reason: str, message: str, counter: str
) -> None:
    decided = after(make_model(), begun().evolve(stop=stop), AttemptState.FAILED, exit_code=75)
    assert decided.run is not None
    assert told(decided) == [(FAILED, 0, TOKENIZER, reason, message)]
    assert getattr(decided.run.restarts, counter) == 1
    assert (decided.run.stop, decided.run.attempt) == (None, 1)
    assert decided.run.restarts.last == LastRestart(reason=reason, message=message, time=NOW)


def test_gangs_that_are_not_whole_wait_longer_each_time_in_a_row_and_one_that_gives_way_to_another_does_not() -> None:
    def pause(stop: StopReason, incomplete: int) -> tuple[float | None, int]:
        run = begun().evolve(stop=stop)
        run = run.evolve(restarts=run.restarts.evolve(incomplete=incomplete))
        decided = plan(make_model(), Observed(run=run, place=1), NOW)
        assert decided.run is not None
        return decided.wake_at, decided.run.restarts.incomplete

    assert pause(StopReason.INCOMPLETE, 0) == (NOW + 10, 1)
    assert pause(StopReason.INCOMPLETE, 1) == (NOW + 20, 2)
    assert pause(StopReason.OUTRANKED, 0)[1] == 1
    assert pause(StopReason.OUTRANKED, 2)[1] == 2
    running = after(make_model(), begun().evolve(restarts=begun().restarts.evolve(incomplete=2)), AttemptState.RUNNING)
    assert running.run is not None and running.run.restarts.incomplete == 0


@pytest.mark.parametrize("ended", [AttemptState.FAILED, None])
@pytest.mark.parametrize(
    ("stop", "outcome", "event", "reason", "message"),
    [
        (
            StopReason.OVERTIME,
            Outcome.FAILED,
            FAILED,
            "MaxRuntimeExceeded",
            "ran longer than maxRuntimeSeconds (3600 s)",
        ),
        (StopReason.CANCELLED, Outcome.CANCELLED, STOPPED, "Cancelled", "cancelled by request"),
        (StopReason.SUPERSEDED, Outcome.SUPERSEDED, STOPPED, "Superseded", "a newer spec took its place"),
    ],
)
def test_an_attempt_that_was_stopped_for_good_ends_its_run(
    stop: StopReason, outcome: Outcome, event: EventKind, reason: str, message: str, ended: AttemptState | None
) -> None:
    decided = after(make_model(), begun().evolve(stop=stop), ended, **({"exit_code": 75} if ended else {}))
    assert told(decided) == [(event, 0, TOKENIZER, reason, message), (ENDED, 0, TOKENIZER, reason, message)]
    assert decided.run is not None
    assert (decided.run.outcome, decided.run.reason, decided.run.message) == (outcome, reason, message)
    assert (decided.run.attempt, decided.run.stop, decided.wake_at) == (1, None, NOW)


def test_a_workload_that_ran_into_its_own_deadline_ends_the_run_as_one_that_ran_too_long() -> None:
    decided = after(make_model(), begun(), AttemptState.FAILED, deadline_exceeded=True, exit_code=75)
    assert [one.reason for one in decided.events] == ["MaxRuntimeExceeded"] * 2


@pytest.mark.parametrize("stop", [StopReason.SUSPENDED, StopReason.UPDATED])
def test_an_attempt_that_was_stopped_by_the_user_leaves_no_cause_and_counts_nothing(stop: StopReason) -> None:
    decided = after(make_model(suspend=True), begun().evolve(stop=stop), AttemptState.FAILED, exit_code=75)
    assert told(decided) == [(STOPPED, 0, TOKENIZER, stop.value, "")]
    assert decided.run is not None
    assert (decided.run.reason, decided.run.message, decided.run.restarts.total) == ("", "", 0)
    assert (decided.run.attempt, decided.run.restarts.last) == (1, None)


def test_an_attempt_whose_workload_is_gone_was_disrupted() -> None:
    running = after(make_model(), begun(), AttemptState.RUNNING, whole=True).run
    assert running is not None and running.begun
    decided = after(make_model(), running, None)
    assert told(decided) == [(FAILED, 0, TOKENIZER, "WorkloadGone", "the workload and its pods are gone")]
    assert decided.run is not None
    assert (decided.run.attempt, decided.run.begun, decided.run.restarts.disruptions) == (1, False, 1)


def test_what_was_observed_first_of_a_disruption_is_its_cause() -> None:
    fields = {"disrupted": True, "reason": "Preempted", "message": "by another"}
    stopping = after(make_model(), begun(), AttemptState.STOPPING, **fields).run
    assert stopping is not None and stopping.disrupted
    later = {"disrupted": True, "reason": "Deleted", "message": "by hand"}
    still = after(make_model(), stopping, AttemptState.STOPPING, **later)
    assert still.run == stopping and still.events == ()
    ended = after(make_model(), stopping, AttemptState.FAILED, exit_code=137, **later)
    assert told(ended) == [(FAILED, 0, TOKENIZER, "Preempted", "by another")]
    gone = after(make_model(), stopping, None)
    assert told(gone) == [(FAILED, 0, TOKENIZER, "Preempted", "by another")]


def test_the_cause_of_a_disruption_is_not_that_of_an_earlier_failure_nor_one_that_nobody_knows() -> None:
    evicted = {"exit_code": 137, "disrupted": True, "reason": "Evicted", "message": "low on disk"}
    crashed = after(make_model(), begun(), AttemptState.FAILED, exit_code=1).run
    assert crashed is not None and crashed.reason == "TrainerCrashed"
    assert told(after(make_model(), crashed, AttemptState.FAILED, **evicted))[0][3:] == ("Evicted", "low on disk")
    unknown = begun().evolve(disrupted=True)
    assert told(after(make_model(), unknown, AttemptState.FAILED, **evicted))[0][3:] == ("Evicted", "low on disk")


@pytest.mark.parametrize(("fields", "pause"), [({"exit_code": 1}, 1), ({"exit_code": 75, "has_progress": True}, None)])
def test_a_pause_of_a_second_is_one_and_none_is_none(fields: dict[str, Any], pause: int | None) -> None:
    model = make_model(retry={"backoffSeconds": 1}, suspend=True)
    decided = after(model, begun(), AttemptState.FAILED, **fields)
    assert decided.run is not None
    assert decided.run.retry_at == (None if pause is None else NOW + pause)


@pytest.mark.parametrize(("reason", "shown"), [("Preempted", "Preempted"), ("", "Disrupted")])
def test_an_attempt_that_its_queue_has_started_again_reports_the_disruption_once(reason: str, shown: str) -> None:
    fields = {"disrupted": True, "reason": reason, "message": "by another"}
    taken = after(make_model(), begun(), AttemptState.QUEUED, **fields).run
    assert taken is not None
    half = after(make_model(), taken, AttemptState.RUNNING, whole=False)
    assert half.events == () and half.run is not None and half.run.disrupted
    again = after(make_model(), taken, AttemptState.RUNNING, whole=True)
    assert told(again) == [(FAILED, 0, TOKENIZER, shown, "by another")]
    assert again.run is not None
    assert again.run.restarts.last == LastRestart(reason=shown, message="by another", time=NOW)
    assert (again.run.attempt, again.run.reason, again.run.message) == (0, "", "")
    assert after(make_model(), again.run, AttemptState.RUNNING, whole=True).events == ()


def test_disruptions_are_remembered_for_ten_minutes_and_not_more_than_sixteen_of_them() -> None:
    def recent(*ago: float) -> list[float]:
        run = begun().evolve(disrupted_at=tuple(NOW - seconds for seconds in ago))
        decided = after(make_model(), run, AttemptState.FAILED, exit_code=75, has_progress=True)
        assert decided.run is not None
        return [NOW - at for at in decided.run.disrupted_at]

    assert recent(600, 599) == [599, 0]
    assert recent(*range(20, 4, -1)) == [*range(19, 4, -1), 0]


def test_a_trained_stage_keeps_what_its_trainer_reported_of_the_result() -> None:
    result = StageResult(digest="a" * 64, final_train_loss=0.5)
    first = after(make_model(), begun(), AttemptState.SUCCEEDED, result=result)
    assert told(first) == [(EventKind.STAGE_SUCCEEDED, 0, TOKENIZER, "", "")]
    assert first.run is not None and first.run.has_progress
    tokenizer, predictor = first.run.stages
    assert (tokenizer.done, tokenizer.digest, tokenizer.metrics) == (True, "a" * 64, {"finalTrainLoss": 0.5})
    assert (predictor.done, predictor.digest, predictor.metrics) == (False, None, {})
    second = after(make_model(), first.run, AttemptState.SUCCEEDED)
    assert second.run is not None and second.run.stages[0] == tokenizer
    assert told(second) == [
        (EventKind.STAGE_SUCCEEDED, 1, PREDICTOR, "", ""),
        (ENDED, 2, None, "Succeeded", "every stage is done"),
    ]
    for newer in (StageResult(digest="b" * 64), None):
        kept = after(
            make_model(),
            begun().evolve(stages=(tokenizer.evolve(done=False), predictor)),
            AttemptState.SUCCEEDED,
            result=newer,
        )
        assert kept.run is not None and kept.run.stages[0].digest == (newer or result).digest


def test_a_run_that_begins_is_reported_and_one_that_cannot_be_with_its_end() -> None:
    (began,) = plan(make_model(), Observed(), NOW).events
    assert (began.kind, began.attempt, began.stage) == (EventKind.RUN_BEGAN, 0, TOKENIZER)
    decided = plan(make_model(), Observed(stages=frozenset({PREDICTOR})), NOW)
    message = "predictor requires a trained tokenizer"
    assert told(decided) == [
        (EventKind.RUN_BEGAN, 0, PREDICTOR, "", ""),
        (ENDED, 0, PREDICTOR, "InputMissing", message),
    ]


def test_what_will_never_be_accepted_fails_the_run_and_stops_its_gang() -> None:
    why = Obstacle(reason="Invalid", message="the pod has no name")
    run = begun()
    waiting = Attempt(run=run.id, stage=TOKENIZER, attempt=0, state=AttemptState.WAITING)
    decided = plan(make_model(), Observed(run=run, attempts=[waiting], rejected=why), NOW)
    assert told(decided) == [
        (FAILED, 0, TOKENIZER, "Invalid", "the pod has no name"),
        (ENDED, 0, TOKENIZER, "Invalid", "the pod has no name"),
    ]
    assert [action.reason for action in decided.actions] == [StopReason.STRAY]  # type: ignore[union-attr]
    assert decided.wake_at == NOW
    first = plan(make_model(), Observed(rejected=why), NOW)
    assert [one.kind for one in first.events] == [EventKind.RUN_BEGAN, FAILED, ENDED] and first.actions == ()
    over = run.evolve(outcome=Outcome.SUCCEEDED)
    assert plan(make_model(), Observed(run=over, rejected=why), NOW).run == over


def test_what_cannot_be_done_now_starts_nothing_and_a_run_does_not_begin_for_it() -> None:
    why = Obstacle(reason="Unavailable", message="the API server does not answer", place=4)
    decided = plan(make_model(), Observed(postponed=why), NOW)
    assert (decided.run, decided.actions, decided.events) == (None, (), ())
    stray = Attempt(run="00000000", stage=TOKENIZER, attempt=0, state=AttemptState.RUNNING)
    (stop,) = plan(make_model(), Observed(attempts=[stray], postponed=why), NOW).actions
    assert stop.attempt == 0
    crashed = begun().evolve(attempt=3, has_progress=True)
    decided = plan(make_model(), Observed(run=crashed, postponed=why), NOW)
    assert decided.run is not None and decided.run.id == crashed.id and decided.actions == ()
