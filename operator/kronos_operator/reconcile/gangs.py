"""From the objects of a model to its attempts: what is there of each gang, and where it stands. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kronos_operator import names
from kronos_operator.kube.conditions import condition, true_condition
from kronos_operator.kube.kinds import Object
from kronos_operator.plan import Attempt, AttemptState
from kronos_operator.reconcile.causes import (
    Disruption,
    cause_of,
    container_status,
    disruption_of,
    has_ended,
    node_of,
)
from kronos_operator.reconcile.reports import Report
from kronos_operator.reconcile.times import created_at, seconds_of
from kronos_trainer.config import ExitCode, StageName

_HASH = re.compile("[0-9a-f]{8}")
LOST_AFTER = 60.0  # seconds that a pod may outlive its grace before it counts as lost


@dataclass(frozen=True, kw_only=True)
class Gang:
    """All that is there of one attempt."""

    run: str
    stage: StageName
    number: int
    workload: Object | None
    pods: tuple[Object, ...] = ()

    @property
    def first_pod(self) -> Object | None:
        """The pod of rank 0, which speaks for the gang."""
        return next((pod for pod in self.pods if _is_first(pod)), None)

    @property
    def size(self) -> int:
        """How many pods its workload is to have."""
        spec = {} if self.workload is None else self.workload.get("spec") or {}
        replicas = spec.get("pytorchReplicaSpecs") or {}
        return int(sum(one.get("replicas", 0) for one in replicas.values()) if replicas else spec.get("parallelism", 0))

    @property
    def missing(self) -> int:
        """How many of its pods have not been made."""
        return max(0, self.size - len(self.pods))

    @property
    def finished(self) -> str:
        """How the workload ended, `Complete` or `Failed`; empty while it goes on."""
        for name, word in (("Complete", "Complete"), ("Succeeded", "Complete"), ("Failed", "Failed")):
            if true_condition(self.workload, name):
                return word
        return ""

    @property
    def finished_at(self) -> float | None:
        """When the workload ended."""
        ended = true_condition(self.workload, "Complete", "Succeeded", "Failed")
        return None if ended is None else seconds_of(ended.get("lastTransitionTime"))

    @property
    def deleting(self) -> bool:
        """Whether the workload's deletion was asked for."""
        return self.workload is not None and bool(self.workload["metadata"].get("deletionTimestamp"))

    @property
    def suspended(self) -> bool:
        """Whether it waits to be admitted by a queue."""
        spec = {} if self.workload is None else self.workload.get("spec") or {}
        return bool(spec.get("suspend") or (spec.get("runPolicy") or {}).get("suspend"))


def gangs_of(model: Object, workloads: Iterable[Object], pods: Iterable[Object]) -> tuple[list[Gang], list[Object]]:
    """The gangs of a model, and the objects that carry its labels without being its children.

    `model` has name and uid. A workload is its child if the model is its controller and it has the name that an attempt
    has; a copy that somebody made to look into a failure has another name. Pods are found by their controller. Those
    whose workload is gone are gangs too: whoever deleted it, they may hold a GPU and the model's directory still.
    """
    own, foreign = {}, []
    for body in workloads:
        if is_child(body, model["name"], model["uid"]):
            own[body["metadata"]["uid"]] = body
        else:
            foreign.append(body)
    strangers = {body["metadata"]["uid"] for body in foreign}
    by_owner: defaultdict[str, list[Object]] = defaultdict(list)
    left: defaultdict[tuple[str, StageName, int], list[Object]] = defaultdict(list)
    for pod in pods:
        controller = _controller(pod)
        identity = _identity(pod)
        if controller.get("uid") in own:
            by_owner[controller["uid"]].append(pod)
        elif controller.get("uid") in strangers:
            continue  # its workload is spoken of
        elif identity is None or not _is_attempt(controller.get("name", ""), pod, model["name"]):
            foreign.append(pod)
        elif not has_ended(pod):
            left[identity].append(pod)
    gangs = []
    for uid, body in own.items():
        run, stage, number = _identity(body) or ("", next(iter(StageName)), 0)
        gangs.append(Gang(run=run, stage=stage, number=number, workload=body, pods=tuple(by_owner[uid])))
    gangs += [
        Gang(run=run, stage=stage, number=number, workload=None, pods=tuple(group))
        for (run, stage, number), group in left.items()
    ]
    return gangs, foreign


def is_child(body: Object, model: str, uid: str) -> bool:
    """Whether a workload is one of the model's attempts: by its controller, and by the name that an attempt has."""
    return bool(_controller(body).get("uid") == uid) and _is_attempt(body["metadata"]["name"], body, model)


