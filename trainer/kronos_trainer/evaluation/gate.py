"""The promotion gate: whether a judged run replaces the published one. Pure: the pointer is moved by storage.

One-sided tests, each at the level 1 - confidence, divided by how often the test span has been read: whoever tries the
same bars often enough passes any test once. That the model is better than every rival needs no further correction, for
all of the tests must pass (an intersection-union test: Berger, Technometrics 24, 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from kronos_trainer.config import (
    Comparison,
    Decision,
    EvaluationSummary,
    Promotion,
    PromotionResult,
    Rival,
    Verdict,
)

LEAST_DATES = 20
"""With fewer the test span cannot tell, whatever a test says of it, and an improvement has no interval."""


class _Finding(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


def level(promotion: Promotion, readings: int) -> float:
    """The largest p-value that counts as evidence, for a test span that was read so often, this time included."""
    return round(1 - promotion.confidence, 12) / max(readings, 1)  # 1 - 0.9 is less than 0.1


def decide(
    promotion: Promotion, summary: EvaluationSummary, *, model: str, run: str, published: str
) -> PromotionResult:
    """What happens to a run that was judged. `published` is the run published now, empty: none.

    Worse than any rival: held, also where nothing is published. Better than all: published. Else as `onUndecided` says,
    and a run that is the published one stays it. A comparison that was refused, is not out of sample or has fewer than
    LEAST_DATES dates decides nothing. `model` and `run` are named in the message.
    """
    rivals = [one for one in promotion.against if one is not Rival.PUBLISHED or published not in ("", run)]
    found = {rival: _finding(promotion, summary, rival) for rival in rivals}
    decision, why = _decision(promotion, list(found.values()), run=run, published=published)
    details = [f"{rival}: {_described(promotion, summary, rival, finding)}" for rival, finding in found.items()]
    said = [why, *details]
    if found:
        said.append(_level_text(promotion, summary.readings))
    if decision is Decision.HELD:
        said.append(f"publish it all the same with `kronos promote {model} {run}`")
    return PromotionResult(decision=decision.value, message="; ".join(said), published=published)


def _decision(promotion: Promotion, found: Sequence[_Finding], *, run: str, published: str) -> tuple[Decision, str]:
    if published == run:
        return Decision.PUBLISHED, "this run is the published one and stays it, whatever the verdict"
    if _Finding.WORSE in found:
        return Decision.HELD, "worse on the test span"
    if _Finding.UNDECIDED not in found:
        return Decision.PUBLISHED, "better on the test span" if found else "nothing to compare it with"
    if promotion.on_undecided == "publish":
        return Decision.PUBLISHED, "the test span cannot tell whether it is better (promotion.onUndecided: publish)"
    if not published:
        return Decision.PUBLISHED, "the test span cannot tell whether it is better, and nothing was published yet"
    return Decision.HELD, f"the test span cannot tell whether it is better; run {published} stays published"


def _finding(promotion: Promotion, summary: EvaluationSummary, rival: Rival) -> _Finding:
    compared = summary.against(rival)
    if compared is None or _unusable(compared):
        return _Finding.UNDECIDED
    most = level(promotion, summary.readings)
    if compared.p_worse is not None and compared.p_worse <= most:
        return _Finding.WORSE
    if compared.p_better is None or compared.improvement is None or compared.p_better > most:
        return _Finding.UNDECIDED
    return _Finding.BETTER if compared.improvement >= promotion.min_improvement else _Finding.UNDECIDED


def _unusable(compared: Comparison) -> str:
    """Why a comparison decides nothing, empty if it does."""
    if compared.refused:
        return f"not compared: {compared.refused}"
    if compared.verdict == Verdict.NOT_OUT_OF_SAMPLE:
        return "not out of sample"
    if compared.dates < LEAST_DATES:
        return f"{compared.dates} dates, fewer than {LEAST_DATES}"
    return ""


def _described(promotion: Promotion, summary: EvaluationSummary, rival: Rival, finding: _Finding) -> str:
    compared = summary.against(rival)
    if compared is None:
        return f"{finding}, not compared"
    unusable = _unusable(compared)
    numbers = [unusable] if unusable else []
    if compared.improvement is not None and not compared.refused:
        interval = (
            ""
            if compared.low is None or compared.high is None
            else f" ({promotion.confidence:.0%} interval {_percent(compared.low)} to {_percent(compared.high)})"
        )
        numbers.append(f"improvement {_percent(compared.improvement)}{interval}")
    if not unusable:
        p = compared.p_worse if finding is _Finding.WORSE else compared.p_better
        numbers.append(f"{'no p-value' if p is None else f'p {p:.3g}'} on {compared.dates} dates")
        least = promotion.min_improvement
        if compared.improvement is not None and compared.improvement < least and finding is _Finding.UNDECIDED:
            numbers.append(f"required at least {_percent(least)}")
    return ", ".join([finding, *numbers])


def _level_text(promotion: Promotion, readings: int) -> str:
    """The level of the tests, and where it comes from."""
    most = level(promotion, readings)
    if readings <= 1:
        return f"level {most:.3g}"
    return f"level {most:.3g}: {1 - promotion.confidence:.3g} over {readings} readings of the test span"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
