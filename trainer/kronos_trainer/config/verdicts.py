"""What an evaluation comes to: the short form in result.json and in status. evaluation.json has all of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field

from kronos_trainer.config.tolerant import Count, Number, Tolerant


class Verdict(StrEnum):
    """What a comparison on the test span has found."""

    BETTER = "Better"
    WORSE = "Worse"
    UNDECIDED = "Undecided"  # the test span cannot tell
    NOT_OUT_OF_SAMPLE = "NotOutOfSample"  # one of both may have seen the test span


class Comparison(Tolerant):
    """The model against one rival on the test span, by the primary metric, with the date as the unit of inference."""

    rival: str = Field("", description="start, published, or the name of a baseline, e.g. naive.")
    verdict: str = Field("", description="A Verdict.")
    dates: Count = Field(0, description="Dates that both were scored on.")
    improvement: Number | None = Field(None, description="1 - mean loss of the model / mean loss of the rival.")
    low: Number | None = Field(None, description="Lower end of its interval, at the gate's confidence.")
    high: Number | None = Field(None, description="Upper end.")
    p_better: Number | None = Field(
        None, description="One-sided p-value of the Diebold-Mariano test; small: the model is better."
    )
    p_worse: Number | None = Field(None, description="The same; small: the model is worse.")
    smallest_gain: Number | None = Field(
        None, description="Smallest improvement that so many dates would have found in 8 of 10 cases."
    )
    refused: str = Field("", description="Why there is no comparison, with the spans that overlap; empty: there is.")


class EvaluationSummary(Tolerant):
    """What a run's evaluation has found."""

    verdict: str = Field("", description="A Verdict: against the start and the naive forecast together.")
    metric: str = Field("crps", description="The primary metric.")
    loss: Number | None = Field(None, description="Its mean over dates, in percent of the close.")
    dates: Count = 0
    symbols: Count = 0
    first: str = Field("", description="First date of the test span that was forecast from.")
    last: str = Field("", description="Last one.")
    readings: Count = Field(0, description="How often this model's test span has been read, this time included.")
    comparisons: tuple[Annotated[Comparison, BeforeValidator(Comparison.read_inside)], ...] = ()
    coverage80: Number | None = Field(None, description="Share of closes inside the central 80 % band, as sampled.")
    calibrated80: Number | None = Field(None, description="The same after calibration.")
    note: str = Field("", description="What limits it, e.g. maxSeconds; empty: nothing.")

    def against(self, rival: str) -> Comparison | None:
        """The comparison with a rival."""
        return next((one for one in self.comparisons if one.rival == rival), None)


class Decision(StrEnum):
    """What the promotion gate does with a run."""

    PUBLISHED = "Published"
    HELD = "Held"


class PromotionResult(Tolerant):
    """What the promotion gate has decided about a run."""

    decision: str = Field("", description="A Decision.")
    message: str = Field("", description="Why, with the numbers.")
    published: str = Field("", description="Run that was published before, which it was compared with; empty: none.")
