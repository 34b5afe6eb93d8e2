"""What plan decides on promotions and rollbacks, as a table of what is asked, what is there, and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kronos_operator.api import KronosModel, Run
from kronos_operator.plan import (
    Attempt,
    AttemptState,
    Observed,
    Obstacle,
    PointerPod,
    PointerRequest,
    Published,
    StartAttempt,
    StopAttempt,
    Verb,
    pending,
    plan,
)
from kronos_operator.plan.pointing import START_SECONDS
from kronos_trainer.config import StageName

NOW = 1_000_000.0
MODEL = KronosModel.model_validate(
    {
        "metadata": {"name": "m", "uid": "u"},
        "spec": {
            "timeframe": "1d",
            "data": {"source": {"claim": {"name": "bars"}}},
            "storage": {"claim": {"name": "models"}},
            "evaluation": {"enabled": False},
        },
    }
)
PROMOTE = PointerRequest.of(MODEL, Verb.PROMOTE, "candidate 2026-11-28T12:00:00Z")
ROLLBACK = PointerRequest.of(MODEL, Verb.ROLLBACK, "2026-11-28T13:00:00Z")
PUBLISHED = Published(run="0ddba115")
LATE = NOW - START_SECONDS


def pod(request: PointerRequest = PROMOTE, **fields: Any) -> PointerPod:
    return PointerPod(**{"request": request, "answered": False, "created_at": NOW - 5} | fields)


def attempt(state: AttemptState) -> Attempt:
    """Of some run; whether it is a stray does not matter to who holds the directory."""
    return Attempt(run="r", stage=StageName.PREDICTOR, attempt=3, state=state)


START, WAIT, NOTHING = "start", "wait", "nothing"


@pytest.mark.parametrize(
    ("asked", "pods", "attempts", "follows"),
    [
        ((), (), (), NOTHING),
        ((PROMOTE,), (), (), START),
        ((ROLLBACK,), (), (), START),
        *(((PROMOTE,), (), (state,), NOTHING) for state in ("waiting", "running", "stopping")),
        *(((PROMOTE,), (), (state,), START) for state in ("queued", "succeeded", "failed")),
        ((PROMOTE,), (pod(),), (), WAIT),
        ((PROMOTE,), (pod(started=True, created_at=0.0),), (), WAIT),
        ((PROMOTE,), (pod(created_at=LATE),), (), "PodNotStarted"),
        ((PROMOTE,), (pod(created_at=LATE, reason="ImageNotPulled"),), (), "ImageNotPulled"),
        ((PROMOTE,), (pod(started=True, ended=True, published=PUBLISHED),), (), "Promoted"),
        ((ROLLBACK,), (pod(ROLLBACK, started=True, ended=True, published=PUBLISHED),), (), "RolledBack"),
        ((PROMOTE,), (pod(started=True, ended=True, reason="ReportLost"),), (), "ReportLost"),
        ((PROMOTE,), (pod(started=True, ended=True),), (), "PodFailed"),
        # Somebody else deletes it: a report is taken, a failure is not blamed, and another follows when it is gone.
        ((PROMOTE,), (pod(deleting=True, ended=True, published=PUBLISHED),), (), "Promoted"),
        ((PROMOTE,), (pod(deleting=True, ended=True, reason="PodFailed"),), (), WAIT),
        # The request was taken back, or replaced, while its pod was under way: what it did must become known.
        ((), (pod(ended=True, published=PUBLISHED),), (), "Promoted"),
        ((ROLLBACK,), (pod(),), (), WAIT),
        ((), (pod(answered=True),), (), NOTHING),
        ((), (pod(deleting=True),), (), NOTHING),
    ],
)
def test_what_follows(
    asked: tuple[PointerRequest, ...], pods: tuple[PointerPod, ...], attempts: tuple[str, ...], follows: str
) -> None:
    observed = Observed(asked=asked, pointer_pods=pods, attempts=[attempt(AttemptState(one)) for one in attempts])
    decided = plan(MODEL, observed, NOW)
    pointing = decided.pointing
    assert pointing.start == (asked[0] if follows == START else None)
    reason = None if pointing.answer is None else pointing.answer.reason
    assert reason == (None if follows in (START, WAIT, NOTHING) else follows)
    assert pointing.busy == (follows != NOTHING)
    # Nothing of the model starts beside a pod that moves the pointer.
    assert not pointing.busy or not decided.starts
    live = any(AttemptState(one).live for one in attempts)
    assert decided.starts == (follows == NOTHING and not live)


def test_two_are_answered_by_their_times_whatever_their_kind() -> None:
    earlier = PointerRequest.of(MODEL, Verb.ROLLBACK, "2026-11-28T11:00:00Z")
    assert plan(MODEL, Observed(asked=(PROMOTE, ROLLBACK)), NOW).pointing.start == PROMOTE
    assert plan(MODEL, Observed(asked=(PROMOTE, earlier)), NOW).pointing.start == earlier


def test_a_text_is_answered_once_and_another_asks_again() -> None:
    asked = {Verb.PROMOTE: "0ddba115", Verb.ROLLBACK: ""}
    (request,) = pending(MODEL, asked, {})
    assert (request.verb, request.run) == (Verb.PROMOTE, "0ddba115")
    assert pending(MODEL, asked, {Verb.PROMOTE: "0ddba115"}) == ()
    assert len(pending(MODEL, asked, {Verb.PROMOTE: "0ddba115 1", Verb.ROLLBACK: "2"})) == 1


def test_an_answer_deletes_its_pod_and_looks_again_at_once() -> None:
    done = pod(ROLLBACK, answered=True, ended=True)
    observed = Observed(asked=(PROMOTE,), pointer_pods=(done, pod(ended=True, published=PUBLISHED)))
    decided = plan(MODEL, observed, NOW)
    assert set(decided.pointing.deletions) == {ROLLBACK.name, PROMOTE.name}
    assert decided.wake_at == NOW
    # One that is being deleted is not deleted again.
    decided = plan(MODEL, replace(observed, asked=(), pointer_pods=(replace(done, deleting=True),)), NOW)
    assert decided.pointing.deletions == ()


def test_a_pod_that_waits_is_looked_at_when_it_is_late_and_when_its_report_is() -> None:
    assert plan(MODEL, Observed(asked=(PROMOTE,), pointer_pods=(pod(),)), NOW).wake_at == NOW - 5 + START_SECONDS
    lagging = pod(look_at=NOW + 60)
    assert plan(MODEL, Observed(asked=(PROMOTE,), pointer_pods=(lagging,)), NOW).wake_at == NOW + 60


@pytest.mark.parametrize("field", ["refused", "pointer_refused"])
def test_what_is_refused_is_the_answer(field: str) -> None:
    refused = Obstacle(reason="PolicyDenied", message="claim payroll is not allowed")
    (decided,) = [plan(MODEL, Observed(asked=(PROMOTE,), **{field: refused}), NOW)]
    assert decided.pointing.answer is not None
    assert (decided.pointing.answer.reason, decided.pointing.answer.message) == (refused.reason, refused.message)


def test_what_must_stop_is_stopped_all_the_same() -> None:
    begun = plan(MODEL, Observed(), NOW)
    assert isinstance(begun.run, Run) and isinstance(begun.actions[0], StartAttempt)
    stray = Attempt(run="other", stage=StageName.TOKENIZER, attempt=9, state=AttemptState.RUNNING)
    decided = plan(MODEL, Observed(run=begun.run, attempts=[stray], asked=(PROMOTE,), pointer_pods=(pod(),)), NOW)
    assert [type(action) for action in decided.actions] == [StopAttempt]
