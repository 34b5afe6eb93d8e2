"""The sentence that a report begins with: better, worse, or cannot be told apart; by how much, and how sure.

Pure functions of what an evaluation has found. Called by facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kronos_trainer.config import Comparison, EvaluationSummary, Verdict
from kronos_trainer.evaluation.gate import LEAST_DATES
from kronos_trainer.report.wording import between, digits, ordinal, plain, probability, signed

SPOKEN = ("start", "naive", "published")  # the rivals that the sentence of a run speaks of

BADGES = {
    Verdict.BETTER: "Better",
    Verdict.WORSE: "Worse",
    Verdict.UNDECIDED: "Cannot tell",
    Verdict.NOT_OUT_OF_SAMPLE: "Not out of sample",
}
FAILED, NOT_JUDGED = "Failed", "Not judged"


@dataclass(frozen=True, kw_only=True)
class Said:
    """A verdict in words; `badge` is the shortest form of it, and `limits` are what restricts it."""

    badge: str
    sentence: str
    limits: tuple[str, ...] = ()


def badge_of(verdict: str) -> str:
    """A verdict in a word or a few; what is unknown here as it is."""
    return BADGES.get(Verdict(verdict), verdict) if verdict in set(Verdict) else plain(verdict)


def failed(name: str, stage: str, message: str) -> Said:
    """Of a run that has ended without a result."""
    return Said(badge=FAILED, sentence=f"{name} is not finished: its {stage} failed. {_sentence(plain(message))}")


def not_judged(name: str, outcomes: Sequence[str], *, scored: bool) -> Said:
    """Of a run without an evaluation; `outcomes` are those of its trainings."""
    why = "its run has no evaluation" if not scored else "its evaluation has found no verdict"
    return Said(
        badge=NOT_JUDGED,
        sentence=f"{name} was not judged: {why}, so nothing here says whether it forecasts better than what it "
        "started from or than the naive forecast.",
        limits=tuple(_sentence(outcome) for outcome in outcomes),
    )


def judged(
    name: str,
    summary: EvaluationSummary,
    *,
    confidence: float,
    alpha: float,
    labels: Mapping[str, str],
    cut: str = "",
    contaminated: str = "",
    rivals: Sequence[str] = SPOKEN,
) -> Said:
    """Of a run with an evaluation. `alpha` is the largest p of a verdict, `labels` name rivals for people.

    The sentence speaks of `rivals`, in this order.
    """
    spoken = [one for rival in rivals if (one := summary.against(rival)) is not None]
    names = {one.rival: labels.get(one.rival, one.rival) for one in spoken}
    untold = [one for one in spoken if _untold(one, alpha, 1 - confidence)]
    clauses = [
        _clause(one, names[one.rival], confidence, alpha, contaminated, summary) for one in spoken if one not in untold
    ]
    if untold:
        clauses.append(_untold_clause(untold, names))
    sentence = f"{name} {'; it '.join(clauses)}." if clauses else f"{name} was compared with nothing."
    limits = []
    if contaminated and not any(_unfair(one) and not one.refused for one in spoken):
        limits.append(f"Not out of sample: {plain(contaminated)}.")
    if cut:
        limits.append(f"Cut short: {plain(cut)}.")
    rest = summary.note.replace(contaminated, "").replace(cut, "").strip("; ")
    if rest:
        limits.append(_sentence(plain(rest)))
    if summary.readings > 1:
        limits.append(
            f"This is the {ordinal(summary.readings)} evaluation of this model that has read these bars: the more "
            "often one is repeated, the more likely a good result is luck."
        )
    return Said(badge=badge_of(summary.verdict), sentence=sentence, limits=tuple(limits))


def _unfair(one: Comparison) -> bool:
    return bool(one.refused) or one.verdict == Verdict.NOT_OUT_OF_SAMPLE


def _clause(
    one: Comparison, rival: str, confidence: float, alpha: float, contaminated: str, summary: EvaluationSummary
) -> str:
    """One comparison, after "it"."""
    if _unfair(one):
        why = plain(one.refused or contaminated).rstrip(".") or "one of both may have seen the test span"
        return f"cannot be compared fairly with {rival}: {why}"
    dates = f"{one.dates} date{'' if one.dates == 1 else 's'}"
    if one.verdict in (Verdict.BETTER, Verdict.WORSE):
        better = one.verdict == Verdict.BETTER
        verb = f"forecasts {'better' if better else 'worse'} than {rival}"
        if one.improvement is None or one.low is None or one.high is None:
            return f"{verb} ({dates})"
        low, high = (one.low, one.high) if better else (-one.high, -one.low)
        p = one.p_better if better else one.p_worse
        return (
            f"{verb}: {summary.metric.upper()} {'lower' if better else 'higher'} by {digits(one.improvement)} % "
            f"({digits(confidence)} % interval {between(low, high)}, p {probability(p)}, {dates})"
        )
    assert one.p_better is not None, "else it is untold"
    return (
        f"cannot be told apart from {rival}{_span(one)}: p is {probability(one.p_better)}, and at the "
        f"{ordinal(summary.readings)} reading of these bars {alpha:.2g} is needed"
    )


def _untold(one: Comparison, alpha: float, first: float) -> bool:
    """Whether nothing was found, and would not have been with `first`, the level of a first reading, either."""
    if _unfair(one) or one.verdict in (Verdict.BETTER, Verdict.WORSE):
        return False
    return one.dates < LEAST_DATES or one.p_better is None or not alpha < one.p_better <= first


def _untold_clause(found: Sequence[Comparison], names: Mapping[str, str]) -> str:
    rivals = " or from ".join(f"{names[one.rival]}{_span(one)}" for one in found)
    dates = min(one.dates for one in found)
    many = f"{dates} date{'' if dates == 1 else 's'}"
    told = f"cannot be told apart from {rivals}"
    if dates < LEAST_DATES:
        return f"{told}: {many} {'is' if dates == 1 else 'are'} too few for a verdict, which needs {LEAST_DATES}"
    gains = [digits(gain) for gain in sorted(one.smallest_gain for one in found if one.smallest_gain is not None)]
    if not gains:
        return told
    gain = gains[0] if gains[0] == gains[-1] else f"{gains[0]} to {gains[-1]}"
    return f"{told}; with {many} only a gain of {gain} % would have been found"


def _span(one: Comparison) -> str:
    if one.low is not None and one.high is not None:
        return f" ({signed(one.low)} to {signed(one.high)})"
    return "" if one.improvement is None else f" ({signed(one.improvement)}, by luck or not)"


def _sentence(text: str) -> str:
    text = text.strip()
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
