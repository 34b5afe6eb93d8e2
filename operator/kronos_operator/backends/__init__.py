"""The kinds of workload that run a gang. A new one is a module beside this one and a row of the table.

Nothing outside this package knows what distinguishes one from another.
"""

from __future__ import annotations

from collections.abc import Mapping

from kronos_operator import names
from kronos_operator.api import BackendName
from kronos_operator.backends.backend import Backend, Owner
from kronos_operator.backends.job import JOB
from kronos_operator.backends.job import pointer_workload as pointer_workload
from kronos_operator.backends.pytorchjob import PYTORCH_JOB
from kronos_operator.kube.kinds import Object

__all__ = ["BACKENDS", "Backend", "Owner", "backend_of", "backend_of_pod", "node_rank", "pointer_workload"]

BACKENDS: Mapping[BackendName, Backend] = {
    BackendName.JOB: JOB,
    BackendName.PYTORCH_JOB: PYTORCH_JOB,
}


def backend_of(workload: Object) -> Backend:
    """The backend that a workload is of."""
    return next(backend for backend in BACKENDS.values() if backend.kind.kind == workload["kind"])


def backend_of_pod(pod: Object) -> Backend | None:
    """The backend that made the pod of an attempt, whether or not its workload still exists; None for other pods.

    The workload that the pod names must have the name of the attempt that the pod's labels name: a pod that somebody
    copied carries these labels too.
    """
    labels = pod["metadata"].get("labels") or {}
    for backend in BACKENDS.values():
        owner = backend.owner(pod)
        if owner is not None and names.is_attempt_name(owner.name, labels):
            return backend
    return None


def node_rank(pod: Object) -> int | None:
    """The rank of the pod among those of its gang, 0 being the first; None for a pod of no attempt."""
    backend = backend_of_pod(pod)
    return None if backend is None else backend.node_rank(pod)
