"""What a run's report says of its backtest: one sentence, and where the page with the rest lies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kronos_trainer.backtest.document import Backtest
from kronos_trainer.config import RunPaths


@dataclass(frozen=True, kw_only=True)
class Backtested:
    """A backtest of a run. `page` is relative to the report."""

    verdict: str
    sentence: str
    page: str


def backtested(paths: RunPaths, evaluation: str) -> Backtested | None:
    """The backtest on the forecasts of the evaluation with this hash; None where none lies there, or it is damaged."""
    try:
        found = Backtest.load(paths.backtest.summary.read_text())
    except (OSError, ValueError):
        return None
    if found.hash != evaluation or not found.sentence:
        return None
    page = Path(os.path.relpath(paths.backtest.page, paths.report.parent)).as_posix()
    return Backtested(verdict=found.verdict, sentence=found.sentence, page=page)
