"""An indexed Job, which every cluster has, with a headless Service for several nodes."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from typing_extensions import TypedDict

from kronos_operator import names
from kronos_operator.backends.backend import Backend, controller_of_kind
from kronos_operator.kube.kinds import Kind, Object
from kronos_operator.manifests import (
    AttemptTemplate,
    Manifest,
    PointerTemplate,
    Variables,
    pod_template,
    pointer_pod,
    values,
)
from kronos_trainer.config import FINAL_CODES, ExitCode

_CONTAINER = "trainer"
_PORT = "rendezvous"
_INDEX = "batch.kubernetes.io/job-completion-index"
_EXIT_CODE = re.compile(r"failed with exit code (\d+) matching")  # as the Job controller reports podFailurePolicy
_FAIL_AT_ONCE = sorted(FINAL_CODES | {ExitCode.OUT_OF_MEMORY, ExitCode.MEMORY_LIMIT})
_POINTER_SECONDS = 1800  # the longest that a promotion may take, its wait for a node and an image included
_KIND = Kind(group="batch", version="v1", plural="jobs", kind="Job")


def _workload(attempt: AttemptTemplate) -> Manifest:
    template = pod_template(attempt, container=_CONTAINER, rendezvous=_rendezvous(attempt), port_name=_PORT)
    if attempt.resources.nodes > 1:
        template["spec"]["subdomain"] = attempt.name
    return {
        "apiVersion": _KIND.api_version,
        "kind": _KIND.kind,
        "metadata": attempt.metadata(attempt.workload_labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": attempt.resources.nodes,
            "parallelism": attempt.resources.nodes,
            # One pod cannot rejoin a gang: any failure ends all of it, and the operator starts the next attempt.
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onExitCodes": _exit_codes(*_FAIL_AT_ONCE)},
                    {"action": "FailJob", "onExitCodes": _exit_codes(ExitCode.STOPPED)},
                    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            **_deadline(attempt),
            "template": template,
        },
    }


def pointer_workload(pointer: PointerTemplate) -> Manifest:
    """The Job of a promotion or rollback: one pod, once. Each cluster has Jobs, whatever trains the model.

    It names no queue: it is over before a place for a gang would be free.
    """
    return {
        "apiVersion": _KIND.api_version,
        "kind": _KIND.kind,
        "metadata": pointer.metadata(),
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": _POINTER_SECONDS,
            "template": pointer_pod(pointer, container=_CONTAINER),
        },
    }


def _service(attempt: AttemptTemplate) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": attempt.metadata(attempt.labels),
        "spec": {
            "clusterIP": "None",
            # Nodes look for node 0 before it is ready.
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": attempt.name},
            "ports": [{"name": _PORT, "port": names.MASTER_PORT}],
        },
    }


def _rendezvous(attempt: AttemptTemplate) -> Variables:
    """How the pods find each other: node 0 is always index 0."""
    return {
        **values(
            {
                "PET_NNODES": str(attempt.resources.nodes),
                "PET_NPROC_PER_NODE": str(attempt.resources.processes),
                "PET_MASTER_ADDR": f"{attempt.name}-0.{attempt.name}",
                "PET_MASTER_PORT": str(names.MASTER_PORT),
            }
        ),
        "PET_NODE_RANK": {"valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{_INDEX}']"}}},
    }


def _exit_codes(*codes: int) -> Manifest:
    return {"containerName": _CONTAINER, "operator": "In", "values": [int(code) for code in codes]}


def _deadline(attempt: AttemptTemplate) -> Manifest:
    seconds = attempt.model.spec.retry.max_runtime_seconds
    return {} if seconds is None else {"activeDeadlineSeconds": seconds}


class _Kept(TypedDict, total=False):
    suspend: Any
    parallelism: Any


def _node_rank(pod: Object) -> int:
    metadata = pod["metadata"]
    # Kubernetes before 1.28 sets the annotation alone.
    index = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
    return int(index.get(_INDEX, 0))


JOB = Backend(
    kind=_KIND,
    container=_CONTAINER,
    workload=_workload,
    service=_service,
    kept=_Kept,
    size=lambda spec: int(spec.get("parallelism", 0)),
    suspended=lambda spec: bool(spec.get("suspend")),
    owner=partial(controller_of_kind, _KIND.kind),
    node_rank=_node_rank,
    refused_reason="FailedCreate",
    succeeded="Complete",
    failed="Failed",
    succeeding="SuccessCriteriaMet",
    failing="FailureTarget",
    deadline_reason="DeadlineExceeded",
    disrupted="has condition DisruptionTarget",
    exit_codes=lambda message: [int(code) for code in _EXIT_CODE.findall(message)],
)
