"""Reads the status that an operator before `status.run.stages` has written, so that its run goes on. Pure."""

from __future__ import annotations

from kronos_operator import names
from kronos_operator.api import KronosModel, Outcome, Run, RunStage, Status
from kronos_operator.hashing import template_hash
from kronos_trainer.config import StageName


def with_stages(model: KronosModel) -> KronosModel:
    """The model with the stages of its run, where its status has none.

    What that operator had noted of the run under other names is gone: the CRD of today knows them no more. The run, its
    attempt and what is trained are kept; its restarts are counted from 0, and it is taken to be built from today's
    spec, so that no attempt is stopped for the sake of the upgrade. A cancel request counts as answered.
    """
    status = model.status
    if status is None or status.run is None or status.run.stages or not status.run.stage_hashes:
        return model
    run = status.run
    stages = tuple(_stages(model, status, run))
    run = run.evolve(
        stages=tuple(stage.evolve(publish=stage is stages[-1]) for stage in stages),
        template_hash=template_hash(model.spec),
        has_progress=_has_progress(status) or any(stage.done and stage.reuse is None for stage in stages),
        cancel=model.metadata.annotations.get(names.CANCEL_ANNOTATION, ""),
    )
    return model.model_copy(update={"status": status.model_copy(update={"run": run})})


def _stages(model: KronosModel, status: Status, run: Run) -> list[RunStage]:
    """Those before the stage that was running are done, in this run or an earlier one; so are all of a success."""
    order = list(StageName)
    stages = []
    for stage, value in run.stage_hashes.items():
        if not model.spec.runs(stage):
            continue
        runs = [fact.run for fact in status.tracking.trained if (fact.stage, fact.hash) == (stage, value)]
        before = status.stage is not None and order.index(stage) < order.index(status.stage)
        own = run.id in runs
        done = own or before or run.outcome is Outcome.SUCCEEDED
        reuse = runs[0] if runs and not own and done else None
        stages.append(RunStage(stage=stage, hash=value, done=done, reuse=reuse))
    return stages


def _has_progress(status: Status) -> bool:
    return status.checkpoint is not None or (status.progress is not None and bool(status.progress.step))
