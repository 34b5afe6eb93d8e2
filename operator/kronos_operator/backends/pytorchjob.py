"""Kubeflow's PyTorchJob, whose controller, the training operator, makes the Services and sets how nodes meet."""

from __future__ import annotations

from functools import partial
from typing import Any

from typing_extensions import TypedDict

from kronos_operator.backends.backend import Backend, controller_of_kind
from kronos_operator.kube.kinds import Kind, Object
from kronos_operator.manifests import AttemptTemplate, Manifest, pod_template

_CONTAINER, _PORT = "pytorch", "pytorchjob-port"  # the names by which the training operator finds them
_REPLICA_TYPE, _REPLICA_INDEX = "training.kubeflow.org/replica-type", "training.kubeflow.org/replica-index"
_KIND = Kind(group="kubeflow.org", version="v1", plural="pytorchjobs", kind="PyTorchJob")


def _workload(attempt: AttemptTemplate) -> Manifest:
    def replicas(count: int) -> Manifest:
        # The training operator sets the PET_* variables by which the nodes find each other.
        template = pod_template(attempt, container=_CONTAINER, rendezvous={}, port_name=_PORT)
        return {"replicas": count, "restartPolicy": "Never", "template": template}

    workers = {"Worker": replicas(attempt.resources.nodes - 1)} if attempt.resources.nodes > 1 else {}
    return {
        "apiVersion": _KIND.api_version,
        "kind": _KIND.kind,
        "metadata": attempt.metadata(attempt.workload_labels),
        "spec": {
            "nprocPerNode": str(attempt.resources.processes),
            # A backoffLimit would delete pods before their exit codes can be read; a failed worker alone would leave
            # the others waiting for it.
            # Nor has it a deadline: it would delete the pods and report no more than a failure. The operator keeps it.
            "runPolicy": {"cleanPodPolicy": "Running"},
            "pytorchReplicaSpecs": {"Master": replicas(1), **workers},
        },
    }


class _Replicas(TypedDict, total=False):
    replicas: Any


class _Kept(TypedDict, total=False):
    runPolicy: Any
    pytorchReplicaSpecs: dict[str, _Replicas] | None


def _size(spec: Object) -> int:
    return sum(int(one.get("replicas", 1)) for one in (spec.get("pytorchReplicaSpecs") or {}).values())


def _node_rank(pod: Object) -> int:
    labels = pod["metadata"].get("labels") or {}
    return int(labels.get(_REPLICA_INDEX, 0)) + int(labels.get(_REPLICA_TYPE) != "master")


PYTORCH_JOB = Backend(
    kind=_KIND,
    missing="the cluster has no PyTorchJob: install the training operator, or set backend to Job",
    container=_CONTAINER,
    workload=_workload,
    kept=_Kept,
    size=_size,
    suspended=lambda spec: bool((spec.get("runPolicy") or {}).get("suspend")),
    owner=partial(controller_of_kind, _KIND.kind),
    node_rank=_node_rank,
    remakes_pods=True,
    refused_reason="FailedCreatePod",
    succeeded="Succeeded",
    failed="Failed",
)
