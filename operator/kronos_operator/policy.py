"""The administrator's policy: what KronosModels may request. The reconciler checks it before it creates children."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from kronos_operator import injection
from kronos_operator.api import Quantity, Resources, Spec, quantity
from kronos_operator.api.affinity import Labels
from kronos_trainer.config import Contract, Name

_Image = Annotated[str, Field(min_length=1, max_length=512)]
_EnvPattern = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*\*?$")]
_KeyPattern = Annotated[str, Field(max_length=317, pattern=r"^[A-Za-z0-9][-A-Za-z0-9_./]*\*?$")]

_OR_USE = "remove it, or use"


class Policy(Contract):
    """Limits for every model. A value that is unset or empty sets no limit."""

    allowed_image_prefixes: tuple[_Image, ...] = Field(
        (),
        description="Registries, repositories or images allowed in spec.image, by whole path segments. If set, "
        "podTemplate may contain no variable, label or annotation of kronos_operator.injection.",
    )
    allowed_env: tuple[_EnvPattern, ...] = Field(
        (), description="Exceptions for variables in podTemplate.env; a trailing * matches any suffix."
    )
    allowed_annotations: tuple[_KeyPattern, ...] = Field(
        (), description="Exceptions for label and annotation keys in podTemplate; a trailing * matches any suffix."
    )
    allowed_service_accounts: tuple[Name, ...] = Field(
        (), description="Service accounts allowed in podTemplate.serviceAccountName."
    )
    allowed_priority_classes: tuple[Name, ...] = Field(
        (), description="Priority classes allowed in podTemplate.priorityClassName."
    )
    allowed_claims: tuple[Name, ...] = Field((), description="Claims allowed in data.source.claim and storage.claim.")
    allowed_secrets: tuple[Name, ...] = Field(
        (), description="Secrets allowed in env, hubTokenSecret, comet.apiKeySecret and imagePullSecrets."
    )
    required_node_selector: Labels = Field(
        {}, description="Labels, with their values, that every podTemplate.nodeSelector must contain."
    )
    max_nodes: int | None = Field(None, ge=1, description="Maximum nodes per model.")
    max_gpus: int | None = Field(None, ge=0, description="Maximum GPUs per model, over all nodes.")
    max_cpu_per_node: Quantity | None = Field(None, description="Maximum CPU cores per pod; models must then set cpu.")
    max_memory_per_node: Quantity | None = Field(
        None, description="Maximum memory per pod; models must then set memory."
    )
    gang_start_seconds: int = Field(
        300,
        ge=10,
        le=86400,
        description="Seconds in which all pods of a model without a Kueue queue must be scheduled; otherwise it "
        "releases those that were, and waits for its turn.",
    )
    max_running: int | None = Field(
        None, ge=1, description="Maximum models without a Kueue queue that hold or request resources at the same time."
    )
    default_queue: str = Field(
        "", max_length=63, description="Kueue queue of models without a queue label. Empty: no queue."
    )


def violations(spec: Spec, policy: Policy) -> list[str]:
    """Each violation of the policy by the spec, as a sentence with the fix; empty if there is none.

    The operator's default image is always allowed, since the administrator has chosen it.
    """
    return [*_images(spec, policy), *_names(spec, policy), *_places(spec, policy), *_sizes(spec.resources, policy)]


def _images(spec: Spec, policy: Policy) -> Iterator[str]:
    """Code that does not come from an allowed image."""
    prefixes, pods = policy.allowed_image_prefixes, spec.pod_template
    if not prefixes:
        return
    if spec.image is not None and not any(_within(spec.image, prefix) for prefix in prefixes):
        yield f"image {spec.image} is not allowed: it must be from {_listed(prefixes)}"
    env, keys = (
        (injection.ENV, "allowedEnv", policy.allowed_env),
        (injection.KEYS, "allowedAnnotations", policy.allowed_annotations),
    )
    for what, where, names, (patterns, option, allowed) in (
        ("variable", "env", [one.name for one in pods.env], env),
        ("label", "labels", pods.labels, keys),
        ("annotation", "annotations", pods.annotations, keys),
    ):
        for name in injection.denied(names, patterns, allowed):
            yield (
                f"the {what} {name} in podTemplate.{where} is not allowed, since it can bring code or devices into the "
                f"pod: remove it, or ask the administrator to add it to policy.{option}"
            )


def _names(spec: Spec, policy: Policy) -> Iterator[str]:
    """Objects that the pods use."""
    pods, storage, comet = spec.pod_template, spec.storage, spec.comet
    refs = {
        "hubTokenSecret": spec.hub_token_secret,
        "comet.apiKeySecret": comet and comet.api_key_secret,
        **{
            f"podTemplate.env {one.name} from Secret": one.value_from and one.value_from.secret_key_ref
            for one in pods.env
        },
    }
    claims = (("data.source.claim", spec.data.source.claim), ("storage.claim", storage and storage.claim))
    secrets = [(field, ref and ref.name) for field, ref in refs.items()]
    secrets += [("podTemplate.imagePullSecrets", one.name) for one in pods.image_pull_secrets]
    for used, allowed, way_out in (
        ([("podTemplate.serviceAccountName", pods.service_account_name)], policy.allowed_service_accounts, _OR_USE),
        ([("podTemplate.priorityClassName", pods.priority_class_name)], policy.allowed_priority_classes, _OR_USE),
        ([(field, claim and claim.name) for field, claim in claims], policy.allowed_claims, "use"),
        (secrets, policy.allowed_secrets, _OR_USE),
    ):
        for field, name in used:
            if name is not None and allowed and name not in allowed:
                yield f"{field} {name} is not allowed: {way_out} {_listed(allowed)}"


def _places(spec: Spec, policy: Policy) -> Iterator[str]:
    """Required node labels. The kubelet, too, rejects a pod whose nodeSelector its node does not match."""
    given = spec.pod_template.node_selector
    for key, value in policy.required_node_selector.items():
        if given.get(key) != value:
            yield f"podTemplate.nodeSelector must have {key}: {value!r}; found {given.get(key, 'none')!r}"


def _sizes(resources: Resources, policy: Policy) -> Iterator[str]:
    """Amounts above a limit."""
    nodes = resources.nodes
    if policy.max_nodes is not None and nodes > policy.max_nodes:
        yield f"resources.nodes {nodes} is above the limit of {policy.max_nodes}"
    gpus = nodes * _gpus_per_node(resources)
    if policy.max_gpus is not None and gpus > policy.max_gpus:
        yield f"{gpus} GPUs over all nodes are above the limit of {policy.max_gpus}"
    for field, asked, most in (
        ("cpu", resources.cpu, policy.max_cpu_per_node),
        ("memory", resources.memory, policy.max_memory_per_node),
    ):
        if most is not None and asked is None:
            yield f"resources.{field} is required, or a pod could use all of its node: set at most {most}"
        elif most is not None and asked is not None and quantity(asked) > quantity(most):
            yield f"resources.{field} {asked} is above the limit of {most} per node"


def _within(image: str, prefix: str) -> bool:
    """Whether the image is the prefix or lies below it: `example.org/team` does not allow `example.org/team-b/x`.

    After a colon comes a tag, in which there is no slash: `example.org` does not allow `example.org:5000/x`, since
    another port is another registry.
    """
    rest = image.removeprefix(prefix)
    if not image.startswith(prefix) or not {"", ".", ".."}.isdisjoint(image.split("/")):
        return False
    if not rest or prefix.endswith("/"):
        return True
    if prefix[-1] in ":@":
        return "/" not in rest
    return rest[0] in "/@" or (rest[0] == ":" and "/" not in rest)


def _gpus_per_node(resources: Resources) -> int:
    """GPUs of a pod, however they are requested: each slice of a GPU counts as one."""
    extended = (count for name, count in resources.extended.items() if "gpu" in name or "/mig-" in name)
    return resources.gpus_per_node + sum(extended)


def _listed(values: Iterable[str]) -> str:
    return " or ".join(values)
