"""The one sentence: better, worse or not to be told apart, by how much, and how sure."""

from __future__ import annotations

from typing import Any

import pytest

from kronos_trainer.config import EvaluationSummary
from kronos_trainer.report import verdict
from kronos_trainer.report.wording import between, digits, probability, signed

LABELS = {"start": "the weights it started from", "naive": "the naive forecast", "published": "the published model"}


def compared(rival: str, verdict: str, **fields: Any) -> dict[str, Any]:
    base = {"dates": 21, "improvement": 0.12, "low": 0.04, "high": 0.19, "pBetter": 0.0104, "pWorse": 0.9896}
    return {"rival": rival, "verdict": verdict, "smallestGain": 0.15} | base | fields


def said(*comparisons: dict[str, Any], of: str = "Undecided", **fields: Any) -> verdict.Said:
    summary = {"verdict": of, "metric": "crps", "dates": 21, "symbols": 5, "comparisons": list(comparisons)}
    readings = fields.pop("readings", 1)
    note = fields.pop("note", "")
    read = EvaluationSummary.read(summary | {"readings": readings, "note": note})
    return verdict.judged("model-b-1d", read, confidence=0.9, alpha=0.1 / readings, labels=LABELS, **fields)


UNTOLD = compared("naive", "Undecided", improvement=0.02, low=-0.03, high=0.08, pBetter=0.31, pWorse=0.69)


def test_better_than_one_and_not_to_be_told_apart_from_the_other() -> None:
    found = said(compared("start", "Better"), UNTOLD)
    assert found.badge == "Cannot tell" and found.limits == ()
    assert found.sentence == (
        "model-b-1d forecasts better than the weights it started from: CRPS lower by 12 % (90 % interval 4 to 19 %, "
        "p 0.010, 21 dates); it cannot be told apart from the naive forecast (−3 % to +8 %); with 21 dates only a gain "
        "of 15 % would have been found."
    )


def test_what_cannot_be_told_apart_from_several_is_said_once() -> None:
    found = said(compared("start", "Undecided", low=-0.11, high=0.092, pBetter=0.4, smallestGain=0.131), UNTOLD)
    assert found.sentence == (
        "model-b-1d cannot be told apart from the weights it started from (−11 % to +9.2 %) or from the naive forecast "
        "(−3 % to +8 %); with 21 dates only a gain of 13 to 15 % would have been found."
    )


def test_worse_says_by_how_much_with_the_signs_turned() -> None:
    worse = compared("start", "Worse", improvement=-0.053, low=-0.09, high=-0.012, pBetter=0.98, pWorse=0.02)
    assert said(worse, of="Worse").sentence == (
        "model-b-1d forecasts worse than the weights it started from: CRPS higher by 5.3 % (90 % interval 1.2 to 9 %, "
        "p 0.020, 21 dates)."
    )
    assert said(worse, of="Worse").badge == "Worse"


def test_few_dates_are_said_whatever_p_is() -> None:
    found = said(compared("start", "Undecided", dates=7))
    assert "(+4 % to +19 %): 7 dates are too few for a verdict, which needs 20" in found.sentence
    assert "1 date is too few" in said(compared("start", "Undecided", dates=1)).sentence


def test_a_comparison_that_is_not_fair_is_refused_with_the_spans() -> None:
    why = "its weights may have seen bars until 2024-07-01, and the test span is 2012-01-24 to 2013-03-02"
    unfair = compared("naive", "NotOutOfSample")  # tested all the same: its numbers are for the table
    found = said(compared("start", "Better"), unfair, of="NotOutOfSample", contaminated=why, note=why)
    assert (found.badge, found.limits) == ("Not out of sample", ())
    assert found.sentence.endswith(f"it cannot be compared fairly with the naive forecast: {why}.")
    refused = compared("published", "Undecided", refused="run a was trained on 2011 to 2013, which overlaps")
    assert said(refused).sentence.endswith(
        "with the published model: run a was trained on 2011 to 2013, which overlaps."
    )
    assert "one of both may have seen" in said(compared("naive", "NotOutOfSample")).sentence


def test_what_limits_a_verdict() -> None:
    cut, few = "maxSeconds 3,600 was enough for 21 of 40 dates", "7 dates cannot tell, 20 could: add bars"
    found = said(UNTOLD, cut=cut, contaminated="why", readings=7, note=f"why; {cut}; {few}")
    assert found.limits[:3] == ("Not out of sample: why.", f"Cut short: {cut}.", f"{few}.")
    assert found.limits[3].startswith("This is the 7th evaluation of this model that has read these bars")
    nothing = "the test span has no date to forecast from: give data.split a longer one"
    assert said(note=nothing).limits == ("The test span has no date to forecast from: give data.split a longer one.",)


def test_a_p_that_the_first_reading_would_have_accepted_is_explained() -> None:
    found = said(compared("start", "Undecided", pBetter=0.04), readings=7)
    assert "(+4 % to +19 %): p is 0.040, and at the 7th reading of these bars 0.014 is needed" in found.sentence


def test_the_published_model_comes_last_and_other_rivals_are_for_the_table() -> None:
    sentence = said(compared("garch", "Worse"), compared("published", "Better"), UNTOLD).sentence
    assert sentence.index("naive") < sentence.index("published") and "garch" not in sentence


def test_what_another_release_has_found_is_passed_on() -> None:
    assert said(UNTOLD, of="Splendid").badge == "Splendid"
    assert said().sentence == "model-b-1d was compared with nothing."


@pytest.mark.parametrize(
    ("share", "text"), [(0.124, "12"), (0.0996, "10"), (0.0123, "1.2"), (0.02, "2"), (0.0004, "0"), (-0.5, "50")]
)
def test_percents_have_two_digits(share: float, text: str) -> None:
    assert digits(share) == text


def test_signs_and_small_probabilities() -> None:
    assert [signed(one) for one in (0.12, -0.12, 0.0001, -0.0001, None)] == ["+12 %", "−12 %", "0 %", "0 %", "–"]
    assert between(-0.03, 0.08) == "−3 % to +8 %" and between(0.04, 0.19) == "4 to 19 %"
    assert [probability(one) for one in (0.0002, 0.0123, 0.31, None)] == ["< 0.001", "0.012", "0.31", "–"]
