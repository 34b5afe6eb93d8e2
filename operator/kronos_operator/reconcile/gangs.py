"""From the objects of a model to its attempts: what is there of each gang, and where it stands. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kronos_operator import names
from kronos_operator.kube.conditions import true_condition
from kronos_operator.kube.kinds import Object
from kronos_operator.plan import Attempt, AttemptState
from kronos_operator.reconcile.causes import cause_of, container_status, disrupted_by_others, has_ended
from kronos_operator.reconcile.reports import Report
from kronos_operator.reconcile.times import seconds_of
from kronos_trainer.config import ExitCode, StageName

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
    def missing(self) -> int:
        """How many of its pods have not been made."""
        spec = {} if self.workload is None else self.workload.get("spec") or {}
        replicas = spec.get("pytorchReplicaSpecs") or {}
        wanted = sum(one.get("replicas", 0) for one in replicas.values()) if replicas else spec.get("parallelism", 0)
        return max(0, int(wanted) - len(self.pods))

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


def gangs_of(uid: str, workloads: Iterable[Object], pods: Iterable[Object]) -> list[Gang]:
    """The gangs of the model with this uid.

    Pods are found by label, for their controller is the workload. Pods without their workload are gangs too: whoever
    deleted it, they may hold a GPU and the model's directory still.
    """
    own = [body for body in workloads if _controller(body) == uid and _identity(body) is not None]
    by_owner: defaultdict[str, list[Object]] = defaultdict(list)
    for pod in pods:
        by_owner[_controller(pod)].append(pod)
    gangs = []
    for body in own:
        run, stage, number = _identity(body) or ("", StageName.TOKENIZER, 0)
        mine = by_owner.pop(body["metadata"]["uid"], [])
        gangs.append(Gang(run=run, stage=stage, number=number, workload=body, pods=tuple(mine)))
    left: defaultdict[tuple[str, StageName, int], list[Object]] = defaultdict(list)
    for group in by_owner.values():
        for pod in group:
            identity = _identity(pod)
            if identity is not None and not has_ended(pod):
                left[identity].append(pod)
    return gangs + [
        Gang(run=run, stage=stage, number=number, workload=None, pods=tuple(group))
        for (run, stage, number), group in left.items()
    ]


def attempt_of(gang: Gang, report: Report | None, now: float) -> Attempt:
    """The attempt as plan sees it. It has failed once it is lost: its workload gone or going, and its nodes silent."""
    alive = [pod for pod in gang.pods if not has_ended(pod)]
    lost = (gang.workload is None or gang.deleting) and bool(alive) and all(is_lost(pod, now) for pod in alive)
    report = report or Report()
    attempt = Attempt(
        run=gang.run,
        stage=gang.stage,
        number=gang.number,
        state=AttemptState.FAILED if lost else _state(gang, alive),
        disrupted=_taken_back(gang) or disrupted_by_others(gang.workload, gang.pods),
        whole=len(alive) == len(gang.pods),
        stepped=report.stepped,
        succeeding=gang.finished == "Complete" or bool(true_condition(gang.workload, "SuccessCriteriaMet")),
        started_at=_started_at(gang),
        reported_at=report.heard_at,
    )
    if attempt.state is not AttemptState.FAILED:
        return attempt
    cause = cause_of(gang.workload, gang.pods)
    return replace(attempt, exit_code=cause.exit_code, message=cause.message or report.error, disrupted=cause.disrupted)


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
    return going and disrupted_by_others(gang.workload, gang.pods)


def lost_at(gang: Gang) -> float | None:
    """When the first of its pods that are being deleted will count as lost."""
    moments = [_gone_by(pod) for pod in gang.pods if not has_ended(pod)]
    return min((moment for moment in moments if moment is not None), default=None)


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


def _controller(body: Object) -> str:
    owners = body["metadata"].get("ownerReferences") or []
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


def _is_first(pod: Object) -> bool:
    metadata = pod["metadata"]
    index = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
    return (
        index.get("batch.kubernetes.io/job-completion-index") == "0"
        or index.get("training.kubeflow.org/replica-type") == "master"
    )
