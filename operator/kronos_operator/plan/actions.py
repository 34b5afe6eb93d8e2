"""What an executor is to do. Each action may be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kronos_operator.api import KronosModel, Run, StopReason
from kronos_trainer.config import Reuse, RunConfig, StageName


@dataclass(frozen=True, kw_only=True)
class StartAttempt:
    """Start the gang of one stage."""

    run: str
    stage: StageName
    attempt: int
    stage_hashes: Mapping[StageName, str]
    out_of_memory_restarts: int
    publish: bool
    reuse: Mapping[StageName, Reuse] = field(default_factory=dict)  # stages whose weights come from earlier runs

    def run_config(self, model: KronosModel, *, bars: str, output: str, gpu_required: bool = False) -> RunConfig:
        """run.json of the attempt, with bars and results where the trainer will find them."""
        return RunConfig(
            **model.spec.run_fields(),
            **{f"reuse_{stage}": reuse for stage, reuse in self.reuse.items()},
            model=model.ref,
            run=self.run,
            stage=self.stage,
            stage_hashes=dict(self.stage_hashes),
            model_created=model.metadata.creation_timestamp,
            attempt=self.attempt,
            out_of_memory_restarts=self.out_of_memory_restarts,
            publish=self.publish,
            bars=bars,
            output=output,
            gpu_required=gpu_required,
        )


@dataclass(frozen=True, kw_only=True)
class StopAttempt:
    """SIGTERM to the gang; what is left after the grace period is killed."""

    run: str
    stage: StageName
    attempt: int
    reason: StopReason


@dataclass(frozen=True, kw_only=True)
class Deletions:
    """What is to be deleted of attempts, each by its run and number, once the status is written."""

    stuck: tuple[tuple[str, int], ...] = ()  # their workloads: without that they never end
    expired: tuple[tuple[str, int], ...] = ()  # all that is left of them
    kept: frozenset[tuple[str, int]] = frozenset()  # all others, whose objects stay


Action = StartAttempt | StopAttempt


def start_of(run: Run) -> StartAttempt:
    """The start of the run's current attempt, which is the same each time."""
    stage = run.next_stage
    assert stage is not None  # a run without a next stage has an outcome
    return StartAttempt(
        run=run.id,
        stage=stage.stage,
        attempt=run.attempt,
        stage_hashes=run.stage_hashes,
        out_of_memory_restarts=run.restarts.out_of_memory,
        publish=stage.publish,
        reuse=run.reuse,
    )
