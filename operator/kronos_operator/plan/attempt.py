"""One start of the gang of a stage, as an executor observes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kronos_trainer.config import StageName, StageResult


class AttemptState(StrEnum):
    """Where a gang is. A gang of which anything is left is not yet succeeded or failed."""

    QUEUED = "queued"  # not admitted
    WAITING = "waiting"  # to be scheduled, pulled, started
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def live(self) -> bool:
        """Whether the gang holds or may soon hold resources."""
        return self not in (AttemptState.SUCCEEDED, AttemptState.FAILED)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt as observed. Times are seconds since the epoch."""

    run: str
    stage: StageName
    attempt: int
    state: AttemptState
    exit_code: int | None = None  # the gang's cause, once failed
    message: str = ""  # why it failed, as the trainer reported it
    final: bool = False  # it failed for a reason that another start would meet again at once
    deadline_exceeded: bool = False  # it was ended for having run longer than it may
    disrupted: bool = False  # a pod, or the workload, was evicted, preempted or deleted by others
    reason: str = ""  # why it was disrupted, in one CamelCase word
    memory_killed: bool = False  # a process was killed for lack of main memory
    whole: bool = False  # none of its pods has ended
    placed: int = 0  # pods that have a node
    unplaced_since: float | None = None  # since when some of its pods wait for one; None if none does
    has_progress: bool = False  # has reported a training step
    succeeding: bool = False  # all of it is done, and about to be counted as succeeded
    stuck: bool = False  # cannot end by itself: its workload has to be deleted
    deleting: bool = False  # the deletion of its workload was requested
    silent_nodes: Sequence[str] = ()  # nodes of its pods that are not ready
    result: StageResult | None = None  # of its stage, once done, as the trainer reported
    started_at: float | None = None
    reported_at: float | None = None  # last sign of life
    finished_at: float | None = None  # when its workload ended; None while any of its pods is left running
