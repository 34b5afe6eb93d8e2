"""What each stage does; `kronos_trainer.config.StageName` has the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from kronos_trainer.config import StageName, StageResult
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER, Kind
from kronos_trainer.training.predictor import predictor_task
from kronos_trainer.training.task import Task, Work
from kronos_trainer.training.tokenizer import tokenizer_task


@dataclass(frozen=True)
class Trains:
    """A stage that produces weights: `task` puts its objective around the first ones, or the last checkpoint's."""

    kind: Kind[Any, Any]
    task: Callable[[Work, Any], AbstractContextManager[Task]]


@dataclass(frozen=True)
class Scores:
    """A stage that produces scores: `score` returns a result with what it has found. It runs in one process."""

    score: Callable[[Work], StageResult]


def _evaluate(work: Work) -> StageResult:
    # Statistics and plots take seconds to import, which no rank of a training should wait for.
    from kronos_trainer.training.evaluation import evaluate

    return evaluate(work)


STAGES: Mapping[StageName, Trains | Scores] = {
    StageName.TOKENIZER: Trains(TOKENIZER, tokenizer_task),
    StageName.PREDICTOR: Trains(PREDICTOR, predictor_task),
    StageName.EVALUATION: Scores(_evaluate),
}


def kind_of(stage: StageName) -> Kind[Any, Any]:
    """The kind of the net that a stage trains. Raises KeyError for one that produces scores."""
    row = STAGES[stage]
    if isinstance(row, Scores):
        raise KeyError(stage)
    return row.kind
