"""From cells to dates: the scores of one forecaster, first meaned over the symbols of a date, then over dates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from kronos_trainer.evaluation import metrics
from kronos_trainer.evaluation.cells import Floats, Forecast, Int64, Outcome
from kronos_trainer.evaluation.document import Forecaster
from kronos_trainer.evaluation.inference import mean_interval, overlap_lags

BANDS = {"50": 0.5, "80": 0.8, "95": 0.95}
LOSSES = ("crps", "absoluteError", "squaredError", "mase", "energy", "qlike", "direction", "rankIc")
STEPS = ("crps", "absoluteError", "coverage80", "width80")
SYMBOLS = ("crps", "absoluteError", "mase", "coverage80", "width80", "qlike", "direction")
SPAN = {  # of the whole span: the metric's name, and that of the cells' score
    "crps": "crps",
    "mae": "absoluteError",
    "mase": "mase",
    "energy": "energy",
    "coverage50": "coverage50",
    "coverage80": "coverage80",
    "coverage95": "coverage95",
    "width80": "width80",
    "qlike": "qlike",
    "direction": "direction",
    "ic": "ic",
    "rankIc": "rankIc",
    "highBelowBody": "highBelowBody",
    "lowAboveBody": "lowAboveBody",
    "negativeVolume": "negativeVolume",
    "priceNotPositive": "priceNotPositive",
    "firstJump": "firstJump",
}
SHARES = ("coverage50", "coverage80", "coverage95", "direction")
MEANS = ("crps", "mae", "mase", "energy", "qlike", "ic", "rankIc")
CHUNK = 2**21  # numbers of the paths that are scored at once: 16 MiB, some ten times that in all


def score(forecast: Forecast, outcome: Outcome) -> dict[str, Floats]:
    """Every score of the cells, by name: [B], or [B, H] where each step has one; NaN where a cell has none.

    From the paths: crps, absoluteError (of the median), squaredError (of the mean), coverage50, coverage80, coverage95
    and width80 [B, H]; mase, energy, quantileLoss and size (the two parts of WQL), direction, rose, expected (mean of
    the last step) and, as [B, 10], pit. A cell has them where each of its paths and outcomes is a number. From the
    rest: qlike, rank (else as expected) and shares. Of the outcome: came, its last step.
    """
    scores = {"came": outcome.close[:, -1]}
    if forecast.close is not None:
        scores |= _of_paths(forecast.close, outcome)
        scores["rank"] = scores["expected"]
    if forecast.variance is not None:
        scores["qlike"] = metrics.qlike(forecast.variance, outcome.variance)
    if forecast.rank is not None:
        scores["rank"] = forecast.rank
    return scores | dict(forecast.shares or {})


class Scores:
    """The scores of one forecaster on D dates and N symbols, filled date by date; NaN where it has none.

    Per date, per symbol and per step, what is kept are means; of single cells, only the CRPS, since two forecasters are
    compared on the cells that both were scored on, and the expected last close, which a backtest trades on.
    """

    def __init__(self, dates: int, symbols: int) -> None:
        self.crps: Floats = np.full((dates, symbols), np.nan)
        self.expected: Floats = np.full((dates, symbols), np.nan)
        self.by_date: dict[str, Floats] = {}  # [D] each, with ic and rankIc
        self.by_step: dict[str, Floats] = {}  # [D, H] each
        self.pit: Floats = np.full((dates, metrics.PIT_BINS), np.nan)
        self.sums: dict[str, Floats] = {}  # [N] each, over dates
        self.counts: dict[str, Floats] = {}

    def add(self, date: int, symbols: Int64, scores: Mapping[str, Floats]) -> None:
        """The scores of a date (its index), of all its cells at once: `symbols` [B] are their indices."""
        dates, count = self.crps.shape
        for name, values in scores.items():
            if name == "pit":
                self.pit[date] = _mean(values, axis=0)
                continue
            cells = values if values.ndim == 1 else values.mean(axis=1)
            self.by_date.setdefault(name, np.full(dates, np.nan))[date] = _mean(cells)
            if name in STEPS:
                steps = self.by_step.setdefault(name, np.full((dates, values.shape[1]), np.nan))
                steps[date] = _mean(values, axis=0)
            if name in SYMBOLS:
                scored = np.isfinite(cells)
                self.sums.setdefault(name, np.zeros(count))[symbols[scored]] += cells[scored]
                self.counts.setdefault(name, np.zeros(count))[symbols[scored]] += 1
            if name in ("crps", "expected"):
                getattr(self, name)[date, symbols] = cells
        nothing = np.full(len(symbols), np.nan)
        ic, _ = metrics.correlations(scores.get("expected", nothing), scores["came"])
        _, rank_ic = metrics.correlations(scores.get("rank", nothing), scores["came"])
        self.by_date.setdefault("ic", np.full(dates, np.nan))[date] = ic
        self.by_date.setdefault("rankIc", np.full(dates, np.nan))[date] = rank_ic

    def of(self, dates: Int64) -> Scores:
        """Of some of the dates (their indices), in that order, where no other date was added."""
        part = Scores(len(dates), self.crps.shape[1])
        part.crps, part.expected, part.pit = self.crps[dates], self.expected[dates], self.pit[dates]
        part.by_date = {name: values[dates] for name, values in self.by_date.items()}
        part.by_step = {name: values[dates] for name, values in self.by_step.items()}
        part.sums, part.counts = self.sums, self.counts
        return part

    def by_symbol(self, name: str) -> Floats:
        """Mean over dates [N]."""
        counts = self.counts[name]
        return np.asarray(np.where(counts > 0, self.sums[name] / np.maximum(counts, 1), np.nan))

    def span(self) -> dict[str, float]:
        """Metrics over the whole span, as `Forecaster.metrics` names them; those that are not there are left out."""
        means = {name: float(_mean(values)) for name, values in self.by_date.items()}
        found = {name: means.get(score, math.nan) for name, score in SPAN.items()}
        found["rmse"] = math.sqrt(means.get("squaredError", math.nan))
        found["wql"] = _ratio(means.get("quantileLoss", math.nan), means.get("size", math.nan))
        if "crps" in means:
            found["cells"] = int(np.isfinite(self.crps).sum())
        if "direction" in means:
            found["majority"] = max(means["rose"], 1 - means["rose"])
        ranks = self.by_date.get("rankIc", np.empty(0))
        ranks = ranks[np.isfinite(ranks)]
        if len(ranks) > 1:
            found["rankIcir"] = _ratio(float(ranks.mean()), float(ranks.std(ddof=1)))
        return {name: value for name, value in found.items() if math.isfinite(value)}


def paired(model: Scores, rival: Scores) -> tuple[Floats, Floats]:
    """CRPS of both per date [D]: means over the symbols that both were scored on there; NaN without such a symbol."""
    both = np.isfinite(model.crps) & np.isfinite(rival.crps)
    return _mean(np.where(both, model.crps, np.nan), axis=1), _mean(np.where(both, rival.crps, np.nan), axis=1)


def forecaster(
    name: str, label: str, scores: Scores, *, symbols: Sequence[str], horizon: int, stride: int
) -> Forecaster:
    """What evaluation.json says of a forecaster. `stride`: bars between two dates; `symbols` [N] are names.

    Intervals of means are by the t distribution over dates, those of shares by Wilson's formula, with as many trials as
    there are dates without overlap: neither the steps of a window nor the symbols of a date are independent.
    """
    span = scores.span()
    lags = overlap_lags(horizon, stride)
    intervals = {}
    for metric in MEANS:
        if metric in span and (interval := mean_interval(scores.by_date[SPAN[metric]], lags=lags)):
            intervals[metric] = interval
    for metric in SHARES:
        if metric in span:
            trials = np.count_nonzero(np.isfinite(scores.by_date[metric])) * min(1.0, stride / horizon)
            low, high = proportion_confint(span[metric] * trials, trials, method="wilson")
            intervals[metric] = (float(low), float(high))
    by_symbol = {metric: _numbers(scores.by_symbol(metric)) for metric in SYMBOLS if metric in scores.by_date}
    return Forecaster(
        name=name,
        label=label,
        losses={loss: _numbers(scores.by_date[loss]) for loss in LOSSES if _any(scores.by_date.get(loss))},
        metrics=span,
        intervals=intervals,
        by_step={step: _numbers(_mean(values, axis=0)) for step, values in scores.by_step.items() if _any(values)},
        by_symbol={
            symbol: {metric: values[index] for metric, values in by_symbol.items() if values[index] is not None}
            for index, symbol in enumerate(symbols)
        },
        pit=_numbers(_mean(scores.pit, axis=0)) if _any(scores.pit) else (),
    )


def _of_paths(close: Floats, outcome: Outcome) -> dict[str, Floats]:
    cells, samples, horizon = close.shape
    usable = np.flatnonzero(np.isfinite(close).all(axis=(1, 2)) & np.isfinite(outcome.close).all(axis=1))
    scores: dict[str, Floats] = {}
    size = max(1, CHUNK // (samples * horizon))
    for start in range(0, len(usable), size):
        rows = usable[start : start + size]
        for name, values in _of_whole_paths(close[rows], outcome.close[rows], outcome.scale[rows]).items():
            scores.setdefault(name, np.full((cells, *values.shape[1:]), np.nan))[rows] = values
    return scores or {"expected": np.full(cells, np.nan)}


def _of_whole_paths(close: Floats, came: Floats, scale: Floats) -> dict[str, Floats]:
    bands = {name: level for name, level in BANDS.items() if metrics.has_band(close.shape[1], level)}
    sides = [side for level in bands.values() for side in ((1 - level) / 2, (1 + level) / 2)]
    ordered = np.sort(close, axis=1)  # all but the energy score take paths in any order, and are faster in this one
    found = metrics.quantiles(ordered, [*metrics.WQL_LEVELS, *sides])
    nine = len(metrics.WQL_LEVELS)
    median = found[metrics.WQL_LEVELS.index(0.5)]
    error = np.abs(median - came)
    direction = metrics.direction(median[:, -1], came[:, -1])
    expected = close.mean(axis=1)
    scores = {
        "crps": metrics.crps(ordered, came),
        "energy": metrics.energy(close, came),
        "absoluteError": error,
        "squaredError": (expected - came) ** 2,
        "mase": error.mean(axis=1) / np.where(scale > 0, scale, np.nan),
        "quantileLoss": metrics.quantile_loss(found[:nine], metrics.WQL_LEVELS, came).mean(axis=1),
        "size": np.abs(came).mean(axis=1),
        "pit": metrics.pit(ordered, came),
        "direction": direction,
        "rose": np.where(np.isnan(direction), np.nan, came[:, -1] > 0),
        "expected": expected[:, -1],
    }
    for index, name in enumerate(bands):
        low, high = found[nine + 2 * index], found[nine + 2 * index + 1]
        scores[f"coverage{name}"] = ((low <= came) & (came <= high)).astype(np.float64)
        if name == "80":
            scores["width80"] = high - low
    return scores


def _mean(values: Floats, axis: int | None = None) -> Floats:
    """Mean of those that are numbers; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _any(values: Floats | None) -> bool:
    return values is not None and bool(np.isfinite(values).any())


def _numbers(values: Floats) -> tuple[float | None, ...]:
    return tuple(value if math.isfinite(value) else None for value in values.tolist())
