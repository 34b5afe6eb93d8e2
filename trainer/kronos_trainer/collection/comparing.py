"""Two models against each other, by the losses that their evaluations have left: paired, on the same origins.

The loss of a date is a mean over symbols and steps, so two are a pair only where symbols and horizon are the same, and
the test span, which is chosen by the bars and their split; else the comparison is refused. The test is that of an
evaluation (`evaluation.inference`).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kronos_trainer.config import EvaluationSummary, Promotion, RunPaths, StageName, Verdict
from kronos_trainer.errors import ConfigError, InputMissing
from kronos_trainer.evaluation.cells import Floats
from kronos_trainer.evaluation.document import MODEL, Evaluation, Tested
from kronos_trainer.evaluation.gate import level
from kronos_trainer.evaluation.inference import compare, overlap_lags
from kronos_trainer.report import verdict
from kronos_trainer.report.verdict import Said
from kronos_trainer.report.wording import some_of
from kronos_trainer.storage.models import files_of, model_of
from kronos_trainer.storage.pointers import Alias, current, resolve, runs


@dataclass(frozen=True, kw_only=True)
class Side:
    """An evaluated run. `name` is what it was asked for by."""

    name: str
    model: str  # namespace/name
    run: str
    found: Evaluation

    def losses(self, metric: str) -> Mapping[str, float]:
        """By date; NaN where it was not scored."""
        own = self.found.forecasters[MODEL].losses.get(metric, ())
        return {date: math.nan if loss is None else loss for date, loss in zip(self.found.dates, own, strict=False)}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What a comparison has found. `dates` are those that both were scored on."""

    first: Side
    second: Side
    dates: tuple[str, ...]
    tested: Tested
    said: Said
    measures: Mapping[str, tuple[float, float]]  # by metric, means over these dates
    confidence: float


@contextmanager
def evaluated(root: str, namespace: str | None, name: str) -> Iterator[Side]:
    """The run that [NAMESPACE/]NAME[@RUN] means: without a run the published one, and where none is, the latest judged.

    Raises ConfigError for an impossible name, InputMissing where there is no such run or it was not evaluated.
    """
    place, _, run = name.partition("@")
    inside, _, model = place.rpartition("/")
    if "://" not in root:
        yield _side(files_of(Path(root), inside or namespace, model), name, run)
        return
    from kronos_trainer.storage.pointer_copy import PointerCopy

    with tempfile.TemporaryDirectory() as scratch:
        copy = PointerCopy(root, model_of(inside or namespace, model), Path(scratch))
        copy.fetch_evaluation(_run(copy.paths, run))
        yield _side(copy.paths, name, run)


def compared(first: Side, second: Side) -> Compared:
    """The first against the second. Raises ConfigError, with the reason, where they cannot be paired."""
    why = _refusal(first, second)
    if why:
        raise ConfigError(f"{first.name} and {second.name} cannot be compared: {why}")
    one, other = first.found, second.found
    both = sorted(set(one.dates) & set(other.dates))
    losses = {side.name: _aligned(side, one.metric, both) for side in (first, second)}
    confidence, readings = max(one.confidence, other.confidence), max(len(one.readings), len(other.readings), 1)
    alpha = level(Promotion(confidence=confidence), readings)
    lags = max((overlap_lags(found.horizon, found.stride) for found in (one, other) if found.stride), default=0)
    tested = compare(
        second.name, losses[first.name], losses[second.name], confidence=confidence, alpha=alpha, lags=lags
    )
    if not tested.dates:
        raise ConfigError(f"{first.name} and {second.name} cannot be compared: they have no origin in common")
    unfair, seen = _contaminated(first, second)
    if unfair:
        tested = tested.model_copy(update={"verdict": Verdict.NOT_OUT_OF_SAMPLE})
    summary = EvaluationSummary(
        verdict=tested.verdict,
        metric=one.metric,
        dates=tested.dates,
        readings=readings,
        comparisons=(tested,),
        note="; ".join(_notes(first, second, tested.dates)),
    )
    said = verdict.judged(
        first.name, summary, confidence=confidence, alpha=alpha, labels={}, contaminated=seen, rivals=(second.name,)
    )
    return Compared(
        first=first,
        second=second,
        dates=tuple(both[index] for index in tested.indices),
        tested=tested,
        said=said,
        measures=dict(_measures(first, second, both)),
        confidence=confidence,
    )


