"""What an executor observes of one model: facts and reasons. What follows from them is for `plan` to decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kronos_operator.api import Run, TrainedStage
from kronos_operator.hashing import Digests
from kronos_operator.plan.attempt import Attempt
from kronos_operator.plan.obstacle import Obstacle
from kronos_operator.plan.pointing import PointerPod, PointerRequest
from kronos_trainer.config import StageName


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What an executor observes of one model.

    `run` is the newest. `attempts` may lag behind, with two exceptions: they never go back in time, not even when an
    executor starts anew, and the run's current attempt is never missing while it exists.
    """

    run: Run | None = None
    trained: Sequence[TrainedStage] = ()  # newest first
    attempts: Sequence[Attempt] = ()
    published: str = ""  # the run that current.json names
    digests: Digests = field(default_factory=Digests)
    trigger: str = ""  # the newest retrain request, schedule tick or --force; another value asks for another run
    scheduled: bool = False  # whether the trigger is a schedule tick
    cancel: str = ""  # the newest cancel request
    asked: Sequence[PointerRequest] = ()  # promotions and rollbacks that are not answered
    pointer_pods: Sequence[PointerPod] = ()
    pointer_refused: Obstacle | None = None  # why the pod of a request cannot be made
    stages: frozenset[StageName] = frozenset(StageName)  # --stage
    # Restarts for lack of GPU memory that a stage of a run has needed under an executor that remembers no run.
    out_of_memory: Mapping[tuple[str, StageName], int] = field(default_factory=dict)
    refused: Obstacle | None = None  # why the spec may not be started here
    rejected: Obstacle | None = None  # why what the run needs will never be accepted
    postponed: Obstacle | None = None  # why what was decided cannot be done at this moment
    waiting: Obstacle | None = None  # why the current attempt does not run
    unshared_storage: str = ""  # a warning about the storage; empty without one
    place: int | None = None  # among the models that wait for their turn, 1 being the next; None: it may start
    gang_start_seconds: float | None = None  # in which all pods must be scheduled; None: a queue takes care of that
    outranked: bool = False  # a model that comes first lacks places of the same kind
    contended: bool = False  # others wait for their turn at places of the same kind
