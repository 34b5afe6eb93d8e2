"""What the operator reports about a model. Times are instants in UTC."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from kronos_operator.text import plain
from kronos_trainer.config import Contract, StageName, stage_fields


def _plain(value: object) -> object:
    return plain(value) if isinstance(value, str) else value


# Words of trainers, kubelets and users, which are read on terminals.
Plain = Annotated[str, BeforeValidator(_plain)]
Text = Annotated[Plain, Field(max_length=1024)]
Id = Annotated[str, Field(min_length=1, max_length=128)]
Count = Annotated[int, Field(ge=0)]
Metrics = Annotated[dict[Annotated[str, Field(min_length=1, max_length=64)], float], Field(max_length=64)]


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
    last_transition_time: AwareDatetime = Field(description="When the status last changed.")
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")] = (
        Field(description="Why, in one CamelCase word.")
    )
    message: Annotated[Plain, Field(max_length=4096)] = Field("", description="Why, in a sentence, with the way out.")


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
    estimated_completion_time: AwareDatetime | None = Field(None, description="When the stage is expected to end.")
    loss: float | None = Field(None, description="Training loss, smoothed.")
    validation_loss: float | None = Field(None, description="Loss of the last validation.")
    samples_per_second: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Windows trained per second, over all processes."
    )
    updated_at: AwareDatetime | None = Field(None, description="When the trainer said so.")


class RunStep(Contract):
    """One stage of a run."""

    stage: StageName = Field(description="The stage.")
    hash: Annotated[str, Field(min_length=8, max_length=64)] = Field(description="Hash of what determines it.")
    done: bool = Field(False, description="Whether it is trained.")
    reuse: Id | None = Field(None, description="The earlier run that trained it with the same hash.")
    publish: bool = Field(False, description="Whether its end publishes the model.")
    digest: Annotated[Plain, Field(min_length=1, max_length=128)] | None = Field(
        None, description="SHA-256 of the trained weights, in hex, as the trainer told it."
    )
    metrics: Metrics = Field({}, description="What the trainer told of its result, by name.")


class Run(Contract):
    """The current or last run."""

    id: Id = Field(description="Run id; it names the directory of the run's results.")
    attempt: Count = Field(
        0,
        description="Start number over the model's life, from 0. It rises with every start, whatever the run; once the "
        "run has ended, it is the next one's.",
    )
    started_at: AwareDatetime | None = Field(None, description="When the run began.")
    gpus: Count | None = Field(None, description="GPUs that the run asks for, over all nodes.")
    stage_hashes: Annotated[
        dict[StageName, Annotated[str, Field(min_length=8, max_length=64)]], Field(max_length=8)
    ] = Field({}, description="Hash of what determines each stage; equal hashes are not trained twice.")
    steps: Annotated[list[RunStep], Field(max_length=8)] = Field(
        [], description="Stages that are to be trained, in their order."
    )
    trigger: Annotated[str, Field(max_length=256)] = Field(
        "", description="The retrain request or scheduled time that began the run. Empty: the spec itself."
    )
    stop: Annotated[str, Field(max_length=64)] | None = Field(None, description="Why the attempt is being stopped.")
    retry_at: AwareDatetime | None = Field(None, description="When the next attempt may start.")
    outcome: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="How the run ended: Succeeded, Failed, Cancelled or Superseded."
    )
    reason: Annotated[str, Field(max_length=128)] = Field("", description="Why, in one CamelCase word.")
    message: Text = Field("", description="Why, in a sentence.")


class Trained(Contract):
    """A stage that some run has finished."""

    run: Id = Field(description="The run.")
    stage: StageName = Field(description="The stage.")
    hash: Annotated[str, Field(min_length=8, max_length=64)] = Field(description="Hash of what determined it.")


class Artifact(Contract):
    """A trained network."""

    path: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Directory of its weights, relative to the storage's root."
    )
    digest: Annotated[Plain, Field(min_length=1, max_length=128)] | None = Field(
        None, description="SHA-256 of its files, in hex. Absent: the trainer's word of it was missed."
    )
    hash: Annotated[str, Field(min_length=8, max_length=64)] = Field(description="Hash of the stage that trained it.")


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


class LastRestart(Contract):
    """Why the run was restarted last."""

    reason: Id = Field(description="Cause, in one CamelCase word.")
    message: Text = Field("", description="What happened, to which pod, on which node.")
    time: AwareDatetime = Field(description="When the operator learned of it.")


class Restarts(Contract):
    """Restarts of the current run, by cause. Crashes and stalls alone count against retry.maxRestarts."""

    crashes: Count = Field(0, description="Restarts after crashes and failed writes.")
    disruptions: Count = Field(0, description="Restarts after evictions, preemptions and lost nodes.")
    stalls: Count = Field(0, description="Restarts after retry.progressDeadlineSeconds without a sign of life.")
    out_of_memory: Count = Field(0, description="Restarts with a smaller micro-batch after running out of GPU memory.")
    memory_kills: Count = Field(
        0, description="Restarts of the stage after a process was killed for lack of main memory."
    )
    incomplete: Count = Field(
        0, description="Starts in a row that were given up because not all pods found a place; 0 once all run."
    )
    last: LastRestart | None = Field(None, description="Why it was restarted last.")


class CheckpointState(Contract):
    """The newest checkpoint."""

    step: Count = Field(description="Optimizer steps done when it was saved.")
    time: AwareDatetime = Field(description="When it was saved.")


class ScheduleState(Contract):
    """Retraining by schedule."""

    last_time: AwareDatetime | None = Field(None, description="Last scheduled time that started a run.")
    next_time: AwareDatetime | None = Field(None, description="Next scheduled time.")


class Failure(Contract):
    """Why the last attempt that failed did so."""

    reason: Id = Field(description="Cause, in one CamelCase word.")
    message: Text = Field("", description="What was wrong, where, and what to do.")
    log_tail: Annotated[Plain, Field(max_length=2048)] | None = Field(
        None, description="Last lines of the failed process."
    )


class HistoryEntry(Contract):
    """A run that has ended."""

    run: Id = Field(description="Run id.")
    outcome: Literal["Succeeded", "Failed", "Cancelled"] = Field(description="How it ended.")
    reason: Annotated[str, Field(max_length=128)] | None = Field(None, description="Cause of a failure, in one word.")
    trigger: Annotated[str, Field(max_length=256)] | None = Field(None, description="What started it.")
    started_at: AwareDatetime | None = Field(None, description="When it began.")
    finished_at: AwareDatetime | None = Field(None, description="When it ended.")
    metrics: Metrics = Field({}, description="Its final metrics, by name.")


class Tracking(Contract):
    """What the operator has to remember to go on after its own restart, and nobody else needs."""

    cancel: Annotated[str, Field(max_length=256)] = Field(
        "", description="The newest cancel request that was known when the run began."
    )
    settings: Annotated[str, Field(max_length=64)] = Field(
        "", description="Hash of what the latest attempt was built from beyond what it trains."
    )
    stepped: bool = Field(
        False, description="Whether it has trained anything yet: a step was reported or a stage is done."
    )
    begun: bool = Field(False, description="Whether all pods of the current attempt were seen to run.")
    disrupted: bool = Field(
        False,
        description="Whether the current attempt is being evicted or preempted, or was and does not run again yet.",
    )
    disrupted_at: Annotated[list[AwareDatetime], Field(max_length=16)] = Field(
        [], description="When the latest disruptions were: many in a short time are followed by a pause."
    )
    last_trigger: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="The last retrain request that was acted on, or that a cancel request has answered."
    )
    trained: Annotated[list[Trained], Field(max_length=64)] = Field(
        [], description="Stages that need not be trained again, newest first."
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
    restarts: Restarts | None = Field(None, description="Restarts of the current run, by cause.")
    checkpoint: CheckpointState | None = Field(None, description="The newest checkpoint of the running stage.")
    skipped_checkpoints: Annotated[list[Annotated[Plain, Field(max_length=256)]], Field(max_length=8)] = Field(
        [], description="Checkpoints of the run that were damaged, and that a restart has passed over for an older one."
    )
    notes: Annotated[list[Annotated[Plain, Field(max_length=256)]], Field(max_length=8)] = Field(
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
