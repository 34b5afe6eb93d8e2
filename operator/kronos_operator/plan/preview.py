"""What a run would do with each stage, before it begins. Shown by `kronos plan`, `diff` and `submit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kronos_operator.api import Run, TrainedStage
from kronos_trainer.config import StageName


class StageAction(StrEnum):
    """What becomes of a stage."""

    TRAIN = "train"
    SCORE = "score"
    REUSE = "reuse"  # an earlier run has done it
    COMPLETE = "complete"  # the run itself has done it
    SKIP = "skipped"


@dataclass(frozen=True, kw_only=True)
class StagePreview:
    """What becomes of one stage. `run` has done it; `reason` says why it is not done now, and is empty if it is."""

    stage: StageName
    hash: str
    action: StageAction
    run: str = ""
    reason: str = ""


def preview(run: Run, trained: Sequence[TrainedStage]) -> tuple[StagePreview, ...]:
    """The stages of a run as `begin` gives it, in their order; `trained` are all finished stages, newest first.

    The last stage of a run that is not the published one counts as complete although it is started once more: its
    trainer finds it complete and publishes it.
    """
    return tuple(_stage(run, stage, hash_, trained) for stage, hash_ in run.stage_hashes.items())


def _stage(run: Run, stage: StageName, hash_: str, trained: Sequence[TrainedStage]) -> StagePreview:
    own = next((one for one in run.stages if one.stage is stage), None)
    if own is None:
        action, by, reason = StageAction.SKIP, "", "epochs 0: the initial weights are used unchanged"
    elif own.reuse is not None:
        action, by, reason = StageAction.REUSE, own.reuse, "trained there with the same hash"
    elif own.done or TrainedStage(run=run.id, stage=stage, hash=hash_) in trained:
        action, by, reason = StageAction.COMPLETE, run.id, done_by(stage, run.id)
    elif not own.wanted:
        action, by, reason = StageAction.SKIP, "", "left out by --stage"
    else:
        action, by, reason = StageAction.TRAIN if stage.has_weights else StageAction.SCORE, "", ""
    return StagePreview(stage=stage, hash=hash_, action=action, run=by, reason=reason)


def done_by(stage: StageName, run: str) -> str:
    """Which run has done a stage, in words."""
    return f"{'trained' if stage.has_weights else 'scored'} by run {run}"
