"""evaluation.json: what an evaluation has found, with the losses of every rival per date, so that anybody can check it.

Losses of the close are of its log relative to the origin's close, times 100: roughly percent. Fields are only ever
added, and `version` is raised when one of them means something else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field

from kronos_trainer.config import Comparison, EvaluationSummary
from kronos_trainer.config.tolerant import Count, Number, Tolerant

Numbers = tuple[float | None, ...]  # None: not scored there

# Names of forecasters beside those of baselines.
MODEL, CALIBRATED, START, PUBLISHED, NAIVE = "finetuned", "calibrated", "start", "published", "naive"


class Span(Tolerant):
    """Of wall-clock time, [start, end), as ISO 8601."""

    start: str = ""
    end: str = ""


class Reading(Tolerant):
    """One evaluation of this model that has read a test span which overlaps with this one."""

    run: str = ""
    hash: str = Field("", description="Of its evaluation.")
    span: Annotated[Span, BeforeValidator(Span.read_inside)] = Span()
    at: str = ""


class Forecaster(Tolerant):
    """One forecaster on the test span. What it does not forecast, or was not scored on, is absent."""

    name: str = Field("", description="finetuned, calibrated, start, published, or that of a baseline.")
    label: str = Field("", description="For people, e.g. `naive: last close, band from past returns`.")
    losses: Mapping[str, Numbers] = Field(
        {},
        description="By metric, the mean over symbols of each date: crps, absoluteError, squaredError, mase, "
        "energy, qlike, direction (share that was right), rankIc; in the order of `dates`. crps, absoluteError (of the "
        "median) and squaredError (of the mean) are means over the steps, too.",
    )
    metrics: Mapping[str, float | None] = Field(
        {},
        description="Over the whole span, means over dates of means over symbols: crps, mae, rmse, mase, wql, energy, "
        "coverage50, coverage80, coverage95 (which needs 39 paths), width80, qlike, direction (share of last steps "
        "whose sign was foreseen), majority (share of the commoner sign), ic, rankIc (across at least 5 symbols), "
        "rankIcir (mean / standard deviation over dates), cells (how many have a crps), and of sampled bars the shares "
        "highBelowBody, lowAboveBody, negativeVolume and priceNotPositive, and firstJump (median first change / usual "
        "change; a market has 1).",
    )
    intervals: Mapping[str, tuple[float, float]] = Field(
        {},
        description="95 % intervals of some of the metrics: of shares by Wilson's formula with dates that do not "
        "overlap as trials, of means by the t distribution over dates.",
    )
    by_step: Mapping[str, Numbers] = Field(
        {}, description="By metric, the mean of each step of the horizon: crps, absoluteError, coverage80, width80."
    )
    by_symbol: Mapping[str, Mapping[str, float | None]] = Field({}, description="Of some metrics, by symbol.")
    pit: Numbers = Field((), description="Histogram of the probability integral transform: shares of 10 equal bins.")


class Tested(Comparison):
    """A comparison with all that it is computed from. `model` and `loss` are equal in length."""

    alpha: Number | None = Field(None, description="Largest p-value of a verdict other than Undecided.")
    lags: Count = Field(
        0,
        description="Of the test's Newey-West variance; its correction by Harvey et al. is for a horizon of lags + 1.",
    )
    indices: tuple[int, ...] = Field((), description="Which of `dates` both were scored on.")
    model: tuple[float, ...] = Field((), description="Loss of the model on each of these dates.")
    loss: tuple[float, ...] = Field((), description="Loss of the rival.")


class Fan(Tolerant):
    """One forecast to look at."""

    symbol: str = ""
    which: str = Field("", description="best, median or worst of the symbol's dates by CRPS.")
    date: str = Field("", description="Of the origin.")
    crps: Number | None = None
    times: tuple[str, ...] = Field((), description="Of the bars: some before the origin, and the horizon.")
    bars: tuple[tuple[float, ...], ...] = Field((), description="Open, high, low and close of each of them.")
    levels: tuple[float, ...] = Field((), description="Quantile levels of the bands.")
    sampled: tuple[tuple[float, ...], ...] = Field((), description="Close: [levels, horizon], as sampled.")
    calibrated: tuple[tuple[float, ...], ...] = Field((), description="The same after calibration; may be empty.")


class Evaluation(Tolerant):
    """evaluation.json."""

    version: Count = 1
    model: Mapping[str, Any] = Field({}, description="Namespace and name of the KronosModel.")
    run: str = ""
    hash: str = ""
    timeframe: str = ""
    lookback: Count = 0
    horizon: Count = 0
    stride: Count = Field(0, description="Bars of the common calendar between two dates.")
    samples: Count = 0
    seed: Count = 0
    temperature: Number = 1.0
    top_p: Number = 1.0
    confidence: Number = 0.9
    metric: str = "crps"
    digest: str = Field("", description="SHA-256 of the bars.")
    spans: Mapping[str, Annotated[Span, BeforeValidator(Span.read_inside)]] = Field(
        {}, description="train, validation, embargo and test."
    )
    pretrained_until: str = Field("", description="As in result.json, of the start.")
    contaminated: str = Field("", description="Why the test span is not out of sample for the model; empty: it is.")
    planned: Count = Field(0, description="Dates that were chosen; `dates` are those that were scored.")
    cut: str = Field("", description="Why not all of them were; empty: all were.")
    dates: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    readings: tuple[Annotated[Reading, BeforeValidator(Reading.read_inside)], ...] = ()
    forecasters: Mapping[str, Annotated[Forecaster, BeforeValidator(Forecaster.read_inside)]] = {}
    comparisons: tuple[Annotated[Tested, BeforeValidator(Tested.read_inside)], ...] = ()
    left_out: Mapping[str, str] = Field({}, description="Rivals that were not scored, each with the reason.")
    fans: tuple[Annotated[Fan, BeforeValidator(Fan.read_inside)], ...] = ()
    seconds: Number = 0.0
    summary: Annotated[EvaluationSummary, BeforeValidator(EvaluationSummary.read_inside)] | None = None

    @classmethod
    def load(cls, text: str) -> Self:
        """From the text of an evaluation.json. Raises ValueError where it is no JSON object."""
        return cls.read(json.loads(text))

    def dump(self) -> str:
        """The text of evaluation.json."""
        return json.dumps(self.wire, indent=1, allow_nan=False) + "\n"
