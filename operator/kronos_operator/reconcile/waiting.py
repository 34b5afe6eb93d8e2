"""Why nothing runs yet, with a message that names what has to change. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kronos_operator.backends import backend_of
from kronos_operator.kube.kinds import Object
from kronos_operator.plan import Obstacle
from kronos_operator.reconcile.gangs import ObservedWorkload
from kronos_operator.reconcile.kueue import Admission
from kronos_operator.reconcile.times import created_at, seconds_of

# Every pod is unscheduled for a moment; only what lasts is reported.
PATIENCE = 10.0

# The kubelet tries a mount again after two minutes at most, and says so each time.
_REPEATED = 180.0

_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CREATE_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_VOLUME_WORDS = ("persistentvolumeclaim", "volume node affinity", "PersistentVolume")


def why_waiting(
    gang: ObservedWorkload, events: Sequence[Object], admission: Admission | None, now: float
) -> Obstacle | None:
    """The reason, or None where there is none to tell. `events` regard the workload and its pods, in any order."""
    if gang.workload is None or gang.deleting or now - created_at(gang.workload) < PATIENCE:
        return None
    if gang.suspended:
        return _not_admitted(admission)
    for pod in gang.pods:
        obstacle = _unscheduled(pod) or _not_started(pod)
        if obstacle is not None:
            return obstacle
    return _from_events(gang, events, now)


def _unscheduled(pod: Object) -> Obstacle | None:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") != "PodScheduled" or condition.get("status") != "False":
            continue
        message = f"{pod['metadata']['name']}: {condition.get('message', '')}"
        if condition.get("reason") == "SchedulingGated":
            return Obstacle(reason="SchedulingGated", message=message)
        unbound = any(word in message for word in _VOLUME_WORDS)
        return Obstacle(reason="VolumeNotBound" if unbound else "Unschedulable", message=message)
    return None


def _not_started(pod: Object) -> Obstacle | None:
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        words = f"{pod['metadata']['name']}: {waiting.get('message') or reason}"
        if reason in _IMAGE_REASONS:
            return Obstacle(reason="ImageNotPulled", message=words)
        if reason in _CREATE_REASONS:
            return Obstacle(reason="ContainerNotCreated", message=words)
    return None


def _not_admitted(admission: Admission | None) -> Obstacle:
    words = "the queue has not admitted the workload"
    if admission is None:
        return Obstacle(reason="NotAdmitted", message=words)
    place = "" if admission.place is None else f"place {admission.place} in queue {admission.queue}: "
    return Obstacle(reason="NotAdmitted", message=f"{place}{admission.message or words}", place=admission.place)


def _from_events(gang: ObservedWorkload, events: Sequence[Object], now: float) -> Obstacle | None:
    refused = None if gang.workload is None else backend_of(gang.workload).refused_reason
    for event in events:
        reason, message = event.get("reason", ""), str(event.get("message") or event.get("note") or "")
        if reason == refused and gang.missing:
            over = "exceeded quota" in message
            return Obstacle(reason="QuotaExceeded" if over else "PodsRefused", message=message)
        if reason in ("FailedMount", "FailedAttachVolume") and now - _seen_at(event) <= _REPEATED:
            return Obstacle(reason="VolumeNotMounted", message=message)
    return None


def _seen_at(event: Object) -> float:
    """When it was seen last."""
    series = event.get("series") or {}
    moments = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((at for text in moments if (at := seconds_of(text)) is not None), created_at(event))
