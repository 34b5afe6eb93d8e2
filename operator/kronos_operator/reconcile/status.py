"""The status that a plan and what was seen amount to, and whether it is worth a write. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kronos_operator import plan as planning
from kronos_operator.api import (
    Artifact,
    Artifacts,
    CheckpointState,
    Condition,
    Failure,
    HistoryEntry,
    KronosModel,
    Phase,
    Progress,
    RunStep,
    Status,
)
from kronos_operator.plan import Outcome, Plan, RunRecord
from kronos_operator.reconcile.record_status import (
    completed_after,
    completed_of,
    record_of,
    restarts_of,
    run_of,
    tracking_of,
)
from kronos_operator.reconcile.reports import MOST_NOTES, MOST_SKIPPED, Report, progress_of, result_of
from kronos_operator.reconcile.schedule import Trigger, schedule_state
from kronos_operator.reconcile.times import moment_of
from kronos_operator.reconcile.waiting import Waiting
from kronos_trainer.config import RunPaths, StageName

_ROOT = Path()  # paths in status are relative to the storage's root, wherever that is
_STORY = ("Ready", "Progressing")
_STILL = (Phase.PENDING, Phase.QUEUED, Phase.RESTARTING)
_PROGRESS_ANYWAY = 300.0  # seconds after which progress is told even if the percentage stands


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the status tells beyond the plan."""

    trigger: Trigger
    annotation: str = ""  # the retrain request
    report: Report | None = None  # of the attempt that was current before the plan
    tail: str | None = None  # the last lines of that attempt, if it has failed
    waiting: Waiting | None = None
    refused: Waiting | None = None  # why nothing new is started
    unshared: str = ""  # a warning about the storage
    silent: Sequence[str] = ()  # nodes of the gang that are not ready


def status_after(model: KronosModel, decided: Plan, seen: Seen, now: float) -> Status:
    """The whole status; what it does not say is removed."""
    before = model.status or Status()
    earlier, record = record_of(before), decided.record
    began = record is not None and (earlier is None or (earlier.outcome is not None and record != earlier))
    completed = completed_after(completed_of(before), record)
    answered = before.tracking.last_trigger
    if began or seen.trigger.taken_back:
        answered = seen.annotation[:256] or None
    results = {step.stage: step for step in _results(before, record, seen.report)}
    return Status(
        observed_generation=model.metadata.generation or 0,
        phase=Phase.FAILED if seen.refused is not None and not _going(record) else decided.phase,
        stage=decided.stage,
        conditions=_conditions(model, before, decided, seen, now),
        progress=_progress(before, earlier, record, seen.report),
        run=None if record is None else run_of(record, model, results),
        artifacts=_artifacts(model, before, record, results),
        metrics=_metrics(before, record, results),
        restarts=None if record is None else restarts_of(record),
        checkpoint=_checkpoint(before, earlier, record, seen.report),
        tracking=tracking_of(record, completed, answered),
        skipped_checkpoints=_skipped(before, earlier, record, seen.report),
        notes=_notes(before, earlier, record, seen.report),
        schedule=schedule_state(model.spec.schedule, before.schedule, seen.trigger, now, began=began),
        failure=_failure(before, earlier, record, seen.tail),
        queue_position=_place(decided, seen),
        history=_history(model, before, earlier, record, results, now),
    )


def worth_writing(before: Status, after: Status, interval: float) -> bool:
    """Whether to write. Progress alone has to wait: every write wakes all who watch the object.

    It is told `interval` seconds after the last at the earliest, and then only if the percentage has changed or five
    minutes have passed.
    """
    if _without_progress(before) != _without_progress(after):
        return True
    old, new = before.progress, after.progress
    if old == new or new is None or new.updated_at is None:
        return False
    if old is None or old.updated_at is None:
        return True
    passed = (new.updated_at - old.updated_at).total_seconds()
    return passed >= interval and (new.summary != old.summary or passed >= _PROGRESS_ANYWAY)