def document(found: Compared) -> dict[str, object]:
    """What a comparison has found as JSON shows it, with the losses that it is computed from."""
    return {
        "first": {"name": found.first.name, "run": found.first.run},
        "second": {"name": found.second.name, "run": found.second.run},
        **found.tested.wire,
        "metric": found.first.found.metric,
        "confidence": found.confidence,
        "origins": found.dates,
        "sentence": found.said.sentence,
        "limits": found.said.limits,
        "measures": found.measures,
    }


def _side(paths: RunPaths, name: str, run: str) -> Side:
    wanted = RunPaths(paths.root, model_of(paths.model_dir.parent.name, paths.model_dir.name), _run(paths, run))
    for stage in reversed(StageName):
        try:
            found = Evaluation.load(wanted.stage(stage).evaluation.read_text())
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise InputMissing(f"{wanted.stage(stage).evaluation}: damaged ({error}); judge the run again") from None
        if MODEL in found.forecasters and found.dates:
            model = f"{paths.model_dir.parent.name}/{paths.model_dir.name}"
            return Side(name=name, model=model, run=wanted.run_dir.name, found=found)
    raise InputMissing(
        f"run {wanted.run_dir.name} of {paths.model_dir.name} was not judged: it has no evaluation.json with dates; "
        "run it with evaluation.enabled, or name another as NAME@RUN"
    )


def _run(paths: RunPaths, name: str) -> str:
    if name:
        return resolve(paths, name)
    if current(paths) is not None:
        return resolve(paths, Alias.PUBLISHED)
    judged: list[tuple[str, str]] = []
    for run in runs(paths):
        stages = RunPaths(paths.root, model_of(paths.model_dir.parent.name, paths.model_dir.name), run)
        results = [result for stage in StageName if (result := stages.stage(stage).completed()) is not None]
        judged += [(result.finished_at, run) for result in results if result.evaluation is not None]
    if not judged:
        raise InputMissing(f"no run of {paths.model_dir.name} was judged; train it with evaluation.enabled")
    return max(judged)[1]


def _refusal(first: Side, second: Side) -> str:
    """Why the losses of the two are no pairs; empty where they are."""
    one, other = first.found, second.found
    if (first.model, first.run) == (second.model, second.run):
        return f"both are run {first.run}"
    for what, ours, theirs in (
        ("forecast bars of", one.timeframe, other.timeframe),
        ("forecast so many bars", one.horizon, other.horizon),
        ("are scored by", one.metric, other.metric),
    ):
        if ours != theirs:
            return f"they {what}: {ours} and {theirs}"
    spans = [found.spans.get("test") for found in (one, other)]
    if None not in spans and spans[0] != spans[1]:
        told = [f"{span.start} to {span.end}" for span in spans if span is not None]
        return (
            f"their test spans differ, {' and '.join(told)}: train or judge both with the same bars and the same split"
        )
    if set(one.symbols) != set(other.symbols):
        only = [sorted(set(a.symbols) - set(b.symbols)) for a, b in ((one, other), (other, one))]
        told = [
            f"{some_of(names, 3)} only by {side.name}"
            for names, side in zip(only, (first, second), strict=True)
            if names
        ]
        return f"a date's loss is the mean over the symbols, and these were forecast {'; '.join(told)}"
    return ""


def _aligned(side: Side, metric: str, dates: list[str]) -> Floats:
    losses = side.losses(metric)
    return np.array([losses.get(date, math.nan) for date in dates], dtype=np.float64)


def _contaminated(first: Side, second: Side) -> tuple[bool, str]:
    """Whether one alone may have seen the test span, and the words for who may have."""
    told = {side.name: side.found.contaminated for side in (first, second) if side.found.contaminated}
    words = "; ".join(f"{name}: {why}" for name, why in told.items())
    same = first.found.pretrained_until == second.found.pretrained_until
    return bool(told) and not (len(told) == 2 and same), words


def _notes(first: Side, second: Side, dates: int) -> Iterator[str]:
    for side in (first, second):
        if len(side.found.dates) > dates:
            yield f"of the {len(side.found.dates)} dates of {side.name}, {dates} count, those with a score of both"
    if first.found.digest != second.found.digest:
        yield "they have read different files of bars: check that these are equal on the test span"


def _measures(first: Side, second: Side, dates: list[str]) -> Iterator[tuple[str, tuple[float, float]]]:
    for metric in first.found.forecasters[MODEL].losses:
        ours, theirs = _aligned(first, metric, dates), _aligned(second, metric, dates)
        both = np.isfinite(ours) & np.isfinite(theirs)
        if both.any():
            yield metric, (float(ours[both].mean()), float(theirs[both].mean()))
