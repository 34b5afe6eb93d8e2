"""A short pod for a command of a user: an idle trainer image with claims, in which `kronos` runs what it needs.

The operator does not take it for one of a model, and it passes Pod Security's `restricted` profile.
"""

from __future__ import annotations

from dataclasses import dataclass

from kronos_operator import names
from kronos_operator.api import PodTemplate
from kronos_operator.manifests.attempt import Manifest
from kronos_operator.manifests.pod import CONTAINER_SECURITY, NO_SIDECAR, placement, pod_security

CONTAINER = "kronos"
_NO_TEMPLATE = PodTemplate()
_GRACE_SECONDS = 1  # its process is a sleep, with nothing to save


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A claim and where the pod has it."""

    claim: str
    place: str
    read_only: bool


@dataclass(frozen=True, kw_only=True)
class Size:
    """What the pod asks for, and the most that it gets."""

    cpu: str
    memory: str
    most_cpu: str
    most_memory: str


@dataclass(frozen=True, kw_only=True)
class CommandPod:
    """What a command needs of its pod. `command` is one word of the user's, `seconds` the longest that it may live."""

    command: str
    image: str
    mount: Mount
    size: Size
    seconds: int
    template: PodTemplate = _NO_TEMPLATE


def command_pod(wanted: CommandPod, *, name: str, namespace: str) -> Manifest:
    """The pod; it ends by itself in time, should nobody delete it."""
    mount, size = wanted.mount, wanted.size
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {names.MANAGED_BY_LABEL: names.COMMAND_LINE, names.COMMAND_LABEL: wanted.command} | NO_SIDECAR,
            "annotations": NO_SIDECAR,
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": wanted.seconds,
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(wanted.template),
            **placement(wanted.template),
            "containers": [
                {
                    "name": CONTAINER,
                    "image": wanted.image,
                    "command": ["sleep", "infinity"],
                    "env": [
                        {"name": "HOME", "value": names.SCRATCH_MOUNT},
                        {"name": "USER", "value": "kronos"},
                        {"name": "CUDA_VISIBLE_DEVICES", "value": ""},
                        {"name": "OMP_NUM_THREADS", "value": size.most_cpu},
                    ],
                    "resources": {
                        "requests": {"cpu": size.cpu, "memory": size.memory},
                        "limits": {"cpu": size.most_cpu, "memory": size.most_memory},
                    },
                    "volumeMounts": [
                        {"name": "scratch", "mountPath": names.SCRATCH_MOUNT},
                        {"name": "claim", "mountPath": mount.place, "readOnly": mount.read_only},
                    ],
                    "securityContext": CONTAINER_SECURITY,
                }
            ],
            "volumes": [
                {"name": "scratch", "emptyDir": {}},
                {"name": "claim", "persistentVolumeClaim": {"claimName": mount.claim}},
            ],
        },
    }