def attempt_of(gang: Gang, report: Report | None, now: float) -> Attempt:
    """The attempt as plan sees it. It has failed once it is lost: its workload gone or going, and its nodes silent."""
    alive = [pod for pod in gang.pods if not has_ended(pod)]
    gone = gang.workload is None or gang.deleting
    lost = gone and bool(alive) and all(is_lost(pod, now) for pod in alive)
    report = report or Report()
    disruption = _disruption(gang)
    unplaced = not gang.suspended and (gang.missing > 0 or any(not _is_placed(pod) for pod in alive))
    attempt = Attempt(
        run=gang.run,
        stage=gang.stage,
        number=gang.number,
        state=AttemptState.FAILED if lost else _state(gang, alive),
        disrupted=disruption is not None,
        reason="" if disruption is None else disruption.reason,
        message="" if disruption is None else disruption.message,
        whole=len(alive) == len(gang.pods),
        placed=sum(map(_is_placed, alive)),
        unplaced_since=created_at(gang.workload) if unplaced and gang.workload is not None else None,
        stepped=report.stepped,
        succeeding=gang.finished == "Complete" or bool(true_condition(gang.workload, "SuccessCriteriaMet")),
        started_at=_started_at(gang),
        reported_at=report.heard_at,
    )
    if attempt.state is not AttemptState.FAILED:
        return attempt
    cause = cause_of(gang.workload, gang.pods)
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


def cannot_go_on(gang: Gang, now: float) -> bool:
    """Whether the workload has to be deleted for the gang to end.

    A lost pod never ends by itself. A pod of a PyTorchJob that was deleted is made anew, alone, and hangs the gang.
    A Job that its queue suspends, and whose pods exit as they are told to, may count that as its failure; then it is
    over, but says so only when it is resumed.
    """
    if gang.workload is None or gang.deleting:
        return False
    if any(is_lost(pod, now) for pod in gang.pods):
        return True
    if gang.suspended and true_condition(gang.workload, "FailureTarget") and all(has_ended(pod) for pod in gang.pods):
        return not gang.finished
    # One that its queue has taken back is made anew as a whole.
    going = not gang.finished and not gang.suspended and gang.workload["kind"] == "PyTorchJob"
    return going and disruption_of(gang.workload, gang.pods) is not None


def lost_at(gang: Gang) -> float | None:
    """When the first of its pods that are being deleted will count as lost."""
    moments = [_gone_by(pod) for pod in gang.pods if not has_ended(pod)]
    return min((moment for moment in moments if moment is not None), default=None)


def silent_nodes(gang: Gang) -> list[str]:
    """Nodes from which nothing is heard while a pod of the gang runs there: then its Ready is taken back by others."""
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


def _state(gang: Gang, alive: list[Object]) -> AttemptState:
    if gang.workload is None or gang.deleting:
        return AttemptState.STOPPING
    if gang.finished and alive:
        return AttemptState.STOPPING  # a PyTorchJob ends before its pods do
    if gang.finished:
        return AttemptState.SUCCEEDED if gang.finished == "Complete" else AttemptState.FAILED
    if true_condition(gang.workload, "FailureTarget", "SuccessCriteriaMet"):
        return AttemptState.STOPPING
    if gang.suspended:
        return AttemptState.STOPPING if alive else AttemptState.QUEUED
    complete = gang.pods and not gang.missing and all(map(has_started, gang.pods))
    return AttemptState.RUNNING if complete else AttemptState.WAITING


def _disruption(gang: Gang) -> Disruption | None:
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


def _taken_back(gang: Gang) -> bool:
    """Whether its queue makes its pods end, in whichever second they do so and whatever their Job takes that for."""
    if not gang.suspended:
        return False
    failing = true_condition(gang.workload, "FailureTarget")
    told = not failing and any(pod["metadata"].get("deletionTimestamp") for pod in gang.pods)
    return told or cause_of(gang.workload, gang.pods).exit_code == ExitCode.STOPPED


def _started_at(gang: Gang) -> float | None:
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


def _is_attempt(name: str, body: Object, model: str) -> bool:
    """Whether a workload of this name is the model's attempt that the labels of `body` speak of."""
    identity = _identity(body)
    if identity is None:
        return False
    _, stage, number = identity
    start, end = f"{model}-{stage.short}-", f"-{number}"
    middle = name.removeprefix(start).removesuffix(end)
    return name == start + middle + end and bool(_HASH.fullmatch(middle))


def _controller(body: Object) -> Object:
    owners = body["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})


def _is_first(pod: Object) -> bool:
    metadata = pod["metadata"]
    index = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
    return (
        index.get("batch.kubernetes.io/job-completion-index") == "0"
        or index.get("training.kubeflow.org/replica-type") == "master"
    )
