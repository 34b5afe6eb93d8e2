"""The model card of an export: what the weights come from, which bars they have seen, and how good they are.

All of it is from the files of the run, also of one that was copied from a cluster without its run.json. It names no
path of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from kronos_trainer.config import ModelRef, RunPaths, StageName, StageResult
from kronos_trainer.evaluation.document import MODEL, Evaluation
from kronos_trainer.forecast.published import Weights
from kronos_trainer.report import verdict
from kronos_trainer.report.facts import rival_labels
from kronos_trainer.report.labels import ACCURACY, DIRECTION, LABELS, PLACES, SHARES, VOLATILITY
from kronos_trainer.report.wording import NOTHING, date, measure, percent, plain, probability, signed

_LICENCES = {"NeoQuasar": "mit"}  # of the weights that an owner of the hub has released
_BANDS = {f"coverage{level}": f"closes inside the {level} % band" for level in (50, 80, 95)}
_METRICS = (*ACCURACY, *_BANDS, *DIRECTION, *VOLATILITY)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says."""

    name: str
    run: str
    weights: Weights
    bases: tuple[str, ...]  # repositories of the hub that the weights were finetuned from
    licence: str | None
    results: Mapping[StageName, StageResult]
    evaluation: Evaluation | None

    @classmethod
    def of(cls, paths: RunPaths, weights: Weights, licence: str | None) -> Card:
        """The card of a run. `licence` is what somebody has chosen; None: that of what it was finetuned from."""
        bases = tuple(
            dict.fromkeys(filter(None, (base_of(paths, stage) for stage in reversed(StageName.with_weights()))))
        )
        known = {_LICENCES.get(base.partition("/")[0]) for base in bases}
        results = {stage: result for stage in StageName if (result := paths.stage(stage).completed()) is not None}
        return cls(
            name=paths.model_dir.name,
            run=paths.run_dir.name,
            weights=weights,
            bases=bases,
            licence=licence or (known.pop() if len(known) == 1 else None),
            results=results,
            evaluation=_evaluation(paths, results),
        )


def base_of(paths: RunPaths, stage: StageName) -> str:
    """The repository of the hub that a stage's weights go back to, through runs that started from others; or empty."""
    seen: set[str] = set()
    while paths.run_dir.name not in seen:
        seen.add(paths.run_dir.name)
        result = paths.stage(stage).completed()
        kind, _, origin = ("" if result is None else result.origin).partition(":")
        if kind == "hub":
            return origin.partition("@")[0]
        if kind != "published":
            return ""
        model = ModelRef(namespace=paths.model_dir.parent.name, name=paths.model_dir.name)
        paths = RunPaths(paths.root, model, origin.partition("@")[0])
    return ""


def model_card(card: Card) -> str:
    """The text of README.md."""
    front = {
        **({} if card.licence is None else {"license": card.licence}),
        "library_name": "kronos",
        "pipeline_tag": "time-series-forecasting",
        "tags": ["kronos", "time-series", "finance", "k-line"],
        **({"base_model": list(card.bases), "base_model_relation": "finetune"} if card.bases else {}),
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {card.name}",
        _about(card),
        "## Is it any good?",
        *_judged(card),
        "## Bars",
        *_bars(card),
        "## Use",
        *_use(card),
        "## Licence",
        _licence(card),
    ]
    return "\n\n".join(parts) + "\n"


def _evaluation(paths: RunPaths, results: Mapping[StageName, StageResult]) -> Evaluation | None:
    """evaluation.json with the summary of the stage's result; None for a run that was not judged."""
    for stage, result in results.items():
        if result.evaluation is not None:
            try:
                found = Evaluation.load(paths.stage(stage).evaluation.read_text())
            except (OSError, ValueError):
                found = Evaluation()
            return found.model_copy(update={"summary": result.evaluation})
    return None


def _about(card: Card) -> str:
    window, timeframe = card.weights.window, card.weights.timeframe
    bars = "" if timeframe is None else f" {timeframe.value} bars"
    reach = "" if window is None else f", {window.horizon} bars ahead from {window.lookback} bars of history"
    parameters = {stage: result.parameters for stage, result in card.results.items() if result.parameters}
    sizes = ", ".join(f"{stage} {count:,} parameters" for stage, count in parameters.items())
    return (
        "A tokenizer and a predictor of Kronos, a model of candles (open, high, low, close, volume, amount), trained "
        f"to forecast{bars or ' bars'}{reach}, by kronos-operator (run {card.run})."
        f"{f' Sizes: {sizes}.' if sizes else ''}"
    )


