"""From scores to a verdict: evaluation.json and its short form. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kronos_trainer.config import Comparison, EvaluationSummary, Promotion, Verdict
from kronos_trainer.evaluation.document import (
    CALIBRATED,
    MODEL,
    NAIVE,
    PUBLISHED,
    START,
    Evaluation,
    Reading,
    Tested,
)
from kronos_trainer.evaluation.gate import LEAST_DATES, level
from kronos_trainer.evaluation.inference import compare, overall
from kronos_trainer.evaluation.scores import Scores, forecaster, paired


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A rival's scores on the dates that every rival was scored on."""

    label: str
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a verdict depends on beside the scores."""

    promotion: Promotion
    readings: tuple[Reading, ...]
    contaminated: str  # why the test span is not out of sample for the model; empty: it is
    unfair: Mapping[str, str] = field(default_factory=dict)  # nets that may know more of the span than the model
    refused: Mapping[str, str] = field(default_factory=dict)  # rivals that are not compared, each with the reason
    seed: int = 0


def judge(facts: Evaluation, scored: Mapping[str, Scored], question: Question) -> tuple[Evaluation, EvaluationSummary]:
    """The whole of evaluation.json, around what is known of the evaluation already (`facts`), and its short form."""
    model = scored.get(MODEL)
    comparisons: tuple[Tested, ...] = ()
    if model is not None:
        rivals = [name for name, one in scored.items() if name not in (MODEL, CALIBRATED) and _has_crps(one)]
        comparisons = tuple(_compared(name, model.scores, scored[name].scores, question) for name in rivals)
    comparisons += tuple(
        Tested(rival=rival, verdict=Verdict.UNDECIDED, refused=reason) for rival, reason in question.refused.items()
    )
    forecasters = {
        name: forecaster(name, one.label, one.scores, symbols=facts.symbols, horizon=facts.horizon, stride=facts.stride)
        for name, one in scored.items()
    }
    found = facts.model_copy(
        update={
            "confidence": question.promotion.confidence,
            "contaminated": question.contaminated,
            "readings": question.readings,
            "forecasters": forecasters,
            "comparisons": comparisons,
        }
    )
    summary = _summary(found)
    return found.model_copy(update={"summary": summary}), summary


def _compared(name: str, model: Scores, rival: Scores, question: Question) -> Tested:
    tested = compare(
        name,
        *paired(model, rival),
        confidence=question.promotion.confidence,
        alpha=level(question.promotion, len(question.readings)),
        seed=question.seed,
    )
    # Both nets may have seen a span that the initial weights have seen; a baseline never has.
    nets = name in (START, PUBLISHED)
    unfair = question.unfair.get(name, "") if nets else question.contaminated
    if not unfair:
        return tested
    return tested.model_copy(update={"verdict": Verdict.NOT_OUT_OF_SAMPLE, "refused": unfair if nets else ""})


def _summary(found: Evaluation) -> EvaluationSummary:
    model, calibrated = found.forecasters.get(MODEL), found.forecasters.get(CALIBRATED)
    short = tuple(
        Comparison(**{name: getattr(one, name) for name in Comparison.model_fields if name in one.model_fields_set})
        for one in found.comparisons
    )
    summary = EvaluationSummary(
        metric=found.metric,
        loss=None if model is None else model.metrics.get("crps"),
        dates=len(found.dates),
        symbols=len(found.symbols),
        first=found.dates[0] if found.dates else "",
        last=found.dates[-1] if found.dates else "",
        readings=len(found.readings),
        comparisons=short,
        coverage80=None if model is None else model.metrics.get("coverage80"),
        calibrated80=None if calibrated is None else calibrated.metrics.get("coverage80"),
        note="; ".join(_limits(found)),
    )
    verdict = overall(summary.against(START), summary.against(NAIVE))
    return summary.model_copy(update={"verdict": verdict.value})


def _limits(found: Evaluation) -> Sequence[str]:
    """What keeps the verdict from saying more."""
    limits = [found.contaminated, found.cut]
    if not found.dates:
        limits.append("the test span has no date to forecast from: give data.split a longer one")
    elif len(found.dates) < LEAST_DATES:
        limits.append(f"{len(found.dates)} dates cannot tell, {LEAST_DATES} could: add bars, or lengthen the test span")
    return [limit for limit in limits if limit]


def _has_crps(scored: Scored) -> bool:
    return bool(np.isfinite(scored.scores.crps).any())
