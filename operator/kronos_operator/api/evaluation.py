"""What an evaluation has found and what the promotion gate has decided, as status shows it.

Of the trainer's summary, which may be of another release: words and numbers are taken as they are, and bounded.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from kronos_operator.api.values import Count, Id, Note, Text, Word
from kronos_trainer.config import Comparison, Contract, EvaluationSummary, PromotionResult, StageResult, Verdict

_MOST_COMPARISONS = 16

Path = Annotated[str, Field(min_length=1, max_length=1024)]


class Compared(Contract):
    """The model against one rival."""

    rival: Word = Field(description="start, published or the name of a baseline, e.g. naive.")
    verdict: Word = Field("", description="Better, Worse, Undecided or NotOutOfSample.")
    dates: Count = Field(0, description="Dates of the test span on which both were scored.")
    improvement: float | None = Field(None, description="1 - loss of the model / loss of the rival.")
    low: float | None = Field(None, description="Lower end of its interval, at promotion.confidence.")
    high: float | None = Field(None, description="Upper end of its interval.")
    p: float | None = Field(
        None, description="One-sided p-value that the model is better; with verdict Worse, that it is worse."
    )

    @classmethod
    def of(cls, found: Comparison) -> Self:
        """From the trainer's."""
        return cls(
            rival=found.rival,
            verdict=found.verdict,
            dates=found.dates,
            improvement=found.improvement,
            low=found.low,
            high=found.high,
            p=found.p_worse if found.verdict == Verdict.WORSE else found.p_better,
        )


class Evaluated(Contract):
    """The newest evaluation: that of status.run once it has one, and until then that of an earlier run."""

    run: Id = Field(description="Run that was evaluated.")
    verdict: Word = Field(
        "",
        description="Better, Worse, Undecided or NotOutOfSample: against the initial weights and the naive forecast "
        "together.",
    )
    metric: Word = Field("", description="Loss that decides.")
    against: Word | None = Field(None, description="Rival that the verdict rests on.")
    improvement: float | None = Field(None, description="1 - loss of the model / loss of this rival.")
    low: float | None = Field(None, description="Lower end of its interval, at promotion.confidence.")
    high: float | None = Field(None, description="Upper end of its interval.")
    dates: Count = Field(0, description="Dates of the test span that were forecast from.")
    symbols: Count = Field(0, description="Symbols that were forecast.")
    first: Word | None = Field(None, description="First of these dates.")
    last: Word | None = Field(None, description="Last of these dates.")
    readings: Count = Field(0, description="How often the test span has been read for this model.")
    coverage80: float | None = Field(None, description="Share of closes inside the central 80 % band, as sampled.")
    calibrated80: float | None = Field(None, description="The same after calibration.")
    promotion: Word | None = Field(None, description="Published or Held.")
    message: Text | None = Field(None, description="Why, with the numbers.")
    note: Note | None = Field(None, description="What limits the verdict.")
    comparisons: Annotated[tuple[Compared, ...], Field(max_length=_MOST_COMPARISONS)] = Field(
        (), description="Rivals that the model was compared with."
    )
    report: Path | None = Field(None, description="Report of the run, relative to the root of the storage.")

    @classmethod
    def of(cls, result: StageResult, run: str, report: str | None = None) -> Self | None:
        """From a stage's result; None if it has no evaluation."""
        found = result.evaluation
        if found is None:
            return None
        decided = result.promotion or PromotionResult()
        headline = _headline(found)
        return cls(
            run=run,
            verdict=found.verdict,
            metric=found.metric,
            against=headline.rival or None,
            improvement=headline.improvement,
            low=headline.low,
            high=headline.high,
            dates=found.dates,
            symbols=found.symbols,
            first=found.first or None,
            last=found.last or None,
            readings=found.readings,
            coverage80=found.coverage80,
            calibrated80=found.calibrated80,
            promotion=decided.decision or None,
            message=decided.message or None,
            note=found.note or None,
            comparisons=tuple(map(Compared.of, found.comparisons[:_MOST_COMPARISONS])),
            report=report,
        )

    @property
    def in_words(self) -> str:
        """The verdict with its numbers in one line."""
        words = self.verdict or "no verdict"
        if self.against is not None and self.improvement is not None:
            way, sign = ("lower", 1) if self.improvement >= 0 else ("higher", -1)
            words += f": {self.metric.upper()} {100 * abs(self.improvement):.1f} % {way} than {self.against}'s"
            if self.low is not None and self.high is not None:
                low, high = sorted((100 * sign * self.low, 100 * sign * self.high))
                words += f" ({low:.1f} to {high:.1f} %)"
        elif self.against is not None:
            words += f" against {self.against}"
        return f"{words}, on {self.dates} date{'s' * (self.dates != 1)}"


def _headline(found: EvaluationSummary) -> Comparison:
    """The comparison that the verdict rests on: the first of those with the same verdict, and else the first."""
    same = [one for one in found.comparisons if one.verdict == found.verdict]
    return next(iter([*same, *found.comparisons]), Comparison())
