"""Settings of the pods: an allow-list, not a whole pod template. It never enters a hash.

A user who may write a KronosModel gets the operator's power to create pods, so host paths, privileges, volumes and
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
    """A key of a Secret in the model's namespace. The operator passes the reference on and never reads the Secret."""

    name: Name = Field(description="Name of the Secret.")
    key: SecretOrMapKey = Field(description="Key inside the Secret.")


class KeyRef(Contract):
    """A key of a Secret or ConfigMap in the model's namespace."""

    name: Name = Field(description="Name of the Secret or ConfigMap.")
    key: SecretOrMapKey = Field(description="Key inside the Secret or ConfigMap.")
    optional: bool = Field(False, description="Whether the Secret or ConfigMap, or its key, may be missing.")


class EnvSource(OneOf):
    """Source of a variable's value. Exactly one field is set."""

    secret_key_ref: KeyRef | None = Field(None, description="A key of a Secret.")
    config_map_key_ref: KeyRef | None = Field(None, description="A key of a ConfigMap.")


# Everybody who may read a KronosModel can read a value in it; a Secret has rights of its own.
_SECRET_NAME = "(?i)(key|secret|token|password|passwd|passphrase|connection_string)$"
_SECRET_ADVICE = (
    "a secret must come from a Secret: use valueFrom: {secretKeyRef: {name: ..., key: ...}} instead of value"
)


class EnvVar(Contract):
    """An environment variable of the training container."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!has(self.value) || !has(self.valueFrom)", "set value or valueFrom, not both"),
            (
                f"!self.name.matches('{_SECRET_NAME}') || (has(self.valueFrom) && has(self.valueFrom.secretKeyRef))",
                _SECRET_ADVICE,
            ),
        )
    )

    name: EnvName = Field(description="Name of the variable.")
    value: Annotated[str, Field(max_length=4096)] | None = Field(
        None, description="Literal value. Not allowed for names that suggest a secret, e.g. *_TOKEN."
    )
    value_from: EnvSource | None = Field(None, description="Source of the value, resolved when the pod starts.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.value is not None and self.value_from is not None:
            raise ValueError(f"{self.name}: set value or valueFrom, not both")
        return self

    @model_validator(mode="after")
    def _secret(self) -> Self:
        from_secret = self.value_from is not None and self.value_from.secret_key_ref is not None
        if re.search(_SECRET_NAME, self.name) and not from_secret:
            raise ValueError(f"{self.name}: {_SECRET_ADVICE}")
        return self


class Toleration(Contract):
    """A node taint that the pods tolerate."""

    key: LabelKey | None = Field(None, description="Taint key. If unset, with operator Exists, matches every taint.")
    operator: Literal["Exists", "Equal"] = Field(
        "Equal", description="Equal matches key and value; Exists matches any value of the key."
    )
    value: LabelValue | None = Field(None, description="Taint value, for operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint effect. If unset, matches every effect."
    )
    toleration_seconds: int | None = Field(
        None, ge=0, le=31536000, description="Seconds for which a NoExecute taint is tolerated. If unset, indefinitely."
    )


class TopologySpreadConstraint(Contract):
    """How pods are spread over topology domains."""

    max_skew: int = Field(
        ge=1, le=256, description="Maximum difference in the number of matching pods between any two domains."
    )
    topology_key: LabelKey = Field(description="Node label key. Nodes with equal values form one topology domain.")
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="Whether a pod that violates the constraint is left pending or scheduled anyway."
    )
    label_selector: LabelSelector | None = Field(None, description="Selects the pods to count.")
    min_domains: int | None = Field(None, ge=1, le=256, description="Minimum number of eligible domains.")
    node_affinity_policy: Literal["Honor", "Ignore"] | None = Field(
        None,
        description="Whether nodes excluded by affinity or nodeSelector are left out of the calculation. "
        "Defaults to Honor.",
    )
    node_taints_policy: Literal["Honor", "Ignore"] | None = Field(
        None, description="Whether nodes with untolerated taints are left out of the calculation. Defaults to Ignore."
    )
    match_label_keys: LabelKeys = Field([], description="Label keys whose values the counted pods share with this pod.")


class PullSecret(Contract):
    """A Secret with registry credentials."""

    name: Name = Field(description="Name of the Secret.")


class PodSecurity(Contract):
    """User and group ids of the pods, none of them root. The rest is fixed: no privileges, no capabilities."""

    run_as_user: Id | None = Field(
        None, description="User id of the processes; not 0. Defaults to the user of the image."
    )
    run_as_group: Id | None = Field(
        None, description="Group id of the processes; not 0. Defaults to the group of the image."
    )
    fs_group: Id | None = Field(None, description="Group id that owns the volumes, where the volume type supports it.")
    supplemental_groups: Annotated[list[Id], Field(max_length=16)] = Field(
        [], description="Additional group ids of the processes."
    )


def _listing(texts: tuple[str, ...]) -> str:
    return " or ".join(texts)


def _no_reserved_keys(of: str) -> JsonDict:
    free = " && ".join(f"!k.startsWith('{prefix}')" for prefix in RESERVED_LABEL_PREFIXES)
    return cel((f"self.all(k, {free})", f"{of} that start with {_listing(RESERVED_LABEL_PREFIXES)} are reserved"))


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

    labels: Labels = Field(
        {}, description="Additional labels of the pods.", json_schema_extra=_no_reserved_keys("labels")
    )
    annotations: Annotations = Field(
        {}, description="Additional annotations of the pods.", json_schema_extra=_no_reserved_keys("annotations")
    )
    node_selector: Labels = Field({}, description="Labels that a node must have to run the pods.")
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = Field(
        [], description="Node taints that the pods tolerate."
    )
    affinity: Affinity | None = Field(None, description="Affinity of the pods to nodes and to other pods.")
    topology_spread_constraints: Annotated[list[TopologySpreadConstraint], Field(max_length=8)] = Field(
        [], description="How pods are spread over topology domains."
    )
    scheduler_name: Name | None = Field(
        None, description="Scheduler of the pods. Defaults to the cluster's default scheduler."
    )
    runtime_class_name: Name | None = Field(None, description="RuntimeClass of the pods, e.g. nvidia.")
    priority_class_name: Name | None = Field(None, description="PriorityClass of the pods.")
    service_account_name: Name | None = Field(
        None,
        description="ServiceAccount of the pods, e.g. for access to an object store. Its API token is not mounted.",
    )
    image_pull_secrets: Annotated[list[PullSecret], Field(max_length=8)] = Field(
        [],
        description="Secrets with registry credentials for pulling the image.",
        json_schema_extra=_map_by_name(),
    )
    security_context: PodSecurity | None = Field(None, description="User and group ids of the pods.")
    env: Annotated[list[EnvVar], Field(max_length=64)] = Field(
        [],
        description="Additional environment variables of the training container.",
        json_schema_extra=_no_reserved_env(),
    )

    @model_validator(mode="after")
    def _free(self) -> Self:
        for key in [*self.labels, *self.annotations]:
            if key.startswith(RESERVED_LABEL_PREFIXES):
                raise ValueError(f"{key} is reserved: use a prefix other than {_listing(RESERVED_LABEL_PREFIXES)}")
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
