"""A run: all that must be remembered of it. `plan` decides on it, and status carries it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic.config import JsonDict

from kronos_operator.api.values import Count, Day, Digest, Hash, Id, Metrics, Moment, Reason, RequestText, Text, Word
from kronos_trainer.config import Contract, Decision, Reuse, StageName

MOST_TRAINED = 24  # stages that need not be trained again, and are remembered


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SUPERSEDED = "Superseded"  # cancelled in favour of a newer spec


class StopReason(StrEnum):
    """Why an attempt is stopped."""

    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"
    SUPERSEDED = "Superseded"
    UPDATED = "Updated"  # it is built from what has changed since, trains the same, and has no progress yet
    STALLED = "Stalled"
    OVERTIME = "Overtime"
    INCOMPLETE = "Incomplete"  # not all of its pods were scheduled in time
    OUTRANKED = "Outranked"  # not all of its pods were scheduled, and another model's come first
    STRAY = "Stray"  # it is not the current attempt of any run


# An operator that was rolled back reads what a newer one has written: a run that ended in a way unknown to it has ended
# all the same, and why to stop an attempt is decided anew. Therefore the schema lists no values either.
_ShortText = WithJsonSchema({"type": "string", "maxLength": 64})
_AnyOutcome = Annotated[
    Outcome, BeforeValidator(lambda value: value if value in list(Outcome) else Outcome.FAILED), _ShortText
]
_AnyStopReason = Annotated[
    StopReason | None, BeforeValidator(lambda value: value if value in list(StopReason) else None), _ShortText
]

# Maps come back from the API server in the order of their keys.
StageHashes = Annotated[
    dict[StageName, Hash],
    Field(max_length=8),
    AfterValidator(lambda hashes: {stage: hashes[stage] for stage in StageName if stage in hashes}),
]


def _without_default(schema: JsonDict) -> None:
    del schema["default"]  # which the API server would write into every stage


class _Record(Contract):
    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed, validated."""
        return self.model_validate(dict(self) | changes)


class RunStage(_Record):
    """One stage of a run."""

    stage: StageName = Field(description="Name of the stage.")
    hash: Hash = Field(description="Hash of everything that determines what the stage trains.")
    wanted: bool = Field(
        True,
        description="Whether the run is to train the stage; only the command line can leave one out.",
        exclude_if=lambda wanted: wanted,
        json_schema_extra=_without_default,
    )
    done: bool = Field(False, description="Whether the stage is trained.")
    reuse: Id | None = Field(None, description="Earlier run that trained the stage with the same hash.")
    publish: bool = Field(False, description="Whether the model is published at the end of the stage.")
    digest: Digest | None = Field(None, description="SHA-256 of the trained weights, in hex, as the trainer reported.")
    bytes: Count | None = Field(None, description="Size of the trained weights, as the trainer reported.")
    data_through: Day | None = Field(
        None, description="Last day of the bars that the stage has read, as the trainer reported."
    )
    metrics: Metrics = Field({}, description="Metrics of the trained stage, by name, as the trainer reported.")
    verdict: Word | None = Field(None, description="Verdict of a stage that evaluates.")
    promotion: Word | None = Field(
        None, description="What the promotion gate has decided at the end of the stage: Published or Held."
    )
    promotion_message: Text | None = Field(None, description="Why, with the numbers.")

    @property
    def held(self) -> bool:
        """Whether the promotion gate has kept the run from being published."""
        return self.promotion == Decision.HELD


class TrainedStage(Contract):
    """A stage that some run has trained: a terminal fact."""

    run: Id = Field(description="Id of the run.")
    stage: StageName = Field(description="Name of the stage.")
    hash: Hash = Field(description="Hash of everything that determined what the stage trained.")


class LastRestart(Contract):
    """Why the run was restarted last."""

    reason: Annotated[Reason, Field(min_length=1)] = Field(description="Cause, in one CamelCase word.")
    message: Text = Field("", description="What happened, to which pod, on which node.")
    time: Moment = Field(description="When the operator observed it.")


