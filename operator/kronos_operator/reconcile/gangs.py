"""From the objects of a model to its attempts: what is there of each gang, and where it stands. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from kronos_operator import names
from kronos_operator.backends import backend_of, backend_of_pod, node_rank
from kronos_operator.kube.conditions import condition, true_condition
from kronos_operator.kube.kinds import Object
from kronos_operator.kube.owners import controller_of
from kronos_operator.plan import Attempt, AttemptState
from kronos_operator.reconcile.causes import (
    Disruption,
    cause_of,
    container_status,
    disruption_of,
    has_ended,
    node_of,
    overran,
)
from kronos_operator.reconcile.reports import Report, result_of
from kronos_operator.reconcile.times import created_at, seconds_of
from kronos_trainer.config import ExitCode, StageName

LOST_AFTER = 60.0  # seconds that a pod may outlive its grace before it counts as lost


@dataclass(frozen=True, kw_only=True)
class ObservedWorkload:
    """A workload with its pods."""

    workload: Object | None
    pods: tuple[Object, ...] = ()

    @cached_property
    def size(self) -> int:
        """How many pods its workload is to have."""
        return 0 if self.workload is None else backend_of(self.workload).size(self.workload["spec"])

    @cached_property
    def missing(self) -> int:
        """How many of its pods have not been made."""
        return max(0, self.size - len(self.pods))

    @cached_property
    def finished(self) -> str:
        """How the workload ended, `Complete` or `Failed`; empty while it goes on."""
        if self.workload is None or self._end is None:
            return ""
        return "Complete" if self._end["type"] == backend_of(self.workload).succeeded else "Failed"

    @cached_property
    def finished_at(self) -> float | None:
        """When the workload ended."""
        return None if self._end is None else seconds_of(self._end.get("lastTransitionTime"))

    @cached_property
    def succeeding(self) -> bool:
        """Whether the workload's controller has announced its success, while pods may still run."""
        return self.workload is not None and bool(true_condition(self.workload, backend_of(self.workload).succeeding))

    @cached_property
    def failing(self) -> bool:
        """Whether the workload's controller has announced its failure, while pods may still run."""
        return self.workload is not None and bool(true_condition(self.workload, backend_of(self.workload).failing))

    @cached_property
    def deleting(self) -> bool:
        """Whether the workload's deletion was asked for."""
        return self.workload is not None and bool(self.workload["metadata"].get("deletionTimestamp"))

    @cached_property
    def suspended(self) -> bool:
        """Whether it waits to be admitted by a queue."""
        return self.workload is not None and backend_of(self.workload).suspended(self.workload["spec"])

    @cached_property
    def _end(self) -> Object | None:
        return None if self.workload is None else backend_of(self.workload).end(self.workload)


@dataclass(frozen=True, kw_only=True)
class ObservedGang(ObservedWorkload):
    """All that is there of one attempt."""

    run: str
    stage: StageName
    attempt: int

    @cached_property
    def first_pod(self) -> Object | None:
        """The pod of rank 0, which speaks for the gang."""
        return next((pod for pod in self.pods if node_rank(pod) == 0), None)


def gangs_of(uid: str, workloads: Iterable[Object], pods: Iterable[Object]) -> tuple[list[ObservedGang], list[Object]]:
    """The gangs of a model, and the objects that carry its labels without being its children.

    `uid` is the model's. A workload is its child if the model is its controller and it has the name that an attempt
    has; a copy that somebody made to look into a failure has another name. Pods whose workload is gone are gangs too:
    whoever deleted it, they may hold a GPU and the model's directory still.
    """
    own, foreign = {}, []
    for body in workloads:
        if is_child(body, uid):
            own[body["metadata"]["uid"]] = body
        else:
            foreign.append(body)
    others = list(foreign)
    owned: defaultdict[str, list[Object]] = defaultdict(list)
    left: defaultdict[tuple[str, StageName, int], list[Object]] = defaultdict(list)
    for pod in pods:
        owner = next((key for key, body in own.items() if backend_of(body).owns(body, pod)), None)
        identity = _identity(pod)
        if owner is not None:
            owned[owner].append(pod)
        elif any(backend_of(body).owns(body, pod) for body in others):
            continue  # the workload is reported as foreign
        elif identity is None or backend_of_pod(pod) is None:
            foreign.append(pod)
        elif not has_ended(pod):
            left[identity].append(pod)
    gangs = []
    for key, body in own.items():
        run, stage, attempt = _identity(body) or ("", next(iter(StageName)), 0)
        gangs.append(ObservedGang(run=run, stage=stage, attempt=attempt, workload=body, pods=tuple(owned[key])))
    gangs += [
        ObservedGang(run=run, stage=stage, attempt=attempt, workload=None, pods=tuple(group))
        for (run, stage, attempt), group in left.items()
    ]
    return gangs, foreign


