"""The report as text for terminals, in at most 96 columns, from the same facts as report.html."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from kronos_trainer.macro.document import Macro
from kronos_trainer.report import recipes
from kronos_trainer.report.backtested import Backtested
from kronos_trainer.report.facts import Facts
from kronos_trainer.report.judged import LEVELS, Judged
from kronos_trainer.report.labels import ACCURACY, DIRECTION, LABELS, PLACES, PLAUSIBILITY, SHARES, VOLATILITY
from kronos_trainer.report.tables import training_rows
from kronos_trainer.report.verdict import badge_of
from kronos_trainer.report.wording import (
    NOTHING,
    count,
    date,
    finish,
    hundredths,
    loss,
    measure,
    megabytes,
    number,
    percent,
    plain,
    probability,
    signed,
)

WIDTH = 96
MOST_SYMBOLS = 10  # of a list; report.json has all of them

Row = Sequence[str]


def lines(facts: Facts) -> str:
    """The text."""
    judged = facts.evaluation
    parts = [
        _head(facts),
        *([] if facts.failure is None else [_section("What happened", _failure(facts))]),
        *([] if judged is None else _judged(judged)),
        *([] if facts.backtest is None else [_section("Backtest", _backtest(facts.backtest))]),
        *([] if facts.macro is None else [_section("Macro view", _macro(facts.macro))]),
        _section("Training", _training(facts)),
        *([_section("Scores", _scores(facts))] if facts.scores else []),
        _section("Data", _data(facts)),
        _section("Configuration: what differs from the defaults", _configuration(facts)),
        _section("Use", recipes.commands(facts)),
        _section("Weights", _weights(facts)),
        _section("Software", _software(facts)),
    ]
    return "\n".join(parts)


def headline(said: str) -> str:
    """Of a text, the line that names model and run."""
    return said.partition("\n")[0]


def _head(facts: Facts) -> str:
    said = facts.verdict
    about = f"{plain(facts.model)} · run {plain(facts.run)}"
    more = f"{facts.timeframe} bars, lookback {facts.lookback}, horizon {facts.horizon}"
    end = f", finished {finish(facts.finished_at)}" if facts.finished_at and not facts.failure else ""
    rows = [about, more + end, "", said.badge.upper(), _wrapped(said.sentence), *map(_wrapped, said.limits)]
    rows += [_wrapped(facts.decision)] if facts.decision else []
    return "\n".join(rows) + "\n"


def _failure(facts: Facts) -> str:
    found = facts.failure
    assert found is not None
    rows = [_wrapped(plain(found.message)), "", f"stage {found.stage}, attempt {found.attempt}"]
    if found.last is None:
        return "\n".join([*rows, "it ended before its first step"])
    last = found.last
    rows.append(f"last progress: step {count(last.step)}, loss {number(last.loss)}")
    saved = "the start" if last.checkpoint is None else f"the checkpoint of step {count(last.checkpoint)}"
    return "\n".join([*rows, f"to be resumed from {saved}"])


def _backtest(found: Backtested) -> str:
    return (
        f"{_wrapped(f'{plain(found.verdict)}. {plain(found.sentence)}')}\nmore in {found.page}, relative to the report"
    )


def _macro(found: Macro) -> str:
    parts = [_wrapped("Looked at, not fed to the model, and not tested: one interval in twenty misses by chance.")]
    for one in found.tables:
        rows = [["", one.unit, "95 % interval", one.observations]]
        for row in one.rows:
            known = row.low is not None and row.high is not None
            interval = f"{hundredths(row.low)} to {hundredths(row.high)}" if known else NOTHING
            rows.append([plain(row.label), hundredths(row.value), interval, count(row.count)])
        parts += ["", plain(one.title), table(rows)]
    return "\n".join([*parts, *(f"left out: {plain(note)}" for note in found.notes)])


def _judged(judged: Judged) -> list[str]:
    rows = [["compared with", "improvement", "interval", "p", "dates", "verdict"]]
    for one in judged.comparisons:
        interval = NOTHING if one.low is None else f"{signed(one.low)} to {signed(one.high)}"
        numbers = [signed(one.improvement), interval, probability(one.p), str(one.dates)]
        rows.append(
            [
                plain(one.label),
                *(numbers if not one.refused else [NOTHING] * 4),
                "not compared" if one.refused else badge_of(one.verdict),
            ]
        )
    refused = [f"{plain(one.label)}: {plain(one.refused)}" for one in judged.comparisons if one.refused]
    refused += [f"not compared with {plain(rival)}: {plain(why)}" for rival, why in judged.left_out.items()]
    sections = [
        _section(
            f"Against the alternatives, by {judged.metric.upper()}",
            "\n".join([table(rows, right="1234"), *map(_wrapped, refused)]),
        )
    ]
    for title, names in (
        ("Other measures (described, not tested)", ACCURACY),
        ("Direction and rank", DIRECTION),
        ("Volatility", VOLATILITY),
        ("Plausibility", PLAUSIBILITY),
    ):
        present = [name for name in names if any(one.get(name) is not None for one in judged.metrics.values())]
        if present:
            sections.append(_section(title, _metrics(judged, present)))
    if judged.coverage:
        sections.insert(1, _section("Calibration: share of closes inside the central bands", _coverage(judged)))
    if judged.by_symbol:
        sections.append(_section("By symbol", _symbols(judged)))
    return sections


def _coverage(judged: Judged) -> str:
    found = {(row.forecaster, round(100 * row.level)): row.share for row in judged.coverage}
    names = dict.fromkeys(row.forecaster for row in judged.coverage)
    rows = [[plain(judged.labels[name]), *(percent(found.get((name, level))) for level in LEVELS)] for name in names]
    return table([["forecast", *(f"{level} % band" for level in LEVELS)], *rows], right="123")


def _metrics(judged: Judged, names: Sequence[str]) -> str:
    rows = [["forecast", *(LABELS[name] for name in names)]]
    for forecaster, values in judged.metrics.items():
        if any(values.get(name) is not None for name in names):
            shown = [measure(values.get(name), PLACES.get(name), share=name in SHARES) for name in names]
            rows.append([plain(judged.labels[forecaster]), *shown])
    return table(rows, right="12345678")


def _symbols(judged: Judged) -> str:
    shown = judged.by_symbol
    left = len(shown) - MOST_SYMBOLS
    if left > 0:
        shown = shown[: MOST_SYMBOLS // 2] + shown[-(MOST_SYMBOLS // 2) :]
    rows = [[plain(row.symbol), loss(row.loss), signed(row.over_start), signed(row.over_naive)] for row in shown]
    shown_rows = table([["symbol", judged.metric.upper(), "over the start", "over naive"], *rows], right="123")
    return f"{shown_rows}\n({left:,} more in report.json)" if left > 0 else shown_rows


def _training(facts: Facts) -> str:
    outcomes = [_wrapped(f"{one.stage}: {one.outcome}") for one in facts.training]
    trained = [one for one in facts.training if one.trained]
    rows = [["", *(one.stage for one in trained)], *([title, *cells] for title, cells in training_rows(trained))]
    return "\n".join([*outcomes, *(["", table(rows, right="12345678")] if trained else [])])


def _scores(facts: Facts) -> str:
    rows = [[one.stage, plain(one.name), number(one.value)] for one in facts.scores]
    return table([["stage", "score", "value"], *rows], right="2")


def _data(facts: Facts) -> str:
    data = facts.data
    rows = [["read from", plain(data.source)], ["bars", f"{data.bars:,} of {data.symbols:,} symbols"]]
    rows += [[plain(name), f"{date(first)} to {date(last)}"] for name, (first, last) in data.spans.items()]
    if data.pretrained_until:
        rows.append(["weights saw", f"nothing from {plain(data.pretrained_until)} on"])
    rows.append(["digest", plain(data.digest)])
    notes = [_wrapped(f"- {plain(note)}", "  ") for note in data.notes]
    return "\n".join([table(rows), *notes])


def _configuration(facts: Facts) -> str:
    rows = [[one.field, plain(str(one.value)), plain(str(one.default))] for one in facts.settings if one.differs]
    return table([["field", "value", "default"], *rows])


def _weights(facts: Facts) -> str:
    rows = [
        [
            one.directory,
            megabytes(one.bytes or 0),
            count(one.parameters),
            "this run" if one.trained_by == facts.run else f"run {plain(one.trained_by)}",
            plain(one.origin),
            plain(one.digest[:12]),
        ]
        for one in facts.weights
    ]
    return table([["directory", "size", "parameters", "trained by", "initial weights", "digest"], *rows], right="12")


def _software(facts: Facts) -> str:
    names = list(dict.fromkeys(name for versions in facts.software.values() for name in versions))
    rows = [[stage, *(plain(one.get(name, NOTHING)) for name in names)] for stage, one in facts.software.items()]
    return table([["stage", *map(plain, names)], *rows])


def _section(title: str, body: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{body.rstrip()}\n"


def _wrapped(said: str, indent: str = "") -> str:
    return textwrap.fill(said, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def table(rows: Sequence[Row], *, right: Iterable[str] = ()) -> str:
    """Columns of the width of their longest cell; where that is too much, the widest is cut."""
    columns = len(rows[0])
    widths = [max(len(row[column]) for row in rows) for column in range(columns)]
    while sum(widths) + 2 * (columns - 1) > WIDTH and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    aligned = {int(column) for column in right}
    return "\n".join(
        "  ".join(
            _cut(cell, width).rjust(width) if column in aligned else _cut(cell, width).ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"
