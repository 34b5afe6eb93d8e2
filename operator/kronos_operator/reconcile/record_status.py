"""The memory of a run, kept in its model's status: RunRecord to status.run and back, without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kronos_operator.api import KronosModel, LastRestart, Restarts, Run, RunStep, Status, Tracking, Trained
from kronos_operator.plan import Completed, Outcome, Restart, RunRecord, Step, StopReason
from kronos_operator.reconcile.times import moment_of
from kronos_trainer.config import StageName

MOST_TRAINED = 16  # stages that need not be trained again
_TEXT = 1024


def record_of(status: Status) -> RunRecord | None:
    """The record that a status holds."""
    run, notes, restarts = status.run, status.tracking, status.restarts or Restarts()
    if run is None:
        return None
    return RunRecord(
        id=run.id,
        # Maps come back from the API server in the order of their keys.
        hashes=tuple((stage, run.stage_hashes[stage]) for stage in StageName if stage in run.stage_hashes),
        steps=tuple(
            Step(stage=step.stage, hash=step.hash, done=step.done, reuse=step.reuse, publish=step.publish)
            for step in run.steps
        ),
        trigger=run.trigger,
        cancel=notes.cancel,
        started_at=0.0 if run.started_at is None else run.started_at.timestamp(),
        number=run.attempt,
        settings=notes.settings,
        crashes=restarts.crashes,
        disruptions=restarts.disruptions,
        stalls=restarts.stalls,
        out_of_memory=restarts.out_of_memory,
        stepped=notes.stepped,
        disrupted=notes.disrupted,
        memory_kills=restarts.memory_kills,
        incomplete=restarts.incomplete,
        recent=tuple(moment.timestamp() for moment in notes.disrupted_at),
        last=None if restarts.last is None else _restart(restarts.last),
        begun=notes.begun,
        stop=None if run.stop is None else StopReason(run.stop),
        retry_at=None if run.retry_at is None else run.retry_at.timestamp(),
        outcome=None if run.outcome is None else Outcome(run.outcome),
        reason=run.reason,
        message=run.message,
    )


def run_of(record: RunRecord, model: KronosModel, results: Mapping[StageName, RunStep]) -> Run:
    """status.run of a record. `results` has what the trainer told of finished stages."""
    resources = model.spec.resources
    return Run(
        id=record.id,
        attempt=record.number,
        started_at=moment_of(record.started_at),
        gpus=resources.nodes * resources.gpus_per_node,
        stage_hashes=dict(record.hashes),
        steps=[_step(step, results.get(step.stage)) for step in record.steps],
        trigger=record.trigger[:256],
        stop=None if record.stop is None else record.stop.value,
        retry_at=None if record.retry_at is None else moment_of(record.retry_at),
        outcome=None if record.outcome is None else record.outcome.value,
        reason=record.reason,
        message=record.message[:_TEXT],
    )


def tracking_of(record: RunRecord | None, completed: Sequence[Completed], last_trigger: str | None) -> Tracking:
    """status.tracking: what of the record is nobody else's business, and what ended runs have left."""
    trained = [Trained(run=fact.run, stage=fact.stage, hash=fact.hash) for fact in completed]
    if record is None:
        return Tracking(last_trigger=last_trigger, trained=trained)
    return Tracking(
        cancel=record.cancel[:256],
        settings=record.settings,
        stepped=record.stepped,
        begun=record.begun,
        disrupted=record.disrupted,
        disrupted_at=[moment_of(at) for at in record.recent],
        last_trigger=last_trigger,
        trained=trained,
    )


def restarts_of(record: RunRecord) -> Restarts:
    """status.restarts of a record."""
    return Restarts(
        crashes=record.crashes,
        disruptions=record.disruptions,
        stalls=record.stalls,
        out_of_memory=record.out_of_memory,
        memory_kills=record.memory_kills,
        incomplete=record.incomplete,
        last=None
        if record.last is None
        else LastRestart(
            reason=record.last.reason, message=record.last.message[:_TEXT], time=moment_of(record.last.at)
        ),
    )


def completed_of(status: Status) -> tuple[Completed, ...]:
    """Every finished stage that the status remembers, newest first."""
    return tuple(Completed(run=fact.run, stage=fact.stage, hash=fact.hash) for fact in status.tracking.trained)


def completed_after(before: tuple[Completed, ...], record: RunRecord | None) -> tuple[Completed, ...]:
    """The finished stages with those that the record has finished itself."""
    steps = () if record is None else record.steps
    known = tuple(
        Completed(run=record.id, stage=step.stage, hash=step.hash)
        for step in steps
        if record is not None and step.done and step.reuse is None
    )
    new = tuple(fact for fact in reversed(known) if fact not in before)
    return (new + before)[:MOST_TRAINED]


def published_in(status: Status) -> str:
    """The run whose model is published; empty without one."""
    return "" if status.artifacts is None else status.artifacts.run or ""


def _restart(last: LastRestart) -> Restart:
    return Restart(reason=last.reason, message=last.message, at=last.time.timestamp())


def _step(step: Step, result: RunStep | None) -> RunStep:
    same = result is not None and result.hash == step.hash
    return RunStep(
        stage=step.stage,
        hash=step.hash,
        done=step.done,
        reuse=step.reuse,
        publish=step.publish,
        digest=result.digest if result is not None and same else None,
        metrics=result.metrics if result is not None and same else {},
    )