def condition_of(status: Status, kind: str) -> Condition | None:
    """The condition of this type."""
    return next((condition for condition in status.conditions if condition.type == kind), None)


def _place(decided: Plan, seen: Seen) -> int | None:
    """Its place in whichever line it stands."""
    if decided.phase is not Phase.QUEUED:
        return None
    return decided.place if decided.place is not None else (None if seen.waiting is None else seen.waiting.place)


def _going(record: RunRecord | None) -> bool:
    return record is not None and record.outcome is None


def _conditions(model: KronosModel, before: Status, decided: Plan, seen: Seen, now: float) -> list[Condition]:
    told: list[planning.Condition] = []
    for item in decided.conditions:
        idle = item.type == "Finished" and not _going(decided.record)
        if seen.refused is not None and (idle or item.type in (*_STORY, "Stalled")):
            item = replace(
                item, status=item.type == "Stalled", reason=seen.refused.reason, message=seen.refused.message
            )
        elif seen.waiting is not None and item.type in _STORY and decided.phase in _STILL:
            item = replace(item, reason=seen.waiting.reason, message=seen.waiting.message)
        elif seen.silent and item.type in _STORY and decided.phase is Phase.TRAINING:
            item = replace(item, message=f"{item.message}; not ready: node {', '.join(seen.silent)}")
        told.append(item)
    if seen.unshared:
        told.append(
            planning.Condition(type="StorageShared", status=False, reason="StorageNotShared", message=seen.unshared)
        )
    return [_condition(item, condition_of(before, item.type), model, now) for item in told]


def _condition(item: planning.Condition, before: Condition | None, model: KronosModel, now: float) -> Condition:
    status = "True" if item.status else "False"
    flipped = before is None or before.status != status
    return Condition(
        type=item.type,
        status="True" if item.status else "False",
        observed_generation=model.metadata.generation,
        last_transition_time=moment_of(now) if flipped or before is None else before.last_transition_time,
        reason=item.reason,
        # The whole is told once: an object's status is read and watched as a whole by many.
        message=item.message[: 1024 if item.type == "Ready" else 256],
    )


def _results(before: Status, record: RunRecord | None, report: Report | None) -> Iterator[RunStep]:
    """The steps of the run with what their trainers told at the end."""
    if record is None:
        return
    known = {step.hash: step for step in (before.run.steps if before.run is not None else [])}
    for step in record.steps:
        told = known.get(step.hash, RunStep(stage=step.stage, hash=step.hash))
        newly = step.done and not told.done and step.reuse is None
        said = report is not None and report.result is not None and report.result.stage == step.stage.value
        yield result_of(report, told) if newly and said and report is not None else told


def _published(record: RunRecord | None) -> bool:
    return record is not None and any(step.publish and step.done for step in record.steps)


def _artifacts(
    model: KronosModel, before: Status, record: RunRecord | None, results: dict[StageName, RunStep]
) -> Artifacts | None:
    if record is None or not _published(record):
        return before.artifacts
    if before.artifacts is not None and before.artifacts.run == record.id:
        return before.artifacts
    found = {}
    for stage, hash_ in record.hashes:
        path = RunPaths(_ROOT, model.ref, record.id).stage(stage).best
        told = results.get(stage)
        digest = told.digest if told is not None else None
        old = getattr(before.artifacts, stage, None)
        if digest is None and isinstance(old, Artifact) and old.hash == hash_:
            digest = old.digest  # a stage that was reused
        found[stage.value] = Artifact(path=str(path), digest=digest, hash=hash_)
    return Artifacts(run=record.id, **found)


def _metrics(before: Status, record: RunRecord | None, results: dict[StageName, RunStep]) -> dict[str, float]:
    if record is None or not _published(record):
        return before.metrics
    if before.artifacts is not None and before.artifacts.run == record.id:
        return before.metrics
    return _named(results)


