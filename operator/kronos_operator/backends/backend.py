"""All that distinguishes one kind of workload from another: how it is built, and how what it reports is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kronos_operator.kube.conditions import true_condition
from kronos_operator.kube.kinds import CONFIGMAP, SERVICE, Kind, Object
from kronos_operator.kube.owners import controller_of
from kronos_operator.manifests import AttemptTemplate, Manifest, attempt_config_map


class Owner(NamedTuple):
    """The workload that a pod belongs to, as the pod itself names it."""

    name: str
    uid: str


def controller_of_kind(kind: str, pod: Object) -> Owner | None:
    """The pod's controller if it is of this kind: the workload of most backends."""
    controller = controller_of(pod)
    return Owner(controller["name"], controller["uid"]) if controller.get("kind") == kind else None


def _no_exit_codes(message: str) -> list[int]:
    return []


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A kind of workload. What its functions get as `spec` is a workload's `spec`, or `kept` of it."""

    kind: Kind
    # What a user has to do where the cluster does not know the kind; empty for one that every cluster has.
    missing: str = ""

    # How it is built.
    container: str  # name of the trainer's container
    workload: Callable[[AttemptTemplate], Manifest]
    # The Service through which several nodes find each other; None where the workload's controller makes one.
    service: Callable[[AttemptTemplate], Manifest] | None = None

    # How its spec is read.
    kept: type  # a TypedDict of the part that the operator reads of a listing, and keeps in memory
    size: Callable[[Object], int]  # pods that it is to have
    suspended: Callable[[Object], bool]  # whether it waits to be admitted by a queue

    # How its pods are read. The controller of a pod need not be the workload.
    owner: Callable[[Object], Owner | None]  # None for a pod of another kind of workload
    node_rank: Callable[[Object], int]  # of a pod in its gang, 0 being the first
    # Whether a pod that was deleted is made anew, alone, so that the others wait for it in vain.
    remakes_pods: bool = False
    refused_reason: str  # of the Events that it gets when the API server refuses its pods

    # Types of the conditions that it reports: how it ended, and how it is about to end where it announces that.
    succeeded: str
    failed: str
    succeeding: str = ""
    failing: str = ""
    deadline_reason: str = ""  # of the failure of one that ran for longer than it may; empty if it has no deadline
    # What the message of a failure tells, for when the pods are gone: by these words that one of them was disrupted
    # (empty if it never says so), and the trainers' exit codes.
    disrupted: str = ""
    exit_codes: Callable[[str], list[int]] = _no_exit_codes

    def build(self, attempt: AttemptTemplate) -> list[Manifest]:
        """All objects of the attempt, in the order in which they are to be created; they share one name."""
        objects = [attempt_config_map(attempt)]
        if self.service is not None and attempt.resources.nodes > 1:
            objects.append(self.service(attempt))
        return [*objects, self.workload(attempt)]

    def needs(self, workload: Object) -> list[Kind]:
        """Kinds of the objects that `build` made beside the workload, without which its pods do not start or meet."""
        alone = self.service is None or self.size(workload["spec"]) < 2
        return [CONFIGMAP] if alone else [CONFIGMAP, SERVICE]

    def owns(self, workload: Object, pod: Object) -> bool:
        """Whether the pod is one of the workload's."""
        owner = self.owner(pod)
        return owner is not None and owner.uid == workload["metadata"]["uid"]

    def end(self, workload: Object) -> Object | None:
        """The condition by which the workload has ended; None while it has not."""
        return true_condition(workload, self.succeeded, self.failed)

    def failure(self, workload: Object) -> Object | None:
        """The condition by which the workload has failed, or is about to."""
        return true_condition(workload, self.failed, self.failing)