class Restarts(_Record):
    """Restarts of a run, by cause. Crashes and stalls alone count against retry.maxRestarts."""

    crashes: Count = Field(0, description="Restarts after crashes and failed writes.")
    disruptions: Count = Field(0, description="Restarts after evictions, preemptions and lost nodes.")
    stalls: Count = Field(0, description="Restarts after retry.progressDeadlineSeconds without a sign of life.")
    out_of_memory: Count = Field(
        0, description="Restarts of the stage with a smaller micro-batch after running out of GPU memory."
    )
    memory_kills: Count = Field(
        0, description="Restarts of the stage after a process was killed for lack of main memory."
    )
    incomplete: Count = Field(
        0, description="Consecutive starts that were given up because not all pods were scheduled; 0 once all run."
    )
    last: LastRestart | None = Field(None, description="Why the run was restarted last.")

    @property
    def total(self) -> int:
        """Restarts of attempts that had started, whatever the cause."""
        return self.crashes + self.disruptions + self.stalls + self.out_of_memory + self.memory_kills


class Run(_Record):
    """The current or last run."""

    id: Id = Field(description="Id of the run; it names the directory of its results.")
    attempt: Count = Field(
        0,
        description="Number of the current attempt, from 0. It rises with every start over the model's life, whatever "
        "the run; once the run has ended, it is that of the next run's first attempt.",
    )
    started_at: Moment | None = Field(None, description="When the run began.")
    gpus: Count | None = Field(None, description="GPUs that the run requests, over all nodes.")
    stage_hashes: StageHashes = Field(
        {}, description="Hash of everything that determines each stage; equal hashes are not trained twice."
    )
    stages: Annotated[tuple[RunStage, ...], Field(max_length=8)] = Field(
        (), description="Stages that the run consists of, in their order."
    )
    trigger: RequestText = Field(
        "", description="Retrain request or scheduled time that began the run. Empty: a change of the spec."
    )
    cancel: RequestText = Field("", description="Newest cancel request that was known when the run began.")
    template_hash: Annotated[str, Field(max_length=64)] = Field(
        "", description="Hash of what the latest attempt was built from beyond what it trains."
    )
    has_progress: bool = Field(
        False, description="Whether the run has trained anything: a step was reported or a stage is done."
    )
    begun: bool = Field(False, description="Whether all pods of the current attempt have been running.")
    disrupted: bool = Field(
        False,
        description="Whether the current attempt is being evicted or preempted, or was and does not run again yet.",
    )
    disrupted_at: Annotated[tuple[Moment, ...], Field(max_length=16)] = Field(
        (), description="When the latest disruptions were: several in a short time are followed by a pause."
    )
    restarts: Restarts = Field(default_factory=Restarts, description="Restarts of the run, by cause.")
    stop: _AnyStopReason = Field(None, description="Why the current attempt is being stopped.")
    retry_at: Moment | None = Field(None, description="When the next attempt may start.")
    outcome: _AnyOutcome | None = Field(
        None, description="How the run ended: Succeeded, Failed, Cancelled or Superseded. Absent while it goes on."
    )
    reason: Reason = Field("", description="Why, in one CamelCase word.")
    message: Text = Field("", description="Why, in a sentence.")

    @property
    def reuse(self) -> dict[StageName, Reuse]:
        """The stages whose weights come from earlier runs."""
        return {stage.stage: Reuse(run=stage.reuse, hash=stage.hash) for stage in self.stages if stage.reuse}

    @property
    def next_stage(self) -> RunStage | None:
        """The stage to train now, None when all that are wanted are done."""
        return next((stage for stage in self.stages if stage.wanted and not stage.done), None)

    @property
    def judged(self) -> RunStage | None:
        """The stage on whose scores the promotion gate has decided; None while it has not, or without such a stage."""
        return next((stage for stage in self.stages if stage.done and stage.promotion is not None), None)

    @property
    def held(self) -> bool:
        """Whether the promotion gate has kept it from being published."""
        return self.judged is not None and self.judged.held

    @property
    def published(self) -> bool:
        """Whether its end has published the model."""
        return any(stage.publish and stage.done for stage in self.stages) and not self.held

    def has_published(self, before: Run | None) -> bool:
        """Whether it has published the model since it was `before`: what came later is not undone."""
        return self.published and not (before is not None and before.id == self.id and before.published)

    def trained_after(self, known: tuple[TrainedStage, ...]) -> tuple[TrainedStage, ...]:
        """The trained stages that were known, newest first, with those that the run has trained itself."""
        own = (
            TrainedStage(run=self.id, stage=stage.stage, hash=stage.hash)
            for stage in reversed(self.stages)
            if stage.done and stage.reuse is None
        )
        return (*(fact for fact in own if fact not in known), *known)[:MOST_TRAINED]
