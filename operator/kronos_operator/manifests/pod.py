"""The pod template of a gang, the same for every backend. It passes Pod Security's `restricted` profile."""

from __future__ import annotations

from typing import Any

from kronos_operator import names
from kronos_operator.api import PodTemplate, Resources, Spec
from kronos_operator.manifests.attempt import AttemptTemplate, Manifest
from kronos_operator.manifests.environment import Variables, environment

COMMAND = ["python", "-m", "kronos_trainer", "launch", "--run", f"{names.RUN_CONFIG_MOUNT}/{names.RUN_CONFIG_FILE}"]

# Group of the volumes' files, so that a new volume, which is root's, can be written whatever the image's user is.
_VOLUME_GROUP = 1000

# A proxy beside the trainer would keep the pod from ending. Releases of Istio differ in which of the two they read.
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}

CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def pod_template(attempt: AttemptTemplate, *, container: str, rendezvous: Variables, port_name: str) -> Manifest:
    """The template. `container` names the training container, `port_name` the port on which node 0 listens."""
    spec, user = attempt.model.spec, attempt.model.spec.pod_template
    training = {
        "name": container,
        "image": spec.image or attempt.image,
        "command": COMMAND,
        "env": environment(attempt, rendezvous),
        "ports": [{"name": port_name, "containerPort": names.MASTER_PORT}],
        "resources": _resources(attempt.resources),
        "volumeMounts": _mounts(spec),
        # The trainer leaves its result or error as its last words; where it could not, its log has to do.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": CONTAINER_SECURITY,
    }
    return {
        "metadata": {
            "labels": user.labels | attempt.labels | NO_SIDECAR,
            "annotations": user.annotations | NO_SIDECAR,
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": attempt.run_config.grace_seconds,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # Else the trainer is process 1 of its container, to which the kernel delivers no SIGTERM before it has a
            # handler: a stop while Python itself starts would be lost, and the pod killed at the end of its grace
            # period. This way such a stop ends it at once, with 143, and nothing had begun. It works with any image,
            # also one without an init; there is no other container whose processes it would expose.
            "shareProcessNamespace": True,
            "securityContext": pod_security(user),
            **placement(user),
            "containers": [training],
            "volumes": _volumes(attempt),
        },
    }


def pod_security(template: PodTemplate) -> Manifest:
    """The identity of the pod's processes, never root."""
    security = template.security_context
    ids = {} if security is None else security.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {
        "runAsNonRoot": True,
        "fsGroup": _VOLUME_GROUP,
        # Large volumes are not walked through at each start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
        **ids,
    }


def placement(template: PodTemplate) -> Manifest:
    """Where and as whom the pods run: what the user's template has beyond what is merged elsewhere."""
    merged = {"labels", "annotations", "security_context", "env"}
    return template.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=merged)


def _resources(resources: Resources) -> Manifest:
    amounts: dict[str, str] = {name: str(count) for name, count in resources.extended.items()}
    if resources.gpus_per_node > 0:
        amounts[resources.gpu_resource_name] = str(resources.gpus_per_node)
    for name, amount in (("cpu", resources.cpu), ("memory", resources.memory)):
        if amount is not None:
            amounts[name] = amount
    return {"requests": amounts, "limits": amounts} if amounts else {}


def _mounts(spec: Spec) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "run", "mountPath": names.RUN_CONFIG_MOUNT, "readOnly": True},
        {"name": "scratch", "mountPath": names.SCRATCH_MOUNT},
        {"name": "shared-memory", "mountPath": names.SHARED_MEMORY_MOUNT},
    ]
    storage, bars = _claims(spec)
    if bars is not None:
        # A pod that mounts one claim as two volumes may never start.
        volume = "storage" if bars == storage else "bars"
        mounts.append({"name": volume, "mountPath": names.BARS_MOUNT, "readOnly": True})
    if storage is not None:
        mounts.append({"name": "storage", "mountPath": names.STORAGE_MOUNT})
    return mounts


def _volumes(attempt: AttemptTemplate) -> list[dict[str, Any]]:
    spec = attempt.model.spec
    size = attempt.resources.shared_memory
    memory = {"medium": "Memory"} | ({} if size is None else {"sizeLimit": size})
    volumes: list[dict[str, Any]] = [
        {"name": "run", "configMap": {"name": attempt.name}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": memory},
    ]
    storage, bars = _claims(spec)
    if bars is not None and bars != storage:
        volumes.append({"name": "bars", "persistentVolumeClaim": {"claimName": bars, "readOnly": True}})
    if storage is not None:
        volumes.append({"name": "storage", "persistentVolumeClaim": {"claimName": storage}})
    return volumes


def _claims(spec: Spec) -> tuple[str | None, str | None]:
    """Names of the claims with the results and with the bars."""
    storage = None if spec.storage is None else spec.storage.claim
    bars = spec.data.source.claim
    return None if storage is None else storage.name, None if bars is None else bars.name
