"""What a user may say about the pods themselves: an allow-list, not a whole pod template. It never enters a hash.

Whoever may write a KronosModel gets the operator's power to create pods, so host paths, privileges, volumes and
containers are left out on purpose.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from kronos_operator.api.affinity import Affinity, LabelKey, LabelKeys, Labels, LabelSelector, LabelValue
from kronos_operator.names import RESERVED_ENV, RESERVED_ENV_PREFIXES, RESERVED_LABEL_PREFIXES
from kronos_trainer.config import Contract, Name, OneOf, cel

EnvName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
SecretOrMapKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Annotations = Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)]
Id = Annotated[int, Field(ge=1, le=2**31 - 1)]


class SecretKey(Contract):
    """One key of a Secret in the model's namespace. The operator refers to it and never reads it."""

    name: Name = Field(description="Name of the Secret.")
    key: SecretOrMapKey = Field(description="Key inside the Secret.")


class KeyRef(Contract):
    """One key of a Secret or ConfigMap in the model's namespace."""

    name: Name = Field(description="Name of the Secret or ConfigMap.")
    key: SecretOrMapKey = Field(description="Key inside it.")
    optional: bool = Field(False, description="Whether the pod starts without it.")


class EnvSource(OneOf):
    """Where a variable's value comes from. Exactly one field."""

    secret_key_ref: KeyRef | None = Field(None, description="A key of a Secret.")
    config_map_key_ref: KeyRef | None = Field(None, description="A key of a ConfigMap.")


# Everybody who may read a KronosModel reads a value in it; a Secret has rights of its own.
_SECRET_NAME = "(?i)(key|secret|token|password|passwd|passphrase|connection_string)$"
_SECRET_ADVICE = (
    "a variable with a secret comes from a Secret: valueFrom: {secretKeyRef: {name: ..., key: ...}} in place of value"
)


class EnvVar(Contract):
    """An environment variable of the training container."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!has(self.value) || !has(self.valueFrom)", "give value or valueFrom, not both"),
            (
                f"!self.name.matches('{_SECRET_NAME}') || (has(self.valueFrom) && has(self.valueFrom.secretKeyRef))",
                _SECRET_ADVICE,
            ),
        )
    )

    name: EnvName = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=4096)] | None = Field(None, description="Its value.")
    value_from: EnvSource | None = Field(None, description="Where its value is read from when the pod starts.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.value is not None and self.value_from is not None:
            raise ValueError(f"{self.name}: give value or valueFrom, not both")
        return self

    @model_validator(mode="after")
    def _secret(self) -> Self:
        from_secret = self.value_from is not None and self.value_from.secret_key_ref is not None
        if re.search(_SECRET_NAME, self.name) and not from_secret:
            raise ValueError(f"{self.name}: {_SECRET_ADVICE}")
        return self


class Toleration(Contract):
    """A taint that the pods put up with."""

    key: LabelKey | None = Field(None, description="Taint key. Absent, with operator Exists: every taint.")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="Whether the taint's value must be equal too.")
    value: LabelValue | None = Field(None, description="Taint value, for Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint effect. Absent: every effect."
    )
    toleration_seconds: int | None = Field(
        None, ge=0, le=31536000, description="Seconds that a NoExecute taint is put up with. Absent: for ever."
    )


class TopologySpreadConstraint(Contract):
    """How evenly pods are spread over places."""

    max_skew: int = Field(ge=1, le=256, description="Largest difference in number of pods between two places.")
    topology_key: LabelKey = Field(description="Node label; nodes with the same value count as one place.")
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="What to do when it cannot be met."
    )
    label_selector: LabelSelector | None = Field(None, description="The pods that are counted.")
    min_domains: int | None = Field(None, ge=1, le=256, description="Least number of places.")
    node_affinity_policy: Literal["Honor", "Ignore"] | None = Field(
        None, description="Whether nodes that the affinity excludes are left out of the count. Absent: Honor."
    )
    node_taints_policy: Literal["Honor", "Ignore"] | None = Field(
        None, description="Whether nodes with taints that are not tolerated are left out of the count. Absent: Ignore."
    )
    match_label_keys: LabelKeys = Field([], description="Labels in which the counted pods equal this one.")


class PullSecret(Contract):
    """A Secret with the registry's credentials."""

    name: Name = Field(description="Name of the Secret.")