def is_child(workload: Object, uid: str) -> bool:
    """Whether a workload is an attempt of the model with this uid: by its controller, and by the name of an attempt."""
    metadata = workload["metadata"]
    return controller_of(workload).get("uid") == uid and names.is_attempt_name(
        metadata["name"], metadata.get("labels") or {}
    )


def state_of(gang: ObservedGang, now: float) -> AttemptState:
    """Where the gang is. It has failed once it is lost: its workload gone or going, and its nodes silent."""
    alive = [pod for pod in gang.pods if not has_ended(pod)]
    gone = gang.workload is None or gang.deleting
    lost = gone and bool(alive) and all(is_lost(pod, now) for pod in alive)
    return AttemptState.FAILED if lost else _state(gang, alive)


def attempt_of(gang: ObservedGang, report: Report | None, now: float) -> Attempt:
    """The attempt as plan sees it; `report` is of its log."""
    alive = [pod for pod in gang.pods if not has_ended(pod)]
    report = report or Report()
    over = gang.workload is not None and bool(gang.finished) and not alive
    disruption = _disruption(gang)
    unplaced = not gang.suspended and (gang.missing > 0 or any(not _is_placed(pod) for pod in alive))
    attempt = Attempt(
        run=gang.run,
        stage=gang.stage,
        attempt=gang.attempt,
        state=state_of(gang, now),
        disrupted=disruption is not None,
        reason="" if disruption is None else disruption.reason,
        message="" if disruption is None else disruption.message,
        whole=len(alive) == len(gang.pods),
        placed=sum(map(_is_placed, alive)),
        unplaced_since=created_at(gang.workload) if unplaced and gang.workload is not None else None,
        has_progress=report.has_progress,
        succeeding=gang.finished == "Complete" or gang.succeeding,
        started_at=_started_at(gang),
        reported_at=report.alive_at,
        deadline_exceeded=overran(gang.workload),
        stuck=cannot_go_on(gang, now),
        deleting=gang.deleting,
        silent_nodes=tuple(silent_nodes(gang)),
        finished_at=(gang.finished_at or now) if over else None,
        result=result_of(report, gang.stage),
    )
    if attempt.state is not AttemptState.FAILED:
        return attempt
    cause = cause_of(gang.workload, gang.pods)
    gone = gang.workload is None or gang.deleting
    disruption = cause.disruption or (disruption if gone else None)
    message = cause.message or ("" if cause.memory_killed else report.error)
    return replace(
        attempt,
        exit_code=cause.exit_code,
        message=message if disruption is None else disruption.message,
        disrupted=disruption is not None,
        reason="" if disruption is None else disruption.reason,
        memory_killed=cause.memory_killed,
    )


def cannot_go_on(gang: ObservedGang, now: float) -> bool:
    """Whether the workload has to be deleted for the gang to end.

    A lost pod never ends by itself. Some controllers make a deleted pod anew, alone, and it waits in vain for the
    others. A workload that its queue suspends, and whose pods then exit as they should, may count that as its failure;
    then it has ended, but is marked as failed only when it is resumed.
    """
    if gang.workload is None or gang.deleting:
        return False
    if any(is_lost(pod, now) for pod in gang.pods):
        return True
    if gang.suspended and gang.failing and all(has_ended(pod) for pod in gang.pods):
        return not gang.finished
    # One that its queue has taken back is made anew as a whole.
    hangs = not gang.finished and not gang.suspended and backend_of(gang.workload).remakes_pods
    return hangs and disruption_of(gang.workload, gang.pods) is not None


