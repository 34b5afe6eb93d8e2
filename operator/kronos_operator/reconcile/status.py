"""The status that a plan and what was observed amount to, and whether it is worth a write. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kronos_operator import plan as planning
from kronos_operator.api import (
    Artifacts,
    CheckpointState,
    Condition,
    Evaluated,
    Failure,
    HistoryEntry,
    KronosModel,
    Outcome,
    Progress,
    Run,
    Status,
    Tracking,
)
from kronos_operator.plan import AttemptState, EventKind, Plan, Published, Verb
from kronos_operator.reconcile.observing import Observation
from kronos_operator.reconcile.promotions import artifacts_of, metrics_of, promotion_of
from kronos_operator.reconcile.reports import MOST_NOTES, MOST_SKIPPED, progress_of
from kronos_operator.reconcile.schedule import schedule_state
from kronos_trainer.config import RunPaths

_ROOT = Path()  # paths in status are relative to the storage's root, wherever that is
_PROGRESS_ANYWAY = 300.0  # seconds after which progress is written even if the percentage stands


def status_of(model: KronosModel, decided: Plan, seen: Observation) -> Status:
    """The whole status; what it leaves out is removed."""
    before, run = model.status or Status(), decided.run
    answer = decided.pointing.answer
    pointed = None if answer is None else answer.published
    return Status(
        observed_generation=model.metadata.generation or 0,
        phase=decided.phase,
        stage=decided.stage,
        conditions=[_condition(one, before, model, seen.now) for one in decided.conditions],
        progress=_progress(before, run, seen),
        run=None if run is None else _with_gpus(run, model),
        artifacts=_artifacts(model, before, run) if pointed is None else artifacts_of(model, pointed),
        metrics=_published_metrics(before, run) if pointed is None else metrics_of(before, pointed),
        promotion=before.promotion if answer is None else promotion_of(answer, seen.now),
        evaluation=_evaluation(model, before, run, seen),
        report=_report(model, run),
        checkpoint=_checkpoint(before, run, seen),
        tracking=_tracking(before, decided, seen),
        skipped_checkpoints=_skipped(before, run, seen),
        notes=_notes(before, run, seen),
        schedule=schedule_state(model.spec.schedule, before.schedule, seen.trigger, seen.now, began=decided.begins),
        failure=_failure(before, decided, seen),
        queue_position=decided.queue_position,
        history=_history(model, before, decided, seen.now),
    )


def worth_writing(before: Status, after: Status, interval: float) -> bool:
    """Whether to write. Progress alone has to wait: every write wakes all who watch the object.

    That a model is settled is never worth a write: after an upgrade, there would be one for every model. Progress is
    written `interval` seconds after the last at the earliest, and then only if the percentage has changed or five
    minutes have passed.
    """
    if before == after:
        return False
    if _compared(before) != _compared(after):
        return True
    old, new = before.progress, after.progress
    if old == new or new is None or new.updated_at is None:
        return False
    if old is None or old.updated_at is None:
        return True
    passed = new.updated_at - old.updated_at
    return passed >= interval and (new.summary != old.summary or passed >= _PROGRESS_ANYWAY)


def _condition(new: planning.Condition, status: Status, model: KronosModel, now: float) -> Condition:
    value, before = "True" if new.status else "False", status.condition(new.type)
    return Condition(
        type=new.type,
        status=value,
        observed_generation=model.metadata.generation,
        last_transition_time=now if before is None or before.status != value else before.last_transition_time,
        reason=new.reason,
        # In full only once: an object's status is read and watched as a whole by many.
        message=new.message[: 1024 if new.type == "Ready" else 256],
    )


def _with_gpus(run: Run, model: KronosModel) -> Run:
    stage, resources = run.next_stage, model.spec.resources
    gpus = (resources if stage is None else resources.of_stage(stage.stage)).gpus
    return run if run.gpus == gpus else run.evolve(gpus=gpus)


def _tracking(before: Status, decided: Plan, seen: Observation) -> Tracking:
    known, run = before.tracking, decided.run
    answered = decided.begins or seen.trigger.taken_back
    answer = decided.pointing.answer
    pointed = {} if answer is None else {answer.request.verb: answer.request.text}
    return Tracking(
        last_trigger=(seen.retrain or None) if answered else known.last_trigger,
        last_promote=pointed.get(Verb.PROMOTE, known.last_promote),
        last_rollback=pointed.get(Verb.ROLLBACK, known.last_rollback),
        trained=known.trained if run is None else run.trained_after(known.trained),
        settled=seen.basis if decided.settled else None,
    )


def _newly_published(before: Status, run: Run | None) -> bool:
    return run is not None and run.has_published(before.run) and before.published_run != run.id


def _artifacts(model: KronosModel, before: Status, run: Run | None) -> Artifacts | None:
    if run is None or not _newly_published(before, run):
        return before.artifacts
    weights = [stage for stage in run.stages if stage.stage.has_weights]
    published = Published(
        run=run.id,
        digests={stage.stage: stage.digest for stage in weights if stage.digest is not None},
        bytes={stage.stage: stage.bytes for stage in weights if stage.bytes is not None},
        through={stage.stage: stage.data_through for stage in weights if stage.data_through is not None},
        hashes={stage: hash_ for stage, hash_ in run.stage_hashes.items() if stage.has_weights},
    )
    return artifacts_of(model, published)


def _published_metrics(before: Status, run: Run | None) -> dict[str, float]:
    if run is not None and _newly_published(before, run):
        return _metrics(run)
    current = run is not None and run.published and before.published_run == run.id
    return before.metrics | _metrics(run) if run is not None and current else before.metrics


def _evaluation(model: KronosModel, before: Status, run: Run | None, seen: Observation) -> Evaluated | None:
    """What the attempt that has just ended has reported, and until then what was known."""
    attempt = seen.attempt
    if run is None or attempt is None or attempt.state is not AttemptState.SUCCEEDED or attempt.result is None:
        return before.evaluation
    return Evaluated.of(attempt.result, run.id, _report(model, run)) or before.evaluation


def _report(model: KronosModel, run: Run | None) -> str | None:
    if run is None or not (run.outcome is not None or any(stage.done for stage in run.stages)):
        return None
    before = model.status
    if before is not None and before.report and before.run is not None and before.run.id == run.id:
        return before.report
    return str(RunPaths(_ROOT, model.ref, run.id).report)


def _metrics(run: Run) -> dict[str, float]:
    return {
        f"{stage.stage}{name[0].upper()}{name[1:]}": value
        for stage in run.stages
        for name, value in stage.metrics.items()
    }


def _earlier(before: Status, run: Run | None) -> Run | None:
    """The run as it was before; None if another one was."""
    return before.run if run is not None and before.run is not None and before.run.id == run.id else None


def _progress(before: Status, run: Run | None, seen: Observation) -> Progress | None:
    earlier = _earlier(before, run)
    if run is None or earlier is None:
        return None
    stage, last = run.next_stage, earlier.next_stage
    progress = before.progress
    if seen.report is not None and seen.report.progress and seen.attempt is not None:
        progress = progress_of(seen.report, seen.attempt.attempt, seen.attempt.stage)
    if run.outcome is Outcome.SUCCEEDED:
        progress = progress or Progress(stage=None if last is None else last.stage)
        return progress.model_copy(
            update={"percent": 100.0, "summary": "100%", "eta": None, "estimated_completion_time": None}
        )
    if progress is None or stage is None or stage.stage is not progress.stage:
        return None
    if run.attempt != progress.attempt or run.stop is not None:
        return progress.model_copy(update={"eta": None, "estimated_completion_time": None})
    return progress


def _checkpoint(before: Status, run: Run | None, seen: Observation) -> CheckpointState | None:
    earlier = _earlier(before, run)
    if run is None or earlier is None:
        return None
    now, then = run.next_stage, earlier.next_stage
    if (now and now.stage) != (then and then.stage):
        return None
    return (
        seen.report.checkpoint if seen.report is not None and seen.report.checkpoint is not None else before.checkpoint
    )


def _skipped(before: Status, run: Run | None, seen: Observation) -> list[str]:
    """Damaged checkpoints that trainers of this run have skipped."""
    if _earlier(before, run) is None:
        return []
    return _added(before.skipped_checkpoints, () if seen.report is None else seen.report.skipped)[-MOST_SKIPPED:]


def _notes(before: Status, run: Run | None, seen: Observation) -> list[str]:
    """What trainers of this run have noted: the first few, each once."""
    if _earlier(before, run) is None:
        return []
    return _added(before.notes, () if seen.report is None else seen.report.notes)[:MOST_NOTES]


def _added(known: Sequence[str], reported: Sequence[str]) -> list[str]:
    """What is known and what of the reported is new."""
    return [*known, *(text for text in reported if text not in known)]


def _failure(before: Status, decided: Plan, seen: Observation) -> Failure | None:
    run = decided.run
    if run is None or run.outcome is Outcome.SUCCEEDED:
        return None
    kinds = (EventKind.ATTEMPT_FAILED, *((EventKind.RUN_ENDED,) if run.outcome is Outcome.FAILED else ()))
    failed = next((one for one in reversed(decided.events) if one.kind in kinds), None)
    if failed is None:
        return before.failure
    return Failure(reason=failed.reason, message=failed.message, log_tail=seen.log_tail)


def _history(model: KronosModel, before: Status, decided: Plan, now: float) -> list[HistoryEntry]:
    entries, run = before.history, decided.run
    if run is not None and run.outcome is not None and any(one.kind is EventKind.RUN_ENDED for one in decided.events):
        entry = HistoryEntry(
            run=run.id,
            outcome="Cancelled" if run.outcome is Outcome.SUPERSEDED else run.outcome.value,
            reason=None if run.outcome is Outcome.SUCCEEDED else run.reason,
            trigger=run.trigger or None,
            started_at=run.started_at,
            finished_at=now,
            metrics=_metrics(run),
            verdict=next((stage.verdict for stage in run.stages if stage.verdict is not None), None),
            promotion=None if run.judged is None else run.judged.promotion,
        )
        entries = [entry, *entries]
    return entries[: model.spec.history_limit]


def _compared(status: Status) -> Status:
    tracking = status.tracking.model_copy(update={"settled": None})
    return status.model_copy(update={"progress": None, "checkpoint": None, "tracking": tracking})
