"""What a report says of an evaluation: the numbers of evaluation.json, in the order of the report. For facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kronos_trainer.config import Comparison, EvaluationSummary
from kronos_trainer.evaluation.document import (
    CALIBRATED,
    MODEL,
    NAIVE,
    START,
    Evaluation,
    Fan,
    Forecaster,
    Span,
)
from kronos_trainer.forecast.calibration import Calibration

MOST_FANS = 6  # symbols whose forecasts are drawn
LEVELS = (50, 80, 95)  # percent, of the central bands


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The model against one rival by the primary metric. `loss` is the rival's."""

    rival: str
    label: str
    verdict: str
    improvement: float | None
    low: float | None
    high: float | None
    p: float | None  # that the model is better; small: it is
    p_worse: float | None
    dates: int
    smallest_gain: float | None
    loss: float | None
    refused: str


@dataclass(frozen=True, kw_only=True)
class Covered:
    """A central band, and what it holds: shares, with their 95 % intervals. `width` is in percent of the close."""

    forecaster: str
    level: float
    share: float
    low: float | None
    high: float | None
    width: float | None


@dataclass(frozen=True, kw_only=True)
class SymbolScore:
    """One symbol: the model's loss, and its improvement over two rivals."""

    symbol: str
    loss: float
    over_start: float | None
    over_naive: float | None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An evaluation."""

    metric: str
    loss: float | None
    confidence: float
    dates: int
    planned: int
    cut: str
    first: str
    last: str
    symbols: int
    horizon: int
    stride: int
    samples: int
    seed: int
    temperature: float
    top_p: float
    seconds: float
    contaminated: str
    pretrained_until: str
    spans: Mapping[str, tuple[str, str]]
    readings: tuple[tuple[str, str, str, str], ...]  # run, first and last instant of the span, when
    labels: Mapping[str, str]
    comparisons: tuple[Compared, ...]
    left_out: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, float | None]]  # by forecaster
    by_step: Mapping[str, Mapping[str, tuple[float | None, ...]]]  # by metric and forecaster
    coverage: tuple[Covered, ...]
    pit: Mapping[str, tuple[float | None, ...]]
    calibration: Calibration | None
    by_symbol: tuple[SymbolScore, ...]
    fans: tuple[Fan, ...]


def judged(
    found: Evaluation, summary: EvaluationSummary, calibration: Calibration | None, labels: Mapping[str, str]
) -> Judged:
    """The facts of an evaluation. `labels` name rivals for sentences; their own are for tables."""
    forecasters = found.forecasters
    names = {MODEL: "this model", CALIBRATED: "this model, calibrated", **labels}
    names = {name: names.get(name) or one.label or name for name, one in forecasters.items()} | {
        one.rival: names.get(one.rival) or one.rival for one in summary.comparisons if one.rival not in forecasters
    }
    return Judged(
        metric=summary.metric,
        loss=summary.loss,
        confidence=found.confidence,
        dates=summary.dates,
        planned=found.planned,
        cut=found.cut,
        first=summary.first,
        last=summary.last,
        symbols=summary.symbols,
        horizon=found.horizon,
        stride=found.stride,
        samples=found.samples,
        seed=found.seed,
        temperature=found.temperature,
        top_p=found.top_p,
        seconds=found.seconds,
        contaminated=found.contaminated,
        pretrained_until=found.pretrained_until,
        spans={name: _ends(span) for name, span in found.spans.items() if span.start and span.end},
        readings=tuple((one.run, *_ends(one.span), one.at) for one in found.readings),
        labels=names,
        comparisons=tuple(_compared(one, names, forecasters, summary.metric) for one in summary.comparisons),
        left_out=found.left_out,
        metrics={name: one.metrics for name, one in forecasters.items()},
        by_step=_by_step(forecasters),
        coverage=tuple(_coverage(forecasters)),
        pit={
            name: forecasters[name].pit for name in (MODEL, CALIBRATED) if name in forecasters and forecasters[name].pit
        },
        calibration=calibration,
        by_symbol=_by_symbol(found, summary.metric),
        fans=_chosen(found, summary.metric),
    )


def _ends(span: Span) -> tuple[str, str]:
    return span.start, span.end


def _compared(
    one: Comparison, names: Mapping[str, str], forecasters: Mapping[str, Forecaster], metric: str
) -> Compared:
    rival = forecasters.get(one.rival)
    return Compared(
        rival=one.rival,
        label=names.get(one.rival, one.rival),
        verdict=one.verdict,
        improvement=one.improvement,
        low=one.low,
        high=one.high,
        p=one.p_better,
        p_worse=one.p_worse,
        dates=one.dates,
        smallest_gain=one.smallest_gain,
        loss=None if rival is None else rival.metrics.get(metric),
        refused=one.refused,
    )


def _by_step(forecasters: Mapping[str, Forecaster]) -> dict[str, dict[str, tuple[float | None, ...]]]:
    metrics = dict.fromkeys(metric for one in forecasters.values() for metric in one.by_step)
    return {
        metric: {name: one.by_step[metric] for name, one in forecasters.items() if one.by_step.get(metric)}
        for metric in metrics
    }


def _coverage(forecasters: Mapping[str, Forecaster]) -> list[Covered]:
    rows = []
    for name in (MODEL, CALIBRATED, START):
        one = forecasters.get(name)
        for level in LEVELS if one is not None else ():
            assert one is not None
            share = one.metrics.get(f"coverage{level}")
            if share is not None:
                low, high = one.intervals.get(f"coverage{level}", (None, None))
                width = one.metrics.get(f"width{level}")
                rows.append(Covered(forecaster=name, level=level / 100, share=share, low=low, high=high, width=width))
    return rows


def _by_symbol(found: Evaluation, metric: str) -> tuple[SymbolScore, ...]:
    """In the order of the improvement over the start, the best first."""

    def losses(name: str) -> Mapping[str, float]:
        return _losses(found, name, metric)

    model, start, naive = losses(MODEL), losses(START), losses(NAIVE)
    rows = [
        SymbolScore(
            symbol=symbol,
            loss=model[symbol],
            over_start=_improvement(model[symbol], start.get(symbol)),
            over_naive=_improvement(model[symbol], naive.get(symbol)),
        )
        for symbol in model
    ]

    def place(row: SymbolScore) -> tuple[float, str]:
        gain = row.over_start if row.over_start is not None else row.over_naive
        return -(gain or 0.0), row.symbol

    return tuple(sorted(rows, key=place))


def _losses(found: Evaluation, name: str, metric: str) -> dict[str, float]:
    """Of a forecaster, by symbol, as far as it was scored."""
    one = found.forecasters.get(name)
    by_symbol = {} if one is None else one.by_symbol
    return {symbol: loss for symbol, scores in by_symbol.items() if (loss := scores.get(metric)) is not None}


def _improvement(loss: float, rival: float | None) -> float | None:
    return 1 - loss / rival if rival else None


def _chosen(found: Evaluation, metric: str) -> tuple[Fan, ...]:
    """The forecasts to draw: of all symbols, or of so many that are spread evenly over their ranking by loss."""
    symbols = list(dict.fromkeys(fan.symbol for fan in found.fans))
    if len(symbols) > MOST_FANS:
        losses = _losses(found, MODEL, metric)
        ranked = sorted(symbols, key=lambda symbol: (symbol not in losses, losses.get(symbol, 0.0), symbol))
        symbols = [ranked[round(place * (len(ranked) - 1) / (MOST_FANS - 1))] for place in range(MOST_FANS)]
    return tuple(fan for symbol in symbols for fan in _in_order([fan for fan in found.fans if fan.symbol == symbol]))


def _in_order(fans: Sequence[Fan]) -> list[Fan]:
    order = ("best", "median", "worst")
    return sorted(fans, key=lambda fan: order.index(fan.which) if fan.which in order else len(order))
