"""All that a report says, from the files of a run. No clock and no random draw: one run has one report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass

from pydantic.alias_generators import to_camel

from kronos_trainer.config import (
    BarsRead,
    EvaluationSummary,
    PromotionResult,
    RunConfig,
    RunPaths,
    StageName,
    StageResult,
)
from kronos_trainer.config.tolerant import Tolerant
from kronos_trainer.evaluation.document import NAIVE, PUBLISHED, START, Evaluation
from kronos_trainer.evaluation.gate import level
from kronos_trainer.forecast.calibration import Calibration
from kronos_trainer.macro.document import Macro
from kronos_trainer.report import verdict
from kronos_trainer.report.backtested import Backtested, backtested
from kronos_trainer.report.judged import Judged, judged
from kronos_trainer.report.settings import Setting, settings
from kronos_trainer.report.trained import LastStep, Training, last_step, training
from kronos_trainer.report.verdict import Said
from kronos_trainer.report.wording import plain

VERSION = 1  # of report.json; fields are only ever added


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How a run has ended that did not finish."""

    stage: str
    message: str
    attempt: int
    last: LastStep | None


@dataclass(frozen=True, kw_only=True)
class DataRead:
    """The bars of a run. `spans` are [start, end) as ISO 8601 in the exchange's time."""

    source: str
    symbols: int
    bars: int
    digest: str
    spans: Mapping[str, tuple[str, str]]
    pretrained_until: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What a stage has left for forecasts."""

    stage: str
    directory: str
    bytes: int | None
    parameters: int | None
    trained_by: str  # a run
    origin: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number of a stage that produces scores."""

    stage: str
    name: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a report says."""

    version: int
    model: str
    namespace: str
    name: str
    timeframe: str
    lookback: int
    horizon: int
    run: str
    finished_at: str
    verdict: Said
    outcomes: Mapping[str, str]
    failure: Failure | None
    promotion: PromotionResult | None
    evaluation: Judged | None
    macro: Macro | None
    backtest: Backtested | None
    training: tuple[Training, ...]
    out_of_memory_restarts: int
    data: DataRead
    settings: tuple[Setting, ...]
    weights: tuple[Weights, ...]
    scores: tuple[Score, ...]
    software: Mapping[str, Mapping[str, str]]

    @property
    def seconds(self) -> float:
        """Spent in training."""
        return sum(one.seconds or 0.0 for one in self.training)

    @property
    def gpu_hours(self) -> float | None:
        """Of all stages together; None without a GPU."""
        hours = [one.gpu_hours for one in self.training if one.gpu_hours is not None]
        return sum(hours) if hours else None

    @property
    def decision(self) -> str:
        """What the promotion gate has done with the run, and why; empty where it was not asked."""
        if self.promotion is None:
            return ""
        said = plain(self.promotion.message or self.promotion.decision)
        return said[:1].upper() + said[1:]

    def document(self) -> dict[str, object]:
        """The content of report.json."""
        wire = _json(self)
        assert isinstance(wire, dict)
        return wire


def gather(run: RunConfig, paths: RunPaths, failure: str | None = None) -> Facts:
    """The facts of a run as its files are now. `failure` is why the stage of `run` has just ended without a result."""
    # With the hashes of this run: another's is what an earlier configuration has left.
    found = ((stage, paths.stage(stage).completed(run.stage_hashes[stage])) for stage in run.stages)
    results = {stage: result for stage, result in found if result is not None}
    trainings = tuple(
        training(stage.value, paths.stage(stage), results.get(stage, StageResult()))
        for stage in run.stages
        if stage.has_weights
    )
    outcomes = {one.stage: one.outcome for one in trainings}
    judging = next((stage for stage in reversed(results) if results[stage].evaluation is not None), None)
    promotion = next((one.promotion for one in reversed(results.values()) if one.promotion is not None), None)
    rivals = rival_labels(results, promotion)
    summary = None if judging is None else results[judging].evaluation
    read = None if judging is None or summary is None else _evaluation(paths, judging, run, summary)
    times = sorted(result.finished_at for result in results.values() if result.finished_at)
    return Facts(
        version=VERSION,
        model=run.model.key,
        namespace=run.model.namespace,
        name=run.model.name,
        timeframe=run.timeframe.value,
        lookback=run.window.lookback,
        horizon=run.window.horizon,
        run=run.run,
        finished_at=times[-1] if times else "",
        verdict=_said(run, outcomes, read, summary, failure, rivals),
        outcomes=outcomes,
        failure=None if failure is None else _failure(run, paths, failure),
        promotion=promotion,
        evaluation=None if read is None or summary is None else judged(read, summary, _calibration(paths), rivals),
        macro=None if judging is None else _macro(paths, judging),
        backtest=None if judging is None else backtested(paths, run.stage_hashes[judging]),
        training=trainings,
        out_of_memory_restarts=run.out_of_memory_restarts,
        data=_data(run, results, read),
        settings=settings(run),
        weights=tuple(_weights(run, stage, result) for stage, result in results.items() if stage.has_weights),
        scores=tuple(
            Score(stage=stage.value, name=name, value=value)
            for stage, result in results.items()
            if result.evaluation is None  # that has a better place for them
            for name, value in (result.scores or {}).items()
        ),
        software={stage.value: result.software for stage, result in results.items() if result.software},
    )


def _evaluation(paths: RunPaths, stage: StageName, run: RunConfig, summary: EvaluationSummary) -> Evaluation:
    """evaluation.json; where it is absent or damaged, as much of it as the result has."""
    try:
        found = Evaluation.load(paths.stage(stage).evaluation.read_text())
        if found.hash in ("", run.stage_hashes[stage]):
            return found
    except (OSError, ValueError):
        pass
    return Evaluation(confidence=run.promotion.confidence, horizon=run.window.horizon, summary=summary)


def _macro(paths: RunPaths, stage: StageName) -> Macro | None:
    try:
        return Macro.load(paths.stage(stage).macro.read_text())
    except (OSError, ValueError):
        return None


def _calibration(paths: RunPaths) -> Calibration | None:
    try:
        return Calibration.read(json.loads(paths.calibration.read_text()))
    except (OSError, ValueError):
        return None


def rival_labels(results: Mapping[StageName, StageResult], promotion: PromotionResult | None) -> dict[str, str]:
    """What sentences call the rivals of a run, by their names."""
    origins = [result.origin for stage, result in results.items() if stage.has_weights]
    random = bool(origins) and all(origin.startswith("scratch") for origin in origins)
    published = f" (run {promotion.published})" if promotion is not None and promotion.published else ""
    return {
        START: "the random weights it started from" if random else "the weights it started from",
        PUBLISHED: f"the published model{published}",
        NAIVE: "the naive forecast",
    }


def _said(
    run: RunConfig,
    outcomes: Mapping[str, str],
    found: Evaluation | None,
    summary: EvaluationSummary | None,
    failure: str | None,
    rivals: Mapping[str, str],
) -> Said:
    if failure is not None:
        return verdict.failed(run.model.key, run.stage.value, failure)
    if found is None or summary is None or not summary.verdict:
        said = [f"{stage}: {text}" for stage, text in outcomes.items()]
        return verdict.not_judged(run.model.key, said, scored=summary is not None)
    labels = {name: one.label for name, one in found.forecasters.items() if one.label} | dict(rivals)
    return verdict.judged(
        run.model.key,
        summary,
        confidence=found.confidence,
        alpha=level(run.promotion, summary.readings),
        labels=labels,
        cut=found.cut,
        contaminated=found.contaminated,
    )


def _failure(run: RunConfig, paths: RunPaths, message: str) -> Failure:
    return Failure(stage=run.stage.value, message=message, attempt=run.attempt, last=last_step(paths.stage(run.stage)))


def _data(run: RunConfig, results: Mapping[StageName, StageResult], found: Evaluation | None) -> DataRead:
    read = [result.data for result in results.values() if result.data is not None]
    largest = max(read, key=lambda data: data.bars, default=BarsRead())
    spans: dict[str, tuple[str, str]] = {}
    for data in read:
        spans |= data.spans
    if found is not None:
        spans |= {name: (span.start, span.end) for name, span in found.spans.items() if span.start and span.end}
    until = [result.pretrained_until for result in results.values() if result.pretrained_until]
    known = [found.pretrained_until] if found is not None and found.pretrained_until else sorted(until)
    return DataRead(
        source=run.bars,
        symbols=largest.symbols,
        bars=largest.bars,
        digest=largest.digest,
        spans=dict(sorted(spans.items(), key=lambda item: item[1])),
        pretrained_until=known[-1] if known else "",
        notes=tuple(dict.fromkeys(note for data in read for note in data.notes)),
    )


def _weights(run: RunConfig, stage: StageName, result: StageResult) -> Weights:
    return Weights(
        stage=stage.value,
        directory=f"{stage}/best",
        bytes=result.bytes,
        parameters=result.parameters,
        trained_by=result.run or run.run,
        origin=result.origin,
        digest=result.digest,
    )


def _json(value: object) -> object:
    if isinstance(value, Tolerant):
        return value.wire
    if is_dataclass(value) and not isinstance(value, type):
        return {to_camel(field.name): _json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    return value
