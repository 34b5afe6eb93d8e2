"""The page of all models of an output root: a row for each, in whatever order the reader asks for, without a script.

Radio buttons choose a column; the style sheet has the place of every row for each of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kronos_trainer.config import ModelRef, RunPaths
from kronos_trainer.report import wording
from kronos_trainer.report.html import environment, style_sheet, styled
from kronos_trainer.report.text import table
from kronos_trainer.storage import durable

FILE = "report.html"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model, by the report of its latest run; what that has not is None."""

    model: str
    link: str  # relative to the root; empty without a report
    run: str
    timeframe: str
    verdict: str
    over_start: float | None
    over_naive: float | None
    loss: float | None
    dates: int | None
    published: bool
    gpu_hours: float | None
    finished_at: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a column shows and sorts by; `falling`: the largest comes first when it is chosen."""

    title: str
    value: Callable[[Row], Any]
    shown: Callable[[Row], str]
    falling: bool = False
    right: bool = False


COLUMNS = (
    Column(title="model", value=lambda row: row.model, shown=lambda row: wording.plain(row.model)),
    Column(title="bars", value=lambda row: row.timeframe or None, shown=lambda row: wording.plain(row.timeframe)),
    Column(title="verdict", value=lambda row: row.verdict or None, shown=lambda row: row.verdict or wording.NOTHING),
    Column(
        title="over the start", value=lambda row: row.over_start, shown=lambda row: wording.signed(row.over_start),
        falling=True, right=True,
    ),
    Column(
        title="over naive", value=lambda row: row.over_naive, shown=lambda row: wording.signed(row.over_naive),
        falling=True, right=True,
    ),
    Column(title="CRPS", value=lambda row: row.loss, shown=lambda row: wording.loss(row.loss), right=True),
    Column(
        title="dates", value=lambda row: row.dates, shown=lambda row: wording.count(row.dates),
        falling=True, right=True,
    ),
    Column(title="published", value=lambda row: not row.published, shown=lambda row: "yes" if row.published else "no"),
    Column(
        title="GPU hours", value=lambda row: row.gpu_hours, shown=lambda row: wording.hours(row.gpu_hours),
        falling=True, right=True,
    ),
    Column(
        title="finished", value=lambda row: row.finished_at or None,
        shown=lambda row: wording.finish(row.finished_at).removesuffix(" UTC") or wording.NOTHING, falling=True,
    ),
)  # fmt: skip


def rows(root: Path, runs: Sequence[tuple[ModelRef, RunPaths]]) -> list[Row]:
    """A row for each model and its latest run, by the names of the models."""
    return sorted((_row(root, model, paths) for model, paths in runs), key=lambda row: row.model)


def write(root: Path, found: Sequence[Row]) -> Path:
    """Replaces the page and returns its file. Raises StorageError."""
    file = root / FILE
    durable.write_text(file, page(found))
    return file


def page(found: Sequence[Row]) -> str:
    """The text of the page."""
    rules = style_sheet("index.css") + _places(found)
    return environment().get_template("index.html").render(columns=COLUMNS, rows=found, **styled(rules))


def text(found: Sequence[Row]) -> str:
    """The rows for a terminal."""
    columns = [column for column in COLUMNS if column.title not in ("bars", "GPU hours")]  # for which there is no room
    right = [str(number) for number, column in enumerate(columns) if column.right]
    cells = [[column.shown(row) for column in columns] for row in found]
    return table([[column.title for column in columns], *cells], right=right) + "\n"


def _row(root: Path, model: ModelRef, paths: RunPaths) -> Row:
    facts = _object(paths.facts)
    evaluation = _part(facts, "evaluation")
    over = {
        one.get("rival"): _number(one.get("improvement"))
        for one in evaluation.get("comparisons") or []
        if isinstance(one, Mapping)
    }
    hours = [_number(_part({"one": one}, "one").get("gpuHours")) for one in facts.get("training") or []]
    known = [value for value in hours if value is not None]
    return Row(
        model=model.key,
        link=paths.report.relative_to(root).as_posix() if paths.report.exists() else "",
        run=paths.run_dir.name,
        timeframe=str(facts.get("timeframe") or ""),
        verdict=str(_part(facts, "verdict").get("badge") or ""),
        over_start=over.get("start"),
        over_naive=over.get("naive"),
        loss=_number(evaluation.get("loss")),
        dates=evaluation["dates"] if isinstance(evaluation.get("dates"), int) else None,
        published=_object(paths.current).get("run") == paths.run_dir.name,
        gpu_hours=sum(known) if known else None,
        finished_at=str(facts.get("finishedAt") or ""),
    )


def _places(found: Sequence[Row]) -> str:
    """The part of the style sheet that has the place of each row by each column, rising and falling."""
    orders: dict[int, list[str]] = {number: [] for number in range(len(found))}
    rules = []
    for number, column in enumerate(COLUMNS):
        known = [place for place, row in enumerate(found) if column.value(row) is not None]
        unknown = [place for place in range(len(found)) if place not in set(known)]
        for letter, falling in (("a", False), ("d", True)):
            ranked = sorted(known, key=lambda place: column.value(found[place]), reverse=falling)
            for order, place in enumerate(ranked + unknown):
                orders[place].append(f"--{letter}{number}:{order}")
            rules.append(f"#{letter}{number}:checked~.models .row{{order:var(--{letter}{number})}}")
            rules.append(f"#{letter}{number}:checked~.models .for-{letter}{number}{{display:none}}")
            other = "d" if letter == "a" else "a"
            rules.append(f"#{letter}{number}:checked~.models .for-{other}{number}{{display:inline;color:var(--ink)}}")
    return "\n".join([*rules, *(f"#m{place}{{{';'.join(orders[place])}}}" for place in orders)])


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = found.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
