"""The promotion gate: what a verdict does to a run, and how often the bars were read that it rests on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kronos_trainer.config import Comparison, EvaluationSummary, Promotion, PromotionResult, Rival, RunConfig, Verdict
from kronos_trainer.errors import InputMissing
from kronos_trainer.evaluation.document import Reading, Span
from kronos_trainer.evaluation.gate import decide
from kronos_trainer.evaluation.readings import record

# What a comparison with a rival has found, and what the gate is to make of it.
OUTCOMES: dict[str, tuple[dict[str, Any], str]] = {
    "better": ({"p_better": 0.04, "p_worse": 0.96, "improvement": 0.05, "low": 0.01, "high": 0.09}, "better"),
    "at the level": ({"p_better": 0.1, "p_worse": 0.9, "improvement": 0.03}, "better"),
    "cannot tell": ({"p_better": 0.3, "p_worse": 0.7, "improvement": 0.01}, "undecided"),
    "worse": ({"p_better": 0.97, "p_worse": 0.03, "improvement": -0.05}, "worse"),
    "19 dates": ({"dates": 19, "p_better": 0.001, "p_worse": 0.999, "improvement": 0.4}, "undecided"),
    "19 dates, worse": ({"dates": 19, "p_better": 0.999, "p_worse": 0.001, "improvement": -0.4}, "undecided"),
    "refused": ({"dates": 0, "refused": "its train span 2010-01-01 to 2019-01-01 overlaps"}, "undecided"),
    "in sample": ({"verdict": Verdict.NOT_OUT_OF_SAMPLE, "p_better": 0.001, "p_worse": 0.999}, "undecided"),
    "in sample, worse": ({"verdict": Verdict.NOT_OUT_OF_SAMPLE, "p_better": 0.999, "p_worse": 0.001}, "undecided"),
    "no p-value": ({"improvement": 0.05}, "undecided"),
}
PUBLISHED = {"nothing": "", "another": "run-0", "this run": "run-1"}


def compared(rival: str, outcome: str) -> Comparison:
    return Comparison(**{"rival": rival, "verdict": Verdict.BETTER, "dates": 40} | OUTCOMES[outcome][0])


def judged(*comparisons: Comparison, published: str = "run-0", readings: int = 1, **promotion: Any) -> PromotionResult:
    summary = EvaluationSummary(readings=readings, comparisons=comparisons)
    return decide(Promotion.model_validate(promotion), summary, model="model-b-1d", run="run-1", published=published)


@pytest.mark.parametrize("undecided", ["hold", "publish"])
@pytest.mark.parametrize("published", PUBLISHED)
@pytest.mark.parametrize("against", [["start"], ["start", "published"], ["published"], ["start", "published", "naive"]])
def test_a_run_is_held_where_it_is_worse_than_one_and_published_where_it_is_better_than_all(
    against: list[str], published: str, undecided: str
) -> None:
    for start, other, naive in itertools.product(OUTCOMES, OUTCOMES, ("better", "cannot tell", "worse")):
        outcomes = {"start": start, "published": other, "naive": naive}
        comparisons = [compared(rival, outcome) for rival, outcome in outcomes.items()]
        result = judged(*comparisons, published=PUBLISHED[published], against=against, on_undecided=undecided)
        counted = [rival for rival in against if rival != "published" or published == "another"]
        found = {OUTCOMES[outcomes[rival]][1] for rival in counted}
        if published == "this run":
            expected = "Published"
        elif "worse" in found:
            expected = "Held"
        elif "undecided" in found:
            expected = "Published" if undecided == "publish" or published == "nothing" else "Held"
        else:
            expected = "Published"
        assert (result.decision, result.published) == (expected, PUBLISHED[published]), outcomes
        assert all(f"; {rival}: {OUTCOMES[outcomes[rival]][1]}, " in result.message for rival in counted)
        assert ("kronos promote model-b-1d run-1" in result.message) == (expected == "Held")
        assert ("stays it" in result.message) == (published == "this run")


def test_an_improvement_that_is_certain_and_too_small_is_not_enough() -> None:
    better = [compared(rival, "better") for rival in ("start", "published")]
    assert judged(*better, min_improvement=0.05).decision == "Published"
    held = judged(*better, min_improvement=0.051)
    assert held.decision == "Held" and "required at least 5.1 %" in held.message


def test_the_message_has_the_numbers_the_refused_spans_and_the_way_out() -> None:
    held = judged(compared("start", "better"), compared("published", "refused"), readings=2)
    assert held.message == (
        "the test span cannot tell whether it is better; run run-0 stays published; "
        "start: better, improvement 5.0 % (90% interval 1.0 % to 9.0 %), p 0.04 on 40 dates; "
        "published: undecided, not compared: its train span 2010-01-01 to 2019-01-01 overlaps; "
        "level 0.05: 0.1 over 2 readings of the test span; "
        "publish it all the same with `kronos promote model-b-1d run-1`"
    )
    assert "; published: undecided, not compared; " in judged(compared("start", "better")).message
    assert "worse, improvement -5.0 %, p 0.03 on 40 dates" in judged(compared("start", "worse"), published="").message


@pytest.mark.parametrize(("readings", "decision"), [(0, "Published"), (1, "Published"), (2, "Published"), (3, "Held")])
def test_every_reading_of_the_test_span_divides_the_level(readings: int, decision: str) -> None:
    better = [compared(rival, "better") for rival in ("start", "published")]  # p 0.04
    assert judged(*better, readings=readings).decision == decision
    assert judged(*better, readings=readings, confidence=0.97).decision == "Held"


DATES = [f"2024-{month:02d}-{day:02d}" for month in range(1, 7) for day in (1, 8, 15, 22)]  # 24


def reading(run: str, start: str = "2024-01-01", end: str = "2024-07-01", hash: str = "e1") -> Reading:
    return Reading(run=run, hash=hash, span=Span(start=start, end=end), at="2026-01-01T00:00:00Z")


def counted(run: RunConfig, one: Reading, dates: Sequence[str] = DATES) -> list[str]:
    return [f"{found.run}/{found.hash}" for found in record(run.paths(), one, dates)]


def test_readings_of_the_same_bars_add_up_over_runs_and_a_repeated_evaluation_is_one(
    make_run: Callable[..., RunConfig],
) -> None:
    run = make_run()
    assert counted(run, reading("a")) == ["a/e1"]
    before = run.paths().readings.stat().st_mtime_ns
    assert counted(run, reading("a")) == ["a/e1"]
    assert run.paths().readings.stat().st_mtime_ns == before, "an evaluation that goes on after a stop writes nothing"
    assert counted(run, reading("b")) == ["a/e1", "b/e1"]
    assert counted(run, reading("b", hash="e2")) == ["a/e1", "b/e1", "b/e2"]
    assert counted(run, reading("a")) == ["b/e1", "b/e2", "a/e1"]
    assert counted(run, reading("a", end="2024-08-01")) == ["b/e1", "b/e2", "a/e1"]
    assert counted(run, reading("c", start="2024-07-01", end="2025-01-01"), ["2024-07-01"]) == ["a/e1", "c/e1"]
    assert counted(run, reading("d", start="2023-01-01", end="2024-01-01"), ["2023-06-01"]) == ["d/e1"]


@pytest.mark.parametrize(
    ("end", "counts"),
    [
        ("2024-01-22", False),
        ("2024-02-01", False),
        ("2024-02-01T00:01:00", True),
        ("2024-07-01", True),
    ],
)
def test_twenty_dates_after_an_earlier_reading_are_a_test_of_their_own(
    make_run: Callable[..., RunConfig], end: str, counts: bool
) -> None:
    run = make_run()
    counted(run, reading("old", end=end))
    assert counted(run, reading("new")) == (["old/e1", "new/e1"] if counts else ["new/e1"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"readings": [1]}', '{"readings": [{"run": "a"}]}'])
def test_damaged_readings_are_never_forgotten_silently(make_run: Callable[..., RunConfig], text: str) -> None:
    run = make_run()
    counted(run, reading("a"))
    run.paths().readings.write_text(text)
    with pytest.raises(InputMissing, match=r"readings\.json: damaged .*restore it, or remove it"):
        record(run.paths(), reading("b"), DATES)
    assert run.paths().readings.read_text() == text


def test_rivals_are_named_as_in_comparisons() -> None:
    assert {rival.value for rival in Rival} == {"start", "published", "naive"}
