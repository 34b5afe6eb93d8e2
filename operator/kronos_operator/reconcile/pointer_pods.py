"""The pods that promote a run or roll back: what is there of them, how they are made, and how they go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from kronos_operator import names
from kronos_operator.api import KronosModel, Status
from kronos_operator.backends import backend_of, pointer_workload
from kronos_operator.kube import Cluster, Object
from kronos_operator.kube.owners import controller_of
from kronos_operator.manifests import PointerTemplate
from kronos_operator.plan import PointerPod, PointerRequest, Published, Verb
from kronos_operator.reconcile.actuator import Actuator
from kronos_operator.reconcile.causes import cause_of, has_ended, last_message
from kronos_operator.reconcile.gangs import ObservedWorkload, has_started
from kronos_operator.reconcile.times import created_at
from kronos_operator.settings import Settings
from kronos_operator.text import plain
from kronos_trainer.config import PointerEvent, StageName, parse_line

_LAG = 60.0  # seconds that a pod may be listed later than its workload


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """The objects of a model, those of requests apart from all others."""

    pointers: list[ObservedWorkload]
    workloads: list[Object]
    pods: list[Object]


def sort_out(uid: str, workloads: Iterable[Object], pods: Iterable[Object]) -> Sorted:
    """Tells what was made for requests of the model with this uid from what is of attempts, or of others."""
    pointers: dict[str, tuple[Object, list[Object]]] = {}
    others = Sorted(pointers=[], workloads=[], pods=[])
    for body in workloads:
        if _is_pointer(body, uid):
            pointers[body["metadata"]["uid"]] = (body, [])
        else:
            others.workloads.append(body)
    for pod in pods:
        owner, labels = controller_of(pod), pod["metadata"].get("labels") or {}
        if owner.get("uid") in pointers:
            pointers[owner["uid"]][1].append(pod)
        elif not names.is_command_name(owner.get("name", ""), labels):  # else its workload has just gone
            others.pods.append(pod)
    found = [ObservedWorkload(workload=body, pods=tuple(own)) for body, own in pointers.values()]
    return replace(others, pointers=found)


def _is_pointer(workload: Object, uid: str) -> bool:
    """Whether a workload was made for a request of the model with this uid: by its controller, and by its name."""
    metadata = workload["metadata"]
    return controller_of(workload).get("uid") == uid and names.is_command_name(
        metadata["name"], metadata.get("labels") or {}
    )


def pointer_pod_of(model: KronosModel, observed: ObservedWorkload, now: float) -> PointerPod:
    """The pod as plan sees it."""
    assert observed.workload is not None
    metadata = observed.workload["metadata"]
    verb = Verb(metadata["labels"][names.COMMAND_LABEL])
    text = (metadata.get("annotations") or {}).get(verb.annotation, "")
    request = PointerRequest(verb=verb, text=text, name=metadata["name"])
    pod = PointerPod(
        request=request,
        answered=text == answered(model).get(verb),
        created_at=created_at(observed.workload),
        started=any(has_started(pod) for pod in observed.pods),
        deleting=observed.deleting,
    )
    if not observed.finished or not all(has_ended(pod) for pod in observed.pods):
        return pod
    if not observed.pods and now < (observed.finished_at or now) + _LAG:
        return replace(pod, look_at=(observed.finished_at or now) + _LAG)  # a watch of pods may lag behind
    if observed.finished == "Complete":
        said = next((said for one in observed.pods if (said := _said(one)) is not None), None)
        if said is None:
            lost = f"its report was lost: see what `kronos {verb}` says when it is asked again"
            return replace(pod, ended=True, reason="ReportLost", message=lost)
        return replace(pod, ended=True, published=_published(said), message=_message(said))
    cause = cause_of(observed.workload, observed.pods)
    reason = "PodFailed" if cause.disruption is None else cause.disruption.reason
    message = cause.message if cause.disruption is None else cause.disruption.message
    return replace(pod, ended=True, reason=reason, message=message)


def answered(model: KronosModel) -> dict[Verb, str | None]:
    """The requests that were answered last."""
    tracking = (model.status or Status()).tracking
    return {Verb.PROMOTE: tracking.last_promote, Verb.ROLLBACK: tracking.last_rollback}


class PointerPods:
    """Makes and deletes them."""

    def __init__(self, cluster: Cluster, actuator: Actuator, settings: Settings) -> None:
        self._cluster = cluster
        self._actuator = actuator
        self._settings = settings

    async def start(self, model: KronosModel, request: PointerRequest) -> None:
        """Makes the pod, unless it is there. Raises Refused or Postponed where it cannot be made."""
        pointer = PointerTemplate(
            model=model,
            uid=model.metadata.uid or "",
            request=request,
            image=self._settings.default_image,
            published=(model.status or Status()).published_run,
        )
        await self._actuator.create(pointer_workload(pointer))

    async def delete(self, requests: Collection[str], observed: Iterable[ObservedWorkload]) -> None:
        """Deletes the pods of these requests."""
        for one in observed:
            assert one.workload is not None
            if one.workload["metadata"]["name"] in requests:
                await self._cluster.delete_exactly(backend_of(one.workload).kind, one.workload, "Foreground")


def _said(pod: Object) -> PointerEvent | None:
    """What the pod has left as its last words, if that names a run."""
    events = (event for line in last_message(pod).splitlines() for event in parse_line(line))
    return next((event for event in events if isinstance(event, PointerEvent) and event.run), None)


def _message(said: PointerEvent) -> str:
    return plain(said.message) or f"run {plain(said.run)} is published"


def _published(said: PointerEvent) -> Published:
    def known(texts: Mapping[str, str], longest: int) -> dict[StageName, str]:
        return {stage: plain(texts[stage])[:longest] for stage in StageName.with_weights() if texts.get(stage)}

    return Published(
        run=plain(said.run)[:128],
        previous=plain(said.previous)[:128],
        digests=known(said.digests, 128),
        hashes=known(said.hashes, 64),
        bytes={stage: said.bytes[stage] for stage in StageName.with_weights() if stage in said.bytes},
        through=known(said.data_through, 10),
    )
