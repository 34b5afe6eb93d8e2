"""A verdict in lines for people, of a local run as of one in a cluster. Used by the commands that show runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kronos_operator.api import Evaluated
    from kronos_trainer.config import StageResult
    from kronos_trainer.stages import StageName


def evaluated(run: str, results: Mapping[StageName, StageResult]) -> Evaluated | None:
    """The evaluation among the results of a run's stages; None without one."""
    from kronos_operator.api import Evaluated

    found = (Evaluated.of(result, run) for result in results.values())
    return next((one for one in found if one is not None), None)


def verdict_lines(found: Evaluated) -> Iterator[tuple[str, str]]:
    """Label and text of each line: the verdict, what follows from it, and what limits it."""
    yield "verdict", found.in_words
    if found.promotion is not None:
        yield "promotion", f"{found.promotion}{': ' if found.message else ''}{found.message or ''}"
    if found.note:
        yield "note", found.note