def lost_at(gang: ObservedGang) -> float | None:
    """When the first of its pods that are being deleted will count as lost."""
    moments = [_gone_by(pod) for pod in gang.pods if not has_ended(pod)]
    return min((moment for moment in moments if moment is not None), default=None)


def silent_nodes(gang: ObservedGang) -> list[str]:
    """Nodes that do not answer while a pod of the gang runs there: then the node controller sets its Ready to False."""
    silent = []
    for pod in gang.pods:
        runs = "running" in (container_status(pod).get("state") or {}) and not has_ended(pod)
        if (
            runs
            and condition(pod, "Ready").get("status") in ("False", "Unknown")
            and container_status(pod).get("ready")
        ):
            silent.append(node_of(pod))
    return sorted({node for node in silent if node})


def is_lost(pod: Object, now: float) -> bool:
    """Whether the pod should have been gone for a while: its node does not answer."""
    moment = _gone_by(pod)
    return moment is not None and not has_ended(pod) and now >= moment


def has_started(pod: Object) -> bool:
    """Whether its containers run, or have run."""
    return str((pod.get("status") or {}).get("phase", "")) in ("Running", "Succeeded", "Failed")


def _state(gang: ObservedGang, alive: list[Object]) -> AttemptState:
    if gang.workload is None or gang.deleting:
        return AttemptState.STOPPING
    if gang.finished and alive:
        return AttemptState.STOPPING  # some workloads end before their pods do
    if gang.finished:
        return AttemptState.SUCCEEDED if gang.finished == "Complete" else AttemptState.FAILED
    if gang.failing or gang.succeeding:
        return AttemptState.STOPPING
    if gang.suspended:
        return AttemptState.STOPPING if alive else AttemptState.QUEUED
    complete = gang.pods and not gang.missing and all(map(has_started, gang.pods))
    return AttemptState.RUNNING if complete else AttemptState.WAITING


def _disruption(gang: ObservedGang) -> Disruption | None:
    """What others are doing to the gang, or have done."""
    found = disruption_of(gang.workload, gang.pods)
    if found is not None:
        return found
    if gang.deleting and not gang.finished:
        assert gang.workload is not None
        return Disruption(reason="WorkloadDeleted", message=f"{gang.workload['metadata']['name']} is being deleted")
    if gang.workload is None:
        return Disruption(reason="WorkloadDeleted", message="the workload was deleted while its pods ran")
    if _taken_back(gang):
        return Disruption(reason="QueueEvicted", message="its queue has taken its quota back")
    return None


def _is_placed(pod: Object) -> bool:
    """Whether the pod has a node."""
    return bool(node_of(pod)) or has_started(pod)


def _taken_back(gang: ObservedGang) -> bool:
    """Whether its queue ends its pods, in whichever second they do so and whatever the workload takes it for."""
    if not gang.suspended:
        return False
    deleted = not gang.failing and any(pod["metadata"].get("deletionTimestamp") for pod in gang.pods)
    return deleted or cause_of(gang.workload, gang.pods).exit_code == ExitCode.STOPPED


def _started_at(gang: ObservedGang) -> float | None:
    """When the last of the gang's containers started: before that it only waits for itself."""
    moments = []
    for pod in gang.pods:
        state = container_status(pod).get("state") or {}
        part = state.get("running") or state.get("terminated") or {}
        moments.append(seconds_of(part.get("startedAt")) or seconds_of((pod.get("status") or {}).get("startTime")))
    return max((moment for moment in moments if moment is not None), default=None)


def _gone_by(pod: Object) -> float | None:
    # The timestamp already has the grace period in it.
    deleted = seconds_of(pod["metadata"].get("deletionTimestamp"))
    return None if deleted is None else deleted + LOST_AFTER


def _identity(body: Object) -> tuple[str, StageName, int] | None:
    labels = body["metadata"].get("labels") or {}
    try:
        return labels[names.RUN_LABEL], StageName(labels[names.STAGE_LABEL]), int(labels[names.ATTEMPT_LABEL])
    except (KeyError, ValueError):
        return None
