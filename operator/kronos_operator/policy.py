"""The administrator's policy: what a KronosModel may ask of the cluster. The reconciler checks it before any child."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kronos_operator.api import Resources, Spec
from kronos_trainer.config import Contract, Name

_Image = Annotated[str, Field(min_length=1, max_length=512)]


class Policy(Contract):
    """Limits that hold for every model. What is left out, or empty, is not limited."""

    allowed_image_prefixes: tuple[_Image, ...] = Field(
        (), description="Registries, repositories or images that spec.image may name; whole path segments count."
    )
    allowed_service_accounts: tuple[Name, ...] = Field(
        (), description="Service accounts that podTemplate.serviceAccountName may name."
    )
    allowed_priority_classes: tuple[Name, ...] = Field(
        (), description="Priority classes that podTemplate.priorityClassName may name."
    )
    max_nodes: int | None = Field(None, ge=1, description="Most nodes of a model.")
    max_gpus: int | None = Field(None, ge=0, description="Most GPUs of a model, over all nodes.")
    gang_start_seconds: int = Field(
        300,
        ge=10,
        le=86400,
        description="Seconds in which all pods of a model without a Kueue queue must find a place; then it gives back "
        "those that did, and waits for its turn.",
    )
    max_running: int | None = Field(
        None, ge=1, description="Most models without a Kueue queue that hold or look for places at the same time."
    )
    default_queue: str = Field(
        "", max_length=63, description="Kueue queue of models that name none by their label. Empty: no queue."
    )


def violations(spec: Spec, policy: Policy) -> list[str]:
    """What the spec asks for and the policy denies, each in a sentence with the way out; empty if all is allowed.

    An image that the spec does not name is the operator's default, which the administrator has chosen.
    """
    pods, found = spec.pod_template, []
    prefixes = policy.allowed_image_prefixes
    if spec.image is not None and prefixes and not any(_within(spec.image, prefix) for prefix in prefixes):
        found.append(f"image {spec.image} is not allowed: it must be from {_listed(prefixes)}")
    for field, value, allowed in (
        ("serviceAccountName", pods.service_account_name, policy.allowed_service_accounts),
        ("priorityClassName", pods.priority_class_name, policy.allowed_priority_classes),
    ):
        if value is not None and allowed and value not in allowed:
            found.append(f"podTemplate.{field} {value} is not allowed: leave it out, or name {_listed(allowed)}")
    nodes = spec.resources.nodes
    if policy.max_nodes is not None and nodes > policy.max_nodes:
        found.append(f"resources.nodes {nodes} is above the limit of {policy.max_nodes}")
    gpus = nodes * _gpus_per_node(spec.resources)
    if policy.max_gpus is not None and gpus > policy.max_gpus:
        found.append(f"{gpus} GPUs over all nodes are above the limit of {policy.max_gpus}")
    return found


def _within(image: str, prefix: str) -> bool:
    """Whether the image is the prefix or lies below it: `example.org/team` does not allow `example.org/team-b/x`."""
    rest = image.removeprefix(prefix)
    return image.startswith(prefix) and (not rest or prefix[-1] in "/:@" or rest[0] in "/:@")


def _gpus_per_node(resources: Resources) -> int:
    """GPUs of a pod, however they are asked for: slices of a GPU count as one each."""
    extended = (count for name, count in resources.extended.items() if "gpu" in name or "/mig-" in name)
    return resources.gpus_per_node + sum(extended)


def _listed(values: tuple[str, ...]) -> str:
    return " or ".join(values)