def _judged(card: Card) -> Iterator[str]:
    found = card.evaluation
    if found is None or found.summary is None or not found.summary.verdict:
        yield "It was not judged: nothing here says whether it forecasts better than what it started from."
        return
    summary = found.summary
    labels = {name: one.label for name, one in found.forecasters.items() if one.label}
    labels |= rival_labels(card.results, None)
    alpha = next((one.alpha for one in found.comparisons if one.alpha is not None), 1 - found.confidence)
    said = verdict.judged(
        card.name, summary, confidence=found.confidence, alpha=alpha, labels=labels, cut=found.cut,
        contaminated=found.contaminated,
    )  # fmt: skip
    yield f"**{said.badge}.** {' '.join((said.sentence, *said.limits))}"
    yield (
        f"On {summary.dates} dates from {date(summary.first)} to {date(summary.last)} that this training has not seen, "
        f"{summary.symbols} symbol{'' if summary.symbols == 1 else 's'} each, by the {summary.metric.upper()} of the "
        f"close. The improvement is 1 - loss / loss of the rival, with its {percent(found.confidence)} interval; p is "
        "of a one-sided Diebold-Mariano test. A verdict is about these dates: markets change, and costs are not in it."
    )
    rows = [
        [
            labels.get(one.rival, one.rival),
            signed(one.improvement),
            NOTHING if one.low is None or one.high is None else f"{signed(one.low)} to {signed(one.high)}",
            probability(one.p_better),
            str(one.dates),
            verdict.badge_of(one.verdict) if not one.refused else f"not compared: {one.refused}",
        ]
        for one in summary.comparisons
    ]
    yield _table(["compared with", "improvement", "interval", "p", "dates", "verdict"], rows)
    yield from _metrics(found)


def _metrics(found: Evaluation) -> Iterator[str]:
    """Of the model and of the others, what is known of each measure; intervals are those of the model."""
    own = found.forecasters.get(MODEL)
    if own is None:
        return
    others = [name for name in ("start", "naive") if name in found.forecasters]
    rows = []
    for name in _METRICS:
        if own.metrics.get(name) is None:
            continue
        share, places = name in SHARES or name in _BANDS, PLACES.get(name)
        low, high = own.intervals.get(name, (None, None))
        between = [measure(end, places, share=share) for end in (low, high)]
        values = [measure(found.forecasters[one].metrics.get(name), places, share=share) for one in (MODEL, *others)]
        interval = NOTHING if low is None else " to ".join(between)
        rows.append([_BANDS.get(name) or LABELS[name], values[0], interval, *values[1:]])
    yield "Described, not tested; losses of the close are in percent of the close at the origin:"
    yield _table(["measure", "this model", "95 % interval", *others], rows)


def _bars(card: Card) -> Iterator[str]:
    read = [result.data for result in card.results.values() if result.data is not None]
    if not read:
        yield "Nothing is known of the bars: no stage was trained."
        return
    largest = max(read, key=lambda data: data.bars)
    spans: dict[str, tuple[str, str]] = {}
    for data in read:
        spans |= data.spans
    if card.evaluation is not None:
        known = card.evaluation.spans.items()
        spans |= {name: (span.start, span.end) for name, span in known if span.start and span.end}
    yield f"{largest.bars:,} bars of {largest.symbols:,} symbol{'' if largest.symbols == 1 else 's'}, in exchange time:"
    rows = [[name, date(start), date(end)] for name, (start, end) in sorted(spans.items(), key=lambda item: item[1])]
    yield _table(["span", "from", "before"], rows)
    until = {result.pretrained_until for stage, result in card.results.items() if stage.has_weights}
    if until - {""}:
        first = "unknown" if "unknown" in until else max(until)
        yield (
            "Which bars the weights it started from have seen is unknown."
            if first == "unknown"
            else f"The weights it started from may have seen any bar before {first}."
        )


def _use(card: Card) -> Iterator[str]:
    window, clip = card.weights.window, card.weights.reading.clip
    context = 512 if window is None else window.max_context
    yield "With upstream's classes, or those of kronos-finance, from a copy of this directory:"
    yield (
        "```python\n"
        "from model import Kronos, KronosPredictor, KronosTokenizer\n\n"
        'tokenizer = KronosTokenizer.from_pretrained("DIR/tokenizer")\n'
        'predictor = Kronos.from_pretrained("DIR/predictor")\n'
        f"forecaster = KronosPredictor(predictor, tokenizer, max_context={context}, clip={clip:g})\n"
        "```"
    )
    lookback = "" if window is None else f" --lookback {window.lookback}"
    horizon = "N" if window is None else str(window.horizon)
    yield "With kronos-operator" + (
        ", whose bands are calibrated by calibration.json:" if card.weights.calibration else ":"
    )
    yield (
        f"```sh\nkronos forecast --tokenizer DIR/tokenizer --predictor DIR/predictor{lookback} \\\n"
        f"    --input bars.csv --horizon {horizon} --output forecast.csv\n```"
    )


def _licence(card: Card) -> str:
    bases = " and ".join(card.bases)
    if card.licence is None:
        return f"None was stated for these weights.{f' They were finetuned from {bases}.' if bases else ''}"
    return f"{card.licence}.{f' Finetuned from {bases}.' if bases else ''}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(plain(cell).replace('|', '/') for cell in line)} |" for line in lines)
