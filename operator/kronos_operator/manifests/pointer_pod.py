"""The pod of a promotion or a rollback: a short trainer process, without a GPU, that names another run as published.

It sees the model's results and no bars, holds the model's lock while it works, and passes Pod Security's `restricted`
profile.
"""

from __future__ import annotations

from dataclasses import dataclass

from kronos_operator import names
from kronos_operator.api import KronosModel
from kronos_operator.manifests.attempt import Manifest, model_labels, owned, place_in_pod
from kronos_operator.manifests.environment import command_environment
from kronos_operator.manifests.pod import CONTAINER_SECURITY, NO_SIDECAR, placement, pod_security
from kronos_operator.plan import PointerRequest, Verb

# It moves a few small files, but imports what reads them.
_RESOURCES: Manifest = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "2Gi"}}


@dataclass(frozen=True, kw_only=True)
class PointerTemplate:
    """What the objects of one request are built from.

    `uid` is that of the live object, `image` stands in where the model names none, and `published` is the run that is
    published as far as the operator knows; empty means none.
    """

    model: KronosModel
    uid: str
    request: PointerRequest
    image: str
    published: str

    @property
    def labels(self) -> dict[str, str]:
        """Labels of every object of the request: those of no run, and so of no attempt."""
        return {**model_labels(self.model), names.COMMAND_LABEL: self.request.verb.value}

    def metadata(self) -> Manifest:
        """Metadata of an object of the request."""
        request = {self.request.verb.annotation: self.request.text}  # its annotation, for when that has changed
        return owned(self.model, self.uid, self.request.name, self.labels) | {"annotations": request}


def pointer_pod(pointer: PointerTemplate, *, container: str) -> Manifest:
    """The pod template. Raises ValueError for results on a user's machine."""
    spec, user = pointer.model.spec, pointer.model.spec.pod_template
    mounts = [{"name": "scratch", "mountPath": names.SCRATCH_MOUNT}]
    volumes: list[Manifest] = [{"name": "scratch", "emptyDir": {}}]
    if spec.storage is not None and spec.storage.claim is not None:
        mounts.append({"name": "storage", "mountPath": names.STORAGE_MOUNT})
        volumes.append({"name": "storage", "persistentVolumeClaim": {"claimName": spec.storage.claim.name}})
    return {
        "metadata": {
            "labels": user.labels | pointer.labels | NO_SIDECAR,
            "annotations": user.annotations | NO_SIDECAR,
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(user),
            **placement(user),
            "containers": [
                {
                    "name": container,
                    "image": spec.image or pointer.image,
                    "command": _command(pointer),
                    "env": command_environment(spec),
                    "resources": _RESOURCES,
                    "volumeMounts": mounts,
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": CONTAINER_SECURITY,
                }
            ],
            "volumes": volumes,
        },
    }


def _command(pointer: PointerTemplate) -> list[str]:
    model, request = pointer.model, pointer.request
    root = place_in_pod(model.spec.storage, names.STORAGE_MOUNT)
    command = ["python", "-m", "kronos_trainer.promotion", request.verb.value, f"--root={root}"]
    command += [f"--namespace={model.metadata.namespace}", f"--model={model.metadata.name}"]
    if request.run:
        command.append(f"--run={request.run}")
    if request.verb is Verb.ROLLBACK and pointer.published:
        # A pod that runs again, since its first report was lost, must not go back once more.
        command.append(f"--published={pointer.published}")
    return command
