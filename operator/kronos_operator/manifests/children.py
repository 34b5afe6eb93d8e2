"""The objects of one attempt: its run.json and, by backend, an indexed Job with its Service, or a PyTorchJob."""

from __future__ import annotations

from kronos_operator import names
from kronos_operator.api import Backend
from kronos_operator.manifests.environment import indexed_rendezvous
from kronos_operator.manifests.gang import Gang, Manifest
from kronos_operator.manifests.pod import pod_template
from kronos_trainer.config import FINAL_CODES, ExitCode

_PORT = "rendezvous"
_PYTORCHJOB_PORT = "pytorchjob-port"  # the name by which the training operator finds it

_FAIL_AT_ONCE = sorted(FINAL_CODES | {ExitCode.OUT_OF_MEMORY, ExitCode.MEMORY_LIMIT})


def children(gang: Gang) -> list[Manifest]:
    """All objects of the attempt, in the order in which they are to be created; they share one name."""
    if gang.model.spec.backend is Backend.PYTORCH_JOB:
        # The training operator makes its own Services.
        return [_config_map(gang), _pytorch_job(gang)]
    if gang.nodes == 1:
        return [_config_map(gang), _job(gang)]
    return [_config_map(gang), _service(gang), _job(gang)]


def _config_map(gang: Gang) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": gang.metadata(gang.labels),
        "immutable": True,
        "data": {names.RUN_CONFIG_FILE: gang.run_config.dump()},
    }


def _service(gang: Gang) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": gang.metadata(gang.labels),
        "spec": {
            "clusterIP": "None",
            # Nodes look for node 0 before it is ready.
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": gang.name},
            "ports": [{"name": _PORT, "port": names.MASTER_PORT}],
        },
    }


def _job(gang: Gang) -> Manifest:
    template = pod_template(gang, container=names.JOB_CONTAINER, rendezvous=indexed_rendezvous(gang), port_name=_PORT)
    if gang.nodes > 1:
        template["spec"]["subdomain"] = gang.name
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": gang.metadata(gang.workload_labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": gang.nodes,
            "parallelism": gang.nodes,
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
            **_deadline(gang),
            "template": template,
        },
    }


def _exit_codes(*codes: int) -> Manifest:
    return {"containerName": names.JOB_CONTAINER, "operator": "In", "values": [int(code) for code in codes]}


def _pytorch_job(gang: Gang) -> Manifest:
    def replicas(count: int) -> Manifest:
        # The training operator sets the PET_* variables by which the nodes find each other.
        template = pod_template(gang, container=names.PYTORCHJOB_CONTAINER, rendezvous={}, port_name=_PYTORCHJOB_PORT)
        return {"replicas": count, "restartPolicy": "Never", "template": template}

    workers = {"Worker": replicas(gang.nodes - 1)} if gang.nodes > 1 else {}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": gang.metadata(gang.workload_labels),
        "spec": {
            "nprocPerNode": str(gang.model.spec.resources.processes),
            # A backoffLimit would delete pods before their exit codes can be read; a failed worker alone would leave
            # the others waiting for it.
            # Nor has it a deadline: it would delete the pods and then say only that it failed. The operator keeps it.
            "runPolicy": {"cleanPodPolicy": "Running"},
            "pytorchReplicaSpecs": {"Master": replicas(1), **workers},
        },
    }


def _deadline(gang: Gang) -> Manifest:
    seconds = gang.model.spec.retry.max_runtime_seconds
    return {} if seconds is None else {"activeDeadlineSeconds": seconds}
