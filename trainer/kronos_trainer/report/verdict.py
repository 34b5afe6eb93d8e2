"""The sentence that a report begins with: better, worse, or cannot be told apart; by how much, and how sure.

Pure functions of what an evaluation has found. Called by facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kronos_trainer.config import Comparison, EvaluationSummary, Verdict
from kronos_trainer.report.wording import between, digits, ordinal, plain, probability, signed

LEAST_DATES = 20  # fewer cannot tell, whatever p says
SPOKEN = ("start", "naive", "published")  # the rivals that the sentence speaks of, in this order

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
    losses = f" {_sentence('; '.join(outcomes))}" if outcomes else ""
    return Said(
        badge=NOT_JUDGED,
        sentence=f"{name} was not judged: {why}, so nothing here says whether it forecasts better than what it "
        f"started from or than the naive forecast.{losses}",
    )


def judged(
    name: str,
    summary: EvaluationSummary,
    *,
    confidence: float,
    labels: Mapping[str, str],
    planned: int = 0,
    cut: str = "",
    contaminated: str = "",
) -> Said:
    """Of a run with an evaluation. `labels` name rivals for people."""
    spoken = [one for rival in SPOKEN if (one := summary.against(rival)) is not None]
    clauses = [_clause(one, labels.get(one.rival, one.rival), confidence, summary.metric) for one in spoken]
    sentence = f"{name} {'; it '.join(clauses)}." if clauses else f"{name} was compared with nothing."
    limits = []
    if contaminated:
        limits.append(f"Not out of sample: {plain(contaminated)}.")
    if cut:
        of = f"{summary.dates} of {planned} dates were scored" if planned else f"{summary.dates} dates were scored"
        limits.append(f"Cut short: {of} ({plain(cut)}).")
    elif summary.note:
        limits.append(_sentence(plain(summary.note)))
    if summary.readings > 1:
        limits.append(
            f"This is the {ordinal(summary.readings)} evaluation of this model that has read these bars: the more "
            "often one is repeated, the more likely a good result is luck."
        )
    return Said(badge=badge_of(summary.verdict), sentence=sentence, limits=tuple(limits))


def _clause(one: Comparison, rival: str, confidence: float, metric: str) -> str:
    """One comparison, after "it"."""
    if one.refused or one.verdict == Verdict.NOT_OUT_OF_SAMPLE:
        why = plain(one.refused).rstrip(".") or "one of both may have seen the test span"
        return f"cannot be compared fairly with {rival}: {why}"
    interval = one.improvement is not None and one.low is not None and one.high is not None
    loss = metric.upper()
    dates = f"{one.dates} date{'' if one.dates == 1 else 's'}"
    if one.verdict in (Verdict.BETTER, Verdict.WORSE) and interval:
        assert one.improvement is not None and one.low is not None and one.high is not None
        better = one.verdict == Verdict.BETTER
        low, high = (one.low, one.high) if better else (-one.high, -one.low)
        p = one.p_better if better else one.p_worse
        return (
            f"forecasts {'better' if better else 'worse'} than {rival}: {loss} {'lower' if better else 'higher'} by "
            f"{digits(one.improvement)} % ({digits(confidence)} % interval {between(low, high)}, "
            f"p {probability(p)}, {dates})"
        )
    if one.verdict in (Verdict.BETTER, Verdict.WORSE):
        return f"forecasts {one.verdict.lower()} than {rival} ({dates})"
    span = f" ({signed(one.low)} to {signed(one.high)})" if one.low is not None and one.high is not None else ""
    told = f"cannot be told apart from {rival}{span}"
    if one.dates < LEAST_DATES:
        return f"{told}: {dates} {'is' if one.dates == 1 else 'are'} too few for a verdict, which needs {LEAST_DATES}"
    if one.smallest_gain is not None:
        return f"{told}; with {dates} only a gain of {digits(one.smallest_gain)} % would have been found"
    return told


def _sentence(text: str) -> str:
    text = text.strip()
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
