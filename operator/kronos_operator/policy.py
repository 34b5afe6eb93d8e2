"""The administrator's policy: what a KronosModel may ask of the cluster. The reconciler checks it before any child."""

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

_OR_NAME = "leave it out, or name"


class Policy(Contract):
    """Limits that hold for every model. What is left out, or empty, is not limited."""

    allowed_image_prefixes: tuple[_Image, ...] = Field(
        (),
        description="Registries, repositories or images that spec.image may name; whole path segments count. If set, "
        "podTemplate may name no variable, label or annotation of kronos_operator.injection.",
    )
    allowed_env: tuple[_EnvPattern, ...] = Field(
        (), description="Variables that podTemplate.env may name all the same; a * at the end stands for any rest."
    )
    allowed_annotations: tuple[_KeyPattern, ...] = Field(
        (), description="Keys of labels and annotations that podTemplate may name all the same; with * as above."
    )
    allowed_service_accounts: tuple[Name, ...] = Field(
        (), description="Service accounts that podTemplate.serviceAccountName may name."
    )
    allowed_priority_classes: tuple[Name, ...] = Field(
        (), description="Priority classes that podTemplate.priorityClassName may name."
    )
    allowed_claims: tuple[Name, ...] = Field(
        (), description="Claims that data.source.claim and storage.claim may name."
    )
    allowed_secrets: tuple[Name, ...] = Field(
        (), description="Secrets that env, hubTokenSecret, comet.apiKeySecret and imagePullSecrets may name."
    )
    required_node_selector: Labels = Field(
        {}, description="Labels, with their values, that every model's podTemplate.nodeSelector must name."
    )
    max_nodes: int | None = Field(None, ge=1, description="Most nodes of a model.")
    max_gpus: int | None = Field(None, ge=0, description="Most GPUs of a model, over all nodes.")
    max_cpu_per_node: Quantity | None = Field(None, description="Most CPU cores of a pod; each model must name some.")
    max_memory_per_node: Quantity | None = Field(None, description="Most memory of a pod; each model must name some.")
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
    return [*_images(spec, policy), *_names(spec, policy), *_places(spec, policy), *_sizes(spec.resources, policy)]


def _images(spec: Spec, policy: Policy) -> Iterator[str]:
    """Code that is not of an allowed image."""
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
                f"pod: leave it out, or have the administrator name it in policy.{option}"
            )


def _names(spec: Spec, policy: Policy) -> Iterator[str]:
    """Objects of the cluster that the pods would use."""
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
        ([("podTemplate.serviceAccountName", pods.service_account_name)], policy.allowed_service_accounts, _OR_NAME),
        ([("podTemplate.priorityClassName", pods.priority_class_name)], policy.allowed_priority_classes, _OR_NAME),
        ([(field, claim and claim.name) for field, claim in claims], policy.allowed_claims, "name"),
        (secrets, policy.allowed_secrets, _OR_NAME),
    ):
        for field, name in used:
            if name is not None and allowed and name not in allowed:
                yield f"{field} {name} is not allowed: {way_out} {_listed(allowed)}"


def _places(spec: Spec, policy: Policy) -> Iterator[str]:
    """Nodes on which the pods could run. The kubelet too refuses a pod whose nodeSelector its node does not meet."""
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
            yield f"resources.{field} is absent, which would let a pod use all of its node: give it, at most {most}"
        elif most is not None and asked is not None and quantity(asked) > quantity(most):
            yield f"resources.{field} {asked} is above the limit of {most} for each node"


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
    """GPUs of a pod, however they are asked for: slices of a GPU count as one each."""
    extended = (count for name, count in resources.extended.items() if "gpu" in name or "/mig-" in name)
    return resources.gpus_per_node + sum(extended)


def _listed(values: Iterable[str]) -> str:
    return " or ".join(values)
