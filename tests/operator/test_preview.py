"""What a run would do with each stage, as `kronos plan`, `diff` and `submit` show it."""

from __future__ import annotations

from typing import Any

import pytest

from kronos_operator.api import KronosModel, TrainedStage
from kronos_operator.hashing import run_id, stage_hashes
from kronos_operator.plan import Request, begin, preview
from kronos_trainer.config import StageName

TOKENIZER, PREDICTOR, EVALUATION = StageName
SPEC: dict[str, Any] = {"timeframe": "1d", "data": {"source": {"path": "bars"}}}
UNJUDGED = {"evaluation": {"enabled": False}}
MODEL = KronosModel.model_validate({"metadata": {"name": "m"}, "spec": SPEC})
HASHES = stage_hashes(MODEL.spec)
OWN = run_id(HASHES)


def trained(run: str, *stages: StageName) -> tuple[TrainedStage, ...]:
    return tuple(TrainedStage(run=run, stage=stage, hash=HASHES[stage]) for stage in stages)


@pytest.mark.parametrize(
    ("spec", "completed", "stages", "expected"),
    [
        ({}, (), StageName, ["train", "train", "score"]),
        (UNJUDGED, (), StageName, ["train", "train"]),
        ({}, trained("old", TOKENIZER), StageName, ["reuse old", "train", "score"]),
        ({}, trained(OWN, TOKENIZER), StageName, [f"complete {OWN}", "train", "score"]),
        ({}, trained(OWN, TOKENIZER, PREDICTOR), StageName, [f"complete {OWN}", f"complete {OWN}", "score"]),
        # It is started once more, but only to be published.
        ({}, trained(OWN, *StageName), StageName, [f"complete {OWN}"] * 3),
        (UNJUDGED, trained("old", TOKENIZER, PREDICTOR), StageName, ["complete old"] * 2),
        # Scores are of a run: that of the trained weights, whichever it is.
        ({}, trained("old", TOKENIZER, PREDICTOR), StageName, ["complete old", "complete old", "score"]),
        ({}, (), [TOKENIZER], ["train", "skipped", "skipped"]),
        ({"tokenizer": {"epochs": 0, "init": {"hub": {"repo": "a/b"}}}}, (), StageName, ["skipped", "train", "score"]),
    ],
)
def test_each_stage_is_trained_reused_complete_or_skipped(
    spec: dict[str, Any], completed: tuple[TrainedStage, ...], stages: Any, expected: list[str]
) -> None:
    model = KronosModel.model_validate({"metadata": {"name": "m"}, "spec": SPEC | spec})
    run = begin(Request(spec=model.spec, stages=frozenset(stages)), None, completed, "", 0.0)
    found = preview(run, completed)
    assert [f"{one.action} {one.run}".strip() for one in found] == expected
    assert [(one.stage, one.hash) for one in found] == [*stage_hashes(model.spec).items()]
    assert [bool(one.reason) for one in found] == [one.action not in ("train", "score") for one in found]


def test_retraining_reuses_nothing_that_is_asked_for() -> None:
    completed = trained(OWN, TOKENIZER, PREDICTOR)
    run = begin(Request(spec=MODEL.spec, trigger="again"), None, completed, OWN, 0.0)
    assert [one.action for one in preview(run, completed)] == ["train", "train", "score"]
