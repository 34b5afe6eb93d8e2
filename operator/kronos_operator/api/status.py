"""What the operator reports about a model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from kronos_operator.api.run import Run, TrainedStage
from kronos_operator.api.values import (
    Count,
    Digest,
    Hash,
    Id,
    LogTail,
    LongText,
    Metrics,
    Moment,
    Note,
    Reason,
    RequestText,
    Text,
)
from kronos_trainer.config import Contract, StageName, stage_fields


class Phase(StrEnum):
    """The state in one word, for display; conditions are what to act on."""

    PENDING = "Pending"
    QUEUED = "Queued"
    TRAINING = "Training"
    RESTARTING = "Restarting"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Condition(Contract):
    """One aspect of the state, as Kubernetes defines conditions."""

    type: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description=f"Ready, Stalled, Progressing, {', '.join(stage.condition for stage in StageName)}, Available or "
        "Finished."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: int | None = Field(None, ge=0, description="Generation of the spec that it was decided for.")
    last_transition_time: Moment = Field(description="When the status last changed.")
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")] = (
        Field(description="Why, in one CamelCase word.")
    )
    message: LongText = Field("", description="Why, in a sentence, with the way out.")


class Progress(Contract):
    """How far the running stage is."""

    stage: StageName | None = Field(None, description="The stage.")
    epoch: Count | None = Field(
        None, description="Epoch in progress, from 1; 0 while the initial weights are validated."
    )
    epochs: Count | None = Field(None, description="Epochs of the stage.")
    attempt: Count | None = Field(None, description="The attempt that said so.")
    step: Count | None = Field(None, description="Optimizer steps done.")
    steps: Count | None = Field(None, description="Optimizer steps of the stage.")
    percent: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="Share of the steps done, in percent."
    )
    summary: Annotated[str, Field(max_length=32)] | None = Field(None, description="The same for the eye, e.g. 43%.")
    eta: Annotated[str, Field(max_length=32)] | None = Field(None, description="Time left for the stage, e.g. 2h13m.")
    estimated_completion_time: Moment | None = Field(None, description="When the stage is expected to end.")
    loss: float | None = Field(None, description="Training loss, smoothed.")
    validation_loss: float | None = Field(None, description="Loss of the last validation.")
    samples_per_second: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Windows trained per second, over all processes."
    )
    updated_at: Moment | None = Field(None, description="When the trainer said so.")


class Artifact(Contract):
    """A trained network."""

    path: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Directory of its weights, relative to the storage's root."
    )
    digest: Digest | None = Field(
        None, description="SHA-256 of its files, in hex. Absent: the trainer's word of it was missed."
    )
    hash: Hash = Field(description="Hash of the stage that trained it.")


class Artifacts(Contract):
    """The published model."""

    run: Id | None = Field(None, description="The run that trained it.")
    stage_fields(
        vars(),
        "{}",
        lambda stage: (Artifact | None, Field(None, description=f"The {stage}.")),
        StageName.with_weights(),
    )

    def of(self, stage: StageName) -> Artifact | None:
        """The weights of a stage."""
        artifact: Artifact | None = getattr(self, stage, None)
        return artifact


class CheckpointState(Contract):
    """The newest checkpoint."""

    step: Count = Field(description="Optimizer steps done when it was saved.")
    time: Moment = Field(description="When it was saved.")


class ScheduleState(Contract):
    """Retraining by schedule."""

    last_time: Moment | None = Field(None, description="Last scheduled time that started a run.")
    next_time: Moment | None = Field(None, description="Next scheduled time.")


class Failure(Contract):
    """Why the last attempt that failed did so."""

    reason: Annotated[Reason, Field(min_length=1)] = Field(description="Cause, in one CamelCase word.")
    message: Text = Field("", description="What was wrong, where, and what to do.")
    log_tail: LogTail | None = Field(None, description="Last lines of the failed process.")


class HistoryEntry(Contract):
    """A run that has ended."""

    run: Id = Field(description="Run id.")
    outcome: Literal["Succeeded", "Failed", "Cancelled"] = Field(description="How it ended.")
    reason: Reason | None = Field(None, description="Cause of a failure, in one word.")
    trigger: RequestText | None = Field(None, description="What started it.")
    started_at: Moment | None = Field(None, description="When it began.")
    finished_at: Moment | None = Field(None, description="When it ended.")
    metrics: Metrics = Field({}, description="Its final metrics, by name.")


class Tracking(Contract):
    """What the operator remembers from run to run, to go on after its own restart."""

    last_trigger: RequestText | None = Field(
        None, description="Last retrain request that was acted on, or that a cancel request has answered."
    )
    trained: Annotated[tuple[TrainedStage, ...], Field(max_length=64)] = Field(
        (), description="Stages that need not be trained again, newest first."
    )


class Status(Contract):
    """What the operator has seen and done."""

    observed_generation: int = Field(
        -1, ge=-1, description="Generation of the spec that this status answers; -1: none yet."
    )
    phase: Phase | None = Field(None, description="The state in one word, for display.")
    stage: StageName | None = Field(None, description="The stage that is running or next.")
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        [],
        description="The state in detail.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    progress: Progress | None = Field(None, description="How far the running stage is.")
    run: Run | None = Field(None, description="The current or last run.")
    # The last by name, since `kubectl describe` sorts. Not defaulted by the API server, which would show it on objects
    # that nobody has touched.
    tracking: Tracking = Field(default_factory=Tracking, description="The operator's own notes.")
    artifacts: Artifacts | None = Field(None, description="The published model.")
    metrics: Metrics = Field({}, description="Metrics of the published model, by name.")
    checkpoint: CheckpointState | None = Field(None, description="The newest checkpoint of the running stage.")
    skipped_checkpoints: Annotated[list[Note], Field(max_length=8)] = Field(
        [], description="Checkpoints of the run that were damaged, and that a restart has passed over for an older one."
    )
    notes: Annotated[list[Note], Field(max_length=8)] = Field(
        [], description="What the trainers of the run noted, as what is odd about the bars; report.md has the whole."
    )
    schedule: ScheduleState | None = Field(None, description="Retraining by schedule.")
    failure: Failure | None = Field(None, description="Why the last attempt that failed did so.")
    queue_position: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Place in its Kueue LocalQueue, or without one among the models that wait for their turn, 1 being "
        "the next; beyond the tenth to within a tenth.",
    )
    history: Annotated[list[HistoryEntry], Field(max_length=100)] = Field(
        [], description="Ended runs, newest first, at most spec.historyLimit."
    )

    @property
    def published_run(self) -> str:
        """Id of the run whose model is published; empty without one."""
        return "" if self.artifacts is None else self.artifacts.run or ""

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type."""
        return next((one for one in self.conditions if one.type == kind), None)