def _named(results: dict[StageName, RunStep]) -> dict[str, float]:
    return {
        f"{stage}{name[0].upper()}{name[1:]}": value
        for stage, step in results.items()
        for name, value in step.metrics.items()
    }


def _progress(
    before: Status, earlier: RunRecord | None, record: RunRecord | None, report: Report | None
) -> Progress | None:
    if record is None or earlier is None or record.id != earlier.id:
        return None
    step, last = record.next_step, earlier.next_step
    told = before.progress
    if report is not None and report.progress and last is not None:
        told = progress_of(report, earlier.number, last.stage)
    if record.outcome is Outcome.SUCCEEDED:
        stage = None if last is None else last.stage
        return (told or Progress(stage=stage)).model_copy(
            update={"percent": 100.0, "summary": "100%", "eta": None, "estimated_completion_time": None}
        )
    if told is None or step is None or step.stage is not told.stage:
        return None
    if record.number != told.attempt or record.stop is not None:
        return told.model_copy(update={"eta": None, "estimated_completion_time": None})
    return told


def _checkpoint(
    before: Status, earlier: RunRecord | None, record: RunRecord | None, report: Report | None
) -> CheckpointState | None:
    same_stage = (
        record is not None
        and earlier is not None
        and (record.id, record.next_step and record.next_step.stage)
        == (earlier.id, earlier.next_step and earlier.next_step.stage)
    )
    if not same_stage:
        return None
    return report.checkpoint if report is not None and report.checkpoint is not None else before.checkpoint


def _skipped(before: Status, earlier: RunRecord | None, record: RunRecord | None, report: Report | None) -> list[str]:
    """Damaged checkpoints that trainers of this run have passed over."""
    if record is None or earlier is None or record.id != earlier.id:
        return []
    new = [text for text in (() if report is None else report.skipped) if text not in before.skipped_checkpoints]
    return [*before.skipped_checkpoints, *new][-MOST_SKIPPED:]


def _notes(before: Status, earlier: RunRecord | None, record: RunRecord | None, report: Report | None) -> list[str]:
    """What trainers of this run have noted: the first few, each once."""
    if record is None or earlier is None or record.id != earlier.id:
        return []
    new = [text for text in (() if report is None else report.notes) if text not in before.notes]
    return [*before.notes, *new][:MOST_NOTES]


def _failure(before: Status, earlier: RunRecord | None, record: RunRecord | None, tail: str | None) -> Failure | None:
    if record is None or record.outcome is Outcome.SUCCEEDED:
        return None
    cause = _why_it_failed(earlier, record)
    if cause is None:
        return before.failure
    return Failure(reason=cause[0], message=cause[1][:1024], log_tail=tail)


def _why_it_failed(earlier: RunRecord | None, record: RunRecord) -> tuple[str, str] | None:
    """Reason and message if the plan has just taken note of a failure."""
    if record.outcome is Outcome.FAILED and (earlier is None or earlier.outcome is None or earlier != record):
        return record.reason, record.message
    if earlier is None or earlier.id != record.id or earlier.outcome is not None:
        return None
    return None if record.last is None or record.last == earlier.last else (record.last.reason, record.last.message)


def _history(
    model: KronosModel,
    before: Status,
    earlier: RunRecord | None,
    record: RunRecord | None,
    results: dict[StageName, RunStep],
    now: float,
) -> list[HistoryEntry]:
    entries = before.history
    if record is not None and record.outcome is not None and record != earlier:
        failed = record.outcome is not Outcome.SUCCEEDED
        entry = HistoryEntry(
            run=record.id,
            outcome="Cancelled" if record.outcome is Outcome.SUPERSEDED else record.outcome.value,
            reason=record.reason if failed else None,
            trigger=record.trigger[:256] or None,
            started_at=moment_of(record.started_at),
            finished_at=moment_of(now),
            metrics=_named(results),
        )
        entries = [entry, *entries]
    return entries[: model.spec.history_limit]


def _without_progress(status: Status) -> Status:
    return status.model_copy(update={"progress": None, "checkpoint": None})
