"""What is remembered of a run, and how one begins. An executor keeps the record: in status, or in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from kronos_operator.api import Spec
from kronos_operator.hashing import Digests, run_id, stage_hashes, template_hash
from kronos_trainer.config import StageName


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SUPERSEDED = "Superseded"  # cancelled in favour of a newer spec


class StopReason(StrEnum):
    """Why a gang is stopped."""

    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"
    SUPERSEDED = "Superseded"
    UPDATED = "Updated"  # nothing that it trains changed, but what it is built from did, and it has done no step yet
    STALLED = "Stalled"
    OVERTIME = "Overtime"
    INCOMPLETE = "Incomplete"  # not all of its pods found a place in time
    OUTRANKED = "Outranked"  # not all of its pods found a place, and another model's come first
    STRAY = "Stray"  # a gang that the record knows nothing of


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A stage that some run has finished: a terminal fact."""

    run: str
    stage: StageName
    hash: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of a run."""

    stage: StageName
    hash: str
    wanted: bool = True  # False where --stage leaves it out
    done: bool = False
    reuse: str | None = None  # the earlier run that trained it
    publish: bool = False


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Why the run was restarted last, by whatever cause; `at` in seconds since the epoch."""

    reason: str
    message: str
    at: float


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as it is remembered. `number` is the current attempt's; it never falls, not even from run to run."""

    id: str
    hashes: tuple[tuple[StageName, str], ...]
    steps: tuple[Step, ...]
    trigger: str = ""
    cancel: str = ""
    started_at: float = 0.0
    number: int = 0
    settings: str = ""  # what the latest attempt was built from, by hash
    crashes: int = 0
    disruptions: int = 0
    stalls: int = 0
    out_of_memory: int = 0  # of the current stage: GPU memory
    memory_kills: int = 0  # of the current stage: main memory
    incomplete: int = 0  # starts in a row that were given up because not all pods found a place
    recent: tuple[float, ...] = ()  # when the latest disruptions were
    last: Restart | None = None
    begun: bool = False  # all pods of the current attempt were seen to run
    stepped: bool = False  # some attempt has reported a step or finished a stage: there is something to lose
    disrupted: bool = False  # the current attempt is being evicted or preempted, or was and does not run again yet
    stop: StopReason | None = None  # why the current attempt is being stopped
    retry_at: float | None = None
    outcome: Outcome | None = None
    reason: str = ""
    message: str = ""

    @property
    def next_step(self) -> Step | None:
        """The stage to work on, None when all that is wanted is done."""
        return next((step for step in self.steps if step.wanted and not step.done), None)

    @property
    def restarts(self) -> int:
        """Restarts of any kind, also those that are free."""
        return self.crashes + self.disruptions + self.stalls + self.out_of_memory + self.memory_kills


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for at this moment."""

    spec: Spec
    digests: Digests = field(default_factory=Digests)
    trigger: str = ""
    scheduled: bool = False  # the trigger is a tick of the schedule, which waits for its turn whatever the policy
    cancel: str = ""
    stages: frozenset[StageName] = frozenset(StageName)
    refused: bool = False  # nothing may be started from this spec, and nothing gives way to it

    @cached_property
    def hashes(self) -> tuple[tuple[StageName, str], ...]:
        """The stage hashes of the spec."""
        return tuple(stage_hashes(self.spec, self.digests).items())

    def asks_anew(self, record: RunRecord | None) -> bool:
        """Whether retraining is asked for, though nothing may have changed."""
        return self.trigger not in ("", "" if record is None else record.trigger)

    def insists(self, record: RunRecord) -> bool:
        """Whether somebody asks for retraining; the schedule does not count."""
        return self.asks_anew(record) and not self.scheduled

    def changes(self, record: RunRecord) -> bool:
        """Whether the spec is to train something else than the run does."""
        return record.outcome is Outcome.SUPERSEDED or self.hashes != record.hashes

    def mends(self, record: RunRecord) -> bool:
        """Whether what a failed run was built from has changed since."""
        return record.outcome is Outcome.FAILED and record.settings not in ("", template_hash(self.spec))


def begin(
    request: Request, before: RunRecord | None, completed: Sequence[Completed], published: str, now: float
) -> RunRecord:
    """The run that answers the request: the same one again if it was asked for before, so that it goes on.

    `before` is the latest run and `completed` all finished stages, newest first. Stages finished with the same hash are
    not trained again, in whichever run that was, unless retraining is asked for.
    """
    hashes = request.hashes
    anew = request.asks_anew(before)
    trained = [(stage, value) for stage, value in hashes if getattr(request.spec, stage).epochs > 0]
    identity = run_id(dict(hashes), request.trigger)
    if anew and before is not None and any(fact.run == identity for fact in completed):
        # The words of an earlier request come again, and name its run, which must not be the answer this time. Only
        # then the number tells the two apart: a recreated object, with the same words, has to find its run.
        identity = run_id(dict(hashes), f"{request.trigger} {before.number}")
    finals = [fact.run for fact in completed if trained and (fact.stage, fact.hash) == trained[-1]]
    if before is not None and before.hashes == hashes and not anew:
        identity = before.id
    elif finals and identity not in finals and not anew:
        identity = finals[0]

    steps = []
    for stage, value in trained:
        runs = [fact.run for fact in completed if (fact.stage, fact.hash) == (stage, value)]
        own = identity in runs
        last = stage is trained[-1][0]
        may_reuse = not last and not (anew and stage in request.stages)
        reuse = runs[0] if runs and not own and may_reuse else None
        # A finished run that is not the published one starts its last stage again: the trainer finds it complete and
        # publishes it.
        done = reuse is not None or (own and (not last or published == identity))
        wanted = stage in request.stages
        steps.append(Step(stage=stage, hash=value, wanted=wanted, done=done, reuse=reuse, publish=last))

    record = RunRecord(
        id=identity,
        hashes=hashes,
        steps=tuple(steps),
        trigger=request.trigger,
        cancel=request.cancel,
        started_at=now,
        number=0 if before is None else before.number,
    )
    return _settled(record)


def _settled(record: RunRecord) -> RunRecord:
    """The record with its outcome if there is nothing that can be done."""
    following = record.next_step
    if following is None:
        return replace(record, outcome=Outcome.SUCCEEDED, reason="Succeeded", message="nothing is left to train")
    missing = next((step for step in record.steps if not step.done), following)
    if missing is following:
        return record
    return replace(
        record,
        outcome=Outcome.FAILED,
        reason="InputMissing",
        message=f"{following.stage} requires a trained {missing.stage}",
    )