class PodSecurity(Contract):
    """Ids under which the pods run, none of them root's. Everything else is fixed: no privileges, no capabilities."""

    run_as_user: Id | None = Field(None, description="User id of the processes, never 0. Absent: the image's.")
    run_as_group: Id | None = Field(None, description="Group id of the processes, never 0. Absent: the image's.")
    fs_group: Id | None = Field(None, description="Group id that owns the volumes, where the storage supports it.")
    supplemental_groups: Annotated[list[Id], Field(max_length=16)] = Field(
        [], description="More group ids of the processes."
    )


def _listing(texts: tuple[str, ...]) -> str:
    return " or ".join(texts)


def _no_reserved_keys(of: str) -> JsonDict:
    free = " && ".join(f"!k.startsWith('{prefix}')" for prefix in RESERVED_LABEL_PREFIXES)
    return cel(
        (f"self.all(k, {free})", f"{of} that start with {_listing(RESERVED_LABEL_PREFIXES)} are set by the system")
    )


def _no_reserved_env() -> JsonDict:
    free = " && ".join(f"!e.name.startsWith('{prefix}')" for prefix in RESERVED_ENV_PREFIXES)
    names = ", ".join(f"'{name}'" for name in RESERVED_ENV)
    reserved = ", ".join([f"{prefix}*" for prefix in RESERVED_ENV_PREFIXES] + list(RESERVED_ENV))
    rule = cel(
        (f"self.all(e, {free} && !(e.name in [{names}]))", f"{reserved} are set by the operator: leave them out")
    )
    return rule | _map_by_name()


def _map_by_name() -> JsonDict:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class PodTemplate(Contract):
    """Labels, scheduling, identity and environment of every pod."""

    labels: Labels = Field({}, description="More labels of the pods.", json_schema_extra=_no_reserved_keys("labels"))
    annotations: Annotations = Field(
        {}, description="More annotations of the pods.", json_schema_extra=_no_reserved_keys("annotations")
    )
    node_selector: Labels = Field({}, description="Labels that a node must have.")
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = Field(
        [], description="Taints that are put up with."
    )
    affinity: Affinity | None = Field(None, description="Where pods may run, relative to nodes and to other pods.")
    topology_spread_constraints: Annotated[list[TopologySpreadConstraint], Field(max_length=8)] = Field(
        [], description="How evenly pods are spread over places."
    )
    scheduler_name: Name | None = Field(
        None, description="Scheduler that places the pods. Absent: the cluster's default."
    )
    runtime_class_name: Name | None = Field(None, description="RuntimeClass of the pods, e.g. nvidia.")
    priority_class_name: Name | None = Field(None, description="PriorityClass of the pods.")
    service_account_name: Name | None = Field(
        None, description="ServiceAccount of the pods, e.g. for access to an object store. Its token is not mounted."
    )
    image_pull_secrets: Annotated[list[PullSecret], Field(max_length=8)] = Field(
        [],
        description="Secrets for pulling the image.",
        json_schema_extra=_map_by_name(),
    )
    security_context: PodSecurity | None = Field(None, description="Ids under which the pods run.")
    env: Annotated[list[EnvVar], Field(max_length=64)] = Field(
        [], description="More environment variables of the training container.", json_schema_extra=_no_reserved_env()
    )

    @model_validator(mode="after")
    def _free(self) -> Self:
        for key in [*self.labels, *self.annotations]:
            if key.startswith(RESERVED_LABEL_PREFIXES):
                raise ValueError(
                    f"{key} is set by the system: choose another prefix than {_listing(RESERVED_LABEL_PREFIXES)}"
                )
        names = [variable.name for variable in self.env]
        for name in names:
            if name.startswith(RESERVED_ENV_PREFIXES) or name in RESERVED_ENV:
                raise ValueError(f"the environment variable {name} is set by the operator: leave it out")
            if names.count(name) > 1:
                raise ValueError(f"the environment variable {name} is given twice")
        secrets = [secret.name for secret in self.image_pull_secrets]
        for name in secrets:
            if secrets.count(name) > 1:
                raise ValueError(f"the image pull secret {name} is given twice")
        return self
