"""Puts the reports of a run in their places. Called by `report.write`."""

from __future__ import annotations

import re
from pathlib import Path

from kronos_trainer.config import RunConfig, RunPaths
from kronos_trainer.report import html, text
from kronos_trainer.report.facts import Facts, gather
from kronos_trainer.storage import durable


def write_reports(run: RunConfig, paths: RunPaths, failure: str | None) -> tuple[Path, ...]:
    """See `report.write`."""
    facts = gather(run, paths, failure)
    said = text.lines(facts)
    for_terminals = _text_file(paths, facts, said)
    durable.write_json(paths.facts, facts.document())
    durable.write_text(for_terminals, said)
    durable.write_text(paths.report, html.page(facts))
    return paths.report, paths.facts, for_terminals


def _text_file(paths: RunPaths, facts: Facts, said: str) -> Path:
    """logs/training_report_<time>.txt; the model's name tells apart two that have ended in the same second."""
    time = re.sub(r"[^0-9TZ]", "", facts.finished_at) or facts.run
    file = paths.root / "logs" / f"training_report_{time}.txt"
    try:
        others = text.headline(said) != text.headline(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        others = False
    return file.with_name(f"training_report_{time}_{facts.namespace}_{facts.name}.txt") if others else file
