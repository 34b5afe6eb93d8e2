"""One attempt at a stage: what all of its objects are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from kronos_operator import names
from kronos_operator.api import KronosModel, Resources, Spec, Storage
from kronos_operator.plan import StartAttempt
from kronos_trainer.config import RunConfig, Source

Manifest = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class AttemptTemplate:
    """What the objects of one attempt are built from.

    `model` has the training part that was frozen when the run began, `uid` is that of the live object, `image` stands
    in where the model names none, and so does `default_queue` for Kueue's queue label; empty means no queue.
    """

    model: KronosModel
    uid: str
    start: StartAttempt
    image: str
    default_queue: str = ""

    @property
    def name(self) -> str:
        """Name of every object of the attempt."""
        start = self.start
        return names.child_name(self.model.metadata.name, start.stage, start.stage_hashes[start.stage], start.attempt)

    @property
    def resources(self) -> Resources:
        """Number of pods of the gang, one on each node, and what each gets."""
        return self.model.spec.resources.of_stage(self.start.stage)

    @property
    def labels(self) -> dict[str, str]:
        """Labels of every object and pod of the attempt."""
        return {
            **run_labels(self.model, self.start.run),
            names.STAGE_LABEL: self.start.stage.value,
            names.ATTEMPT_LABEL: str(self.start.attempt),
        }

    @property
    def workload_labels(self) -> dict[str, str]:
        """Labels of the workload: it alone names the queue, for Kueue would queue labelled pods one by one."""
        queue = queue_of(self.model, self.default_queue)
        return self.labels | ({names.QUEUE_LABEL: queue} if queue else {})

    @property
    def run_config(self) -> RunConfig:
        """run.json. Raises ValueError for paths on a user's machine, which `local_paths` names."""
        spec = self.model.spec
        return self.start.run_config(
            self.model,
            bars=place_in_pod(spec.data.source, names.BARS_MOUNT),
            output=place_in_pod(spec.storage, names.STORAGE_MOUNT),
            gpu_required=self.resources.gpus_per_node > 0,
        )

    def metadata(self, labels: Mapping[str, str]) -> Manifest:
        """Metadata of an object of the attempt."""
        return owned(self.model, self.uid, self.name, labels)


def attempt_config_map(attempt: AttemptTemplate) -> Manifest:
    """The ConfigMap with the attempt's run.json."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": attempt.metadata(attempt.labels),
        "immutable": True,
        "data": {names.RUN_CONFIG_FILE: attempt.run_config.dump()},
    }


def queue_of(model: KronosModel, default: str) -> str:
    """The Kueue queue that the model waits in: the one that it names, else the default; empty means none."""
    return model.metadata.labels.get(names.QUEUE_LABEL) or default


def local_paths(spec: Spec) -> list[str]:
    """Fields that name a path on a user's machine, which no pod can reach."""
    places = {"data.source": spec.data.source, "storage": spec.storage}
    return [f"{field}.path" for field, place in places.items() if place is not None and place.path is not None]


def run_labels(model: KronosModel, run: str) -> dict[str, str]:
    """Labels of everything that belongs to a run."""
    return {**model_labels(model), names.RUN_LABEL: run}


def model_labels(model: KronosModel) -> dict[str, str]:
    """Labels of everything that the operator makes for a model."""
    return {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.MODEL_LABEL: model.metadata.name}


def owned(model: KronosModel, uid: str, name: str, labels: Mapping[str, str]) -> Manifest:
    """Metadata of an object that goes when its KronosModel goes.

    The reference does not block the owner's deletion: that takes a permission on the owner's finalizers, for nothing.
    """
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": model.metadata.name, "uid": uid}
    return {
        "name": name,
        "namespace": model.metadata.namespace,
        "labels": dict(labels),
        "ownerReferences": [owner | {"controller": True}],
    }


def place_in_pod(place: Source | Storage | None, mount: str) -> str:
    """Where the trainer finds what lies on a claim or behind a URI.

    The whole volume is mounted: a subPath that does not exist would hold the pod back instead of failing with a reason.
    """
    if place is not None and place.claim is not None:
        return str(PurePosixPath(mount) / (place.claim.path or "").lstrip("/"))
    if place is not None and place.uri is not None:
        return place.uri
    raise ValueError("a pod cannot reach a path on a user's machine: name a claim or a URI")
