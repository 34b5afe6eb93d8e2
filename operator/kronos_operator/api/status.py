"""What the operator reports about a model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from kronos_operator.api.evaluation import Evaluated
from kronos_operator.api.evaluation import Path as ReportPath
from kronos_operator.api.run import Run, TrainedStage
from kronos_operator.api.values import (
    Count,
    Day,
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
    Word,
)
from kronos_trainer.config import Contract, StageName, stage_fields


class Phase(StrEnum):
    """Summary of the state in one word, for display. Automation should use conditions."""

    PENDING = "Pending"
    QUEUED = "Queued"
    TRAINING = "Training"
    RESTARTING = "Restarting"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Condition(Contract):
    """A condition, as defined by Kubernetes."""

    type: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description=f"Ready, Stalled, Progressing, {', '.join(stage.condition for stage in StageName)}, Available or "
        "Finished."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Status of the condition.")
    observed_generation: int | None = Field(
        None, ge=0, description="Generation of the spec on which the condition is based."
    )
    last_transition_time: Moment = Field(description="Time of the last change of status.")
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")] = (
        Field(description="Cause of the status, in one CamelCase word.")
    )
    message: LongText = Field("", description="Explanation of the status and, if there is a problem, how to fix it.")


class Progress(Contract):
    """Progress of the running stage."""

    stage: StageName | None = Field(None, description="Name of the stage.")
    epoch: Count | None = Field(None, description="Current epoch, from 1. 0 while the initial weights are validated.")
    epochs: Count | None = Field(None, description="Total epochs of the stage.")
    attempt: Count | None = Field(None, description="Attempt that reported the progress.")
    step: Count | None = Field(None, description="Completed optimizer steps.")
    steps: Count | None = Field(None, description="Total optimizer steps of the stage.")
    percent: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="Completed share of the steps, in percent."
    )
    summary: Annotated[str, Field(max_length=32)] | None = Field(None, description="Completed share as text, e.g. 43%.")
    eta: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="Remaining time of the stage, e.g. 2h13m."
    )
    estimated_completion_time: Moment | None = Field(None, description="Expected end of the stage.")
    loss: float | None = Field(None, description="Smoothed training loss.")
    validation_loss: float | None = Field(None, description="Loss of the last validation.")
    samples_per_second: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Windows trained per second, over all processes."
    )
    updated_at: Moment | None = Field(None, description="Time of the report.")


class Artifact(Contract):
    """A trained network."""

    path: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Directory of the weights, relative to the root of the storage."
    )
    digest: Digest | None = Field(
        None, description="SHA-256 of the weights, in hex. Absent if the trainer's report was not received."
    )
    hash: Hash = Field(description="Hash of the stage that trained it.")
    bytes: Count | None = Field(None, description="Size of the weights. Absent if the trainer has not reported it.")
    data_through: Day | None = Field(
        None, description="Last day of the bars that it was trained and judged on. Absent if it is not known."
    )


class Artifacts(Contract):
    """The published model."""

    run: Id | None = Field(None, description="Run that trained it.")
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

    step: Count = Field(description="Completed optimizer steps at the time of saving.")
    time: Moment = Field(description="Time of saving.")


class ScheduleState(Contract):
    """Scheduled retraining."""

    last_time: Moment | None = Field(None, description="Last scheduled time that started a run.")
    next_time: Moment | None = Field(None, description="Next scheduled time.")


class Failure(Contract):
    """Cause of the last failed attempt."""

    reason: Annotated[Reason, Field(min_length=1)] = Field(description="Cause, in one CamelCase word.")
    message: Text = Field("", description="What failed, where, and how to fix it.")
    log_tail: LogTail | None = Field(None, description="Last log lines of the failed process.")


class HistoryEntry(Contract):
    """A run that has ended."""

    run: Id = Field(description="Run id.")
    outcome: Literal["Succeeded", "Failed", "Cancelled"] = Field(description="Outcome of the run.")
    reason: Reason | None = Field(None, description="Cause of a failure, in one CamelCase word.")
    trigger: RequestText | None = Field(None, description="Retrain request or scheduled time that started the run.")
    started_at: Moment | None = Field(None, description="Start of the run.")
    finished_at: Moment | None = Field(None, description="End of the run.")
    metrics: Metrics = Field({}, description="Final metrics, by name.")
    verdict: Word | None = Field(None, description="Verdict of its evaluation.")
    promotion: Word | None = Field(None, description="What the promotion gate has decided: Published or Held.")


class PromotionState(Contract):
    """What has become of a promotion or a rollback that was asked for."""

    action: Literal["promote", "rollback"] = Field(description="What was asked for.")
    request: RequestText = Field(description="Text of its annotation.")
    outcome: Literal["Succeeded", "Failed"] = Field(description="Outcome.")
    run: Id | None = Field(None, description="Run that is published since.")
    previous: Id | None = Field(None, description="Run that was published before.")
    reason: Annotated[Reason, Field(min_length=1)] = Field(description="Outcome or cause, in one CamelCase word.")
    message: Text = Field("", description="What was done, or what failed and how to fix it.")
    time: Moment = Field(description="When the operator observed it.")


class Tracking(Contract):
    """What the operator keeps between runs, to continue after its own restart."""

    last_trigger: RequestText | None = Field(None, description="Last retrain request that was acted on or cancelled.")
    last_promote: RequestText | None = Field(None, description="Last promotion that was answered.")
    last_rollback: RequestText | None = Field(None, description="Last rollback that was answered.")
    trained: Annotated[tuple[TrainedStage, ...], Field(max_length=64)] = Field(
        (), description="Trained stages that later runs can reuse, newest first."
    )
    settled: Hash | None = Field(
        None,
        description="Hash of the operator and of the requests by which nothing was left to do but to delete what "
        "expires. Absent if something was.",
    )


class Status(Contract):
    """Observed state of the model."""

    observed_generation: int = Field(
        -1, ge=-1, description="Generation of the spec that this status reflects. -1: none yet."
    )
    phase: Phase | None = Field(None, description="Summary of the state in one word, for display.")
    stage: StageName | None = Field(None, description="Current or next stage.")
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        [],
        description="Conditions of the model.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    progress: Progress | None = Field(None, description="Progress of the running stage.")
    run: Run | None = Field(None, description="Current or last run.")
    # The last by name, since `kubectl describe` sorts. Not defaulted by the API server, which would show it on objects
    # that nobody has touched.
    tracking: Tracking = Field(default_factory=Tracking, description="Internal state of the operator.")
    artifacts: Artifacts | None = Field(None, description="The published model.")
    metrics: Metrics = Field({}, description="Metrics of the published model, by name.")
    evaluation: Evaluated | None = Field(
        None,
        description="The newest evaluation: of status.run once it has one, and until then of an earlier run.",
    )
    report: ReportPath | None = Field(
        None,
        description="Report of status.run, relative to the root of the storage. Written when the run ends, however it "
        "does.",
    )
    promotion: PromotionState | None = Field(None, description="Last promotion or rollback that was asked for.")
    checkpoint: CheckpointState | None = Field(None, description="Newest checkpoint of the running stage.")
    skipped_checkpoints: Annotated[list[Note], Field(max_length=8)] = Field(
        [], description="Damaged checkpoints of the run, skipped by a restart in favour of an older one."
    )
    notes: Annotated[list[Note], Field(max_length=8)] = Field(
        [], description="Notes from the trainers of the run, e.g. anomalies in the bars. report.html lists all of them."
    )
    schedule: ScheduleState | None = Field(None, description="Scheduled retraining.")
    failure: Failure | None = Field(None, description="Cause of the last failed attempt.")
    queue_position: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Position in the Kueue LocalQueue or, without a queue, among models that wait for a turn; 1 "
        "is next. Beyond 10, accurate to within a tenth.",
    )
    history: Annotated[list[HistoryEntry], Field(max_length=100)] = Field(
        [], description="Finished runs, newest first; at most spec.historyLimit."
    )

    @property
    def published_run(self) -> str:
        """Id of the run whose model is published; empty without one."""
        return "" if self.artifacts is None else self.artifacts.run or ""

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type."""
        return next((one for one in self.conditions if one.type == kind), None)
