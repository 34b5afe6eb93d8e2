"""How long an ended attempt is kept, and what of attempts is deleted."""

from __future__ import annotations

from typing import Any

from kronos_operator.api import KronosModel, Outcome, Run
from kronos_operator.plan import Attempt, AttemptState, Deletions, Observed, plan
from kronos_operator.plan.retention import deletions
from kronos_trainer.config import StageName

TTL, NOW = 100.0, 1_000_000.0
SPEC: dict[str, Any] = {"timeframe": "1d", "data": {"source": {"path": "bars"}}, "childTTLSecondsAfterFinished": TTL}
MODEL = KronosModel.model_validate({"metadata": {"name": "m"}, "spec": SPEC})
_FIRST = plan(MODEL, Observed(), NOW).run
assert _FIRST is not None
RUN = _FIRST.evolve(attempt=5, outcome=Outcome.SUCCEEDED)
GOING = _FIRST.evolve(attempt=5)


def ended(number: int, age: float, *, success: bool = False, **fields: Any) -> Attempt:
    """An attempt that ended so many seconds ago."""
    state = AttemptState.SUCCEEDED if success else AttemptState.FAILED
    common = {"run": RUN.id, "stage": StageName.TOKENIZER, "attempt": number, "state": state, "succeeding": success}
    return Attempt(**common | {"finished_at": NOW - age} | fields)


def numbers(*attempts: Attempt, run: Run | None = RUN) -> tuple[list[int], list[int], float | None]:
    """The attempts that expire and those that stay, and when to look again."""
    found, expires = deletions(run, attempts, TTL, NOW)
    return [number for _, number in found.expired], sorted(number for _, number in found.kept), expires


def test_the_successes_of_a_run_are_kept_for_the_ttl_after_its_end_and_go_together() -> None:
    assert numbers(ended(1, TTL - 1, success=True)) == ([], [1], NOW + 1)
    assert numbers(ended(1, TTL, success=True)) == ([1], [], None)
    assert numbers(ended(1, 170, success=True), ended(2, 10, success=True)) == ([], [1, 2], NOW + 90)
    assert numbers(ended(1, 170, success=True), ended(2, 110, success=True)) == ([1, 2], [], None)
    earlier = ended(0, TTL, success=True, run="earlier")
    assert numbers(earlier, ended(1, 10, success=True)) == ([0], [1], NOW + 90)


def test_no_success_expires_while_its_run_goes_on() -> None:
    earlier = ended(0, TTL, success=True, run="earlier")
    assert numbers(earlier, ended(1, 9999, success=True), run=GOING) == ([0], [1], None)


def test_only_the_last_failure_is_kept_and_for_as_long_as_no_success_follows() -> None:
    assert numbers(ended(2, 9999), ended(1, 9999)) == ([1], [2], None)
    assert numbers(ended(1, 9999, success=True), ended(2, 9999)) == ([1], [2], None)
    assert numbers(ended(1, 10), ended(2, 10, success=True)) == ([1], [2], NOW + 90)


def test_what_the_run_has_not_taken_note_of_stays() -> None:
    assert numbers(ended(1, 9999, success=True), run=None) == ([], [1], None)
    assert numbers(ended(5, 9999, success=True), ended(6, 9999)) == ([], [5, 6], None)
    assert numbers(ended(4, 0, success=True, finished_at=None)) == ([], [4], None)


def test_what_is_being_deleted_already_is_not_deleted_again() -> None:
    assert numbers(ended(1, TTL, success=True, deleting=True)) == ([], [1], None)


def test_the_workload_of_an_attempt_that_cannot_end_is_deleted_and_the_rest_of_it_stays() -> None:
    stuck = Attempt(run=RUN.id, stage=StageName.TOKENIZER, attempt=5, state=AttemptState.STOPPING, stuck=True)
    found, _ = deletions(RUN, [stuck, ended(1, 0, success=True)], TTL, NOW)
    assert found == Deletions(stuck=((RUN.id, 5),), kept=frozenset({(RUN.id, 1), (RUN.id, 5)}))


def test_a_plan_deletes_by_the_ttl_of_the_spec_and_wakes_when_the_next_expires() -> None:
    running = Attempt(
        run=RUN.id, stage=StageName.TOKENIZER, attempt=5, state=AttemptState.RUNNING, reported_at=NOW, started_at=NOW
    )
    attempts = [ended(1, TTL, success=True, run="a"), ended(2, 60, success=True, run="b"), running]
    decided = plan(MODEL, Observed(run=GOING, attempts=attempts), NOW)
    assert decided.deletions.expired == (("a", 1),)
    assert decided.wake_at == NOW + 40
    decided = plan(MODEL, Observed(run=GOING, attempts=[running]), NOW)
    assert decided.wake_at == NOW + MODEL.spec.retry.progress_deadline_seconds
