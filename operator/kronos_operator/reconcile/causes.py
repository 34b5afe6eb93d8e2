"""Why a gang ended, from what its pods and its workload left behind. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kronos_operator.backends import BACKENDS, backend_of
from kronos_operator.kube.conditions import true_condition
from kronos_operator.kube.kinds import Object
from kronos_operator.reconcile.reports import read_report
from kronos_operator.reconcile.times import seconds_of
from kronos_trainer.config import ExitCode, gang_cause

LAST_WORDS = 2048  # bytes
_SIGTERM = 143  # the exit code of a trainer that was stopped before it could answer: nothing had begun


@dataclass(frozen=True, kw_only=True)
class Disruption:
    """What somebody else did to a gang: the reason in one CamelCase word, and the words of who did it."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Cause:
    """The one cause of a gang's end. `disruption` stands in for a failure where others are to blame."""

    exit_code: int | None
    message: str
    disruption: Disruption | None
    memory_killed: bool


def cause_of(workload: Object | None, pods: Sequence[Object]) -> Cause:
    """The cause of a gang that has failed."""
    ended = sorted((pod for pod in pods if _exit_code(pod) is not None), key=_ended_at)
    codes = [int(_terminated(pod)["exitCode"]) for pod in ended] or _reported_codes(workload)
    code = gang_cause(codes) or None
    killed = next((pod for pod in ended if _memory_killed(pod)), None)
    speaker = killed or next((pod for pod in ended if code is not None and _exit_code(pod) == code), None)
    message = _words(speaker, workload)
    disruption = disruption_of(workload, pods)
    if disruption is None and code in (ExitCode.STOPPED, _SIGTERM):
        reported = read_report(last_message(speaker or {}).splitlines()).cause
        disruption = Disruption(reason=reported or "Stopped", message=message)
    if disruption is None and not codes:
        turned_away = next((pod for pod in pods if _phase(pod) == "Failed"), None)
        # A kubelet that rejected the pod is no sign of how the training went.
        disruption = None if turned_away is None else _by_kubelet(turned_away)
    return Cause(exit_code=code, message=message, disruption=disruption, memory_killed=killed is not None)


def disruption_of(workload: Object | None, pods: Sequence[Object]) -> Disruption | None:
    """What others did: a pod was evicted, preempted or deleted, and not as a consequence of a failure.

    A controller deletes the pods that are left when one has failed, a moment before it reports that. Therefore a
    deletion counts only if it was asked for before any other pod had failed, to the second.
    """
    for pod in pods:
        target = true_condition(pod, "DisruptionTarget")
        if target is not None:
            words = (pod.get("status") or {}).get("message") or target.get("message") or ""
            return Disruption(reason=str(target.get("reason") or "Disrupted"), message=f"{_named(pod)}: {words}")
    if workload is not None:
        backend, told = backend_of(workload), _failure_message(workload)
        if backend.disrupted and backend.disrupted in told:
            return Disruption(reason="Disrupted", message=told)  # the pod may be gone, with its node
        if workload["metadata"].get("deletionTimestamp"):
            return None
    for pod in pods:
        asked = _deletion_asked_at(pod)
        others = [_ended_at(other) for other in pods if other is not pod and _exit_code(other) not in (None, 0)]
        if asked is not None and not _is_ending(workload, asked) and all(asked < moment for moment in others):
            return Disruption(reason="PodDeleted", message=f"{_named(pod)} was deleted")
    return None


def _by_kubelet(pod: Object) -> Disruption:
    status = pod.get("status") or {}
    words = status.get("message") or "the kubelet turned it away"
    return Disruption(reason=str(status.get("reason") or "PodFailed"), message=f"{_named(pod)}: {words}")


def _named(pod: Object) -> str:
    node = node_of(pod)
    name = str(pod["metadata"]["name"])
    return f"{name} on node {node}" if node else name


def node_of(pod: Object) -> str:
    """Name of the node that the pod was placed on; empty while it has none."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _memory_killed(pod: Object) -> bool:
    """Whether the kernel killed the container, or a rank of it, for lack of main memory."""
    if true_condition(pod, "DisruptionTarget"):
        return False  # the kubelet ended it for the sake of the node
    return _exit_code(pod) == ExitCode.MEMORY_LIMIT or _terminated(pod).get("reason") == "OOMKilled"


def overran(workload: Object | None) -> bool:
    """Whether the workload was ended because it ran for longer than it may."""
    if workload is None:
        return False
    backend = backend_of(workload)
    return bool(backend.deadline_reason) and (backend.failure(workload) or {}).get("reason") == backend.deadline_reason


def log_tail(pods: Sequence[Object], log: str) -> str | None:
    """The last lines that a person would read of a failed gang, at most 2 KiB."""
    texts = [log, *(str(_terminated(pod).get("message") or "") for pod in pods if _exit_code(pod) not in (None, 0))]
    text = next((text for text in texts if text.strip()), "")
    return text.strip().encode()[-LAST_WORDS:].decode(errors="ignore") or None


def has_ended(pod: Object) -> bool:
    """Whether nothing of the pod runs any more."""
    return _phase(pod) in ("Succeeded", "Failed")


def container_status(pod: Object) -> Object:
    """The status of the training container; empty while there is none."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    containers = {backend.container for backend in BACKENDS.values()}
    return next((status for status in statuses if status.get("name") in containers), {})


def last_message(pod: Object) -> str:
    """What the training container has left as its termination message; empty while it runs."""
    return str(_terminated(pod).get("message") or "")


def _terminated(pod: Object) -> Object:
    return (container_status(pod).get("state") or {}).get("terminated") or {}


def _exit_code(pod: Object) -> int | None:
    return _terminated(pod).get("exitCode")


def _ended_at(pod: Object) -> float:
    return seconds_of(_terminated(pod).get("finishedAt")) or float("inf")


def _deletion_asked_at(pod: Object) -> float | None:
    metadata = pod["metadata"]
    deleted = seconds_of(metadata.get("deletionTimestamp"))
    return None if deleted is None else deleted - (metadata.get("deletionGracePeriodSeconds") or 0)


def _is_ending(workload: Object | None, asked: float) -> bool:
    """Whether the workload had come to its end, or was put back into its queue, when a deletion was asked for."""
    if workload is None:
        return False
    backend = backend_of(workload)
    for kind in (backend.failing, backend.succeeding, backend.failed, backend.succeeded):
        found = true_condition(workload, kind)
        if found is not None and asked >= (seconds_of(found.get("lastTransitionTime")) or 0.0):
            return True
    return False


def _reported_codes(workload: Object | None) -> list[int]:
    """Exit codes that the workload's controller has written down, for when the pods are gone already."""
    if workload is None:
        return []
    return backend_of(workload).exit_codes(_failure_message(workload))


def _failure_message(workload: Object) -> str:
    """What its controller says of why it has failed; empty while it has not."""
    return str((backend_of(workload).failure(workload) or {}).get("message") or "")


def _words(pod: Object | None, workload: Object | None) -> str:
    if pod is not None:
        ended = _terminated(pod)
        text = str(ended.get("message") or "")
        report = read_report(text.splitlines())
        if ended.get("reason") == "OOMKilled" and ended.get("exitCode") != ExitCode.MEMORY_LIMIT:
            return ""  # the trainer knew only of a SIGKILL; plan knows the limit
        if report.error:
            return report.error
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
        if lines:
            return lines[-1].strip()[:500]
        return f"the trainer ended with exit code {ended.get('exitCode')}"
    failed = {} if workload is None else true_condition(workload, backend_of(workload).failed) or {}
    return str(failed.get("message", ""))[:500]


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))
