"""Number of pods and the resources of each: `spec.resources` of a KronosModel."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Self

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from kronos_trainer.config import Contract, StageName, cel

_UNITS = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(["k", "M", "G", "T", "P"], start=1)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi"], start=1)},
}
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
_QUANTITY_LENGTH = 32
_RESOURCE_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


def quantity(text: str) -> Decimal:
    """Value of a Kubernetes quantity in cores or bytes: quantity("500m") is 0.5, quantity("2Ki") is 2048."""
    number = text.rstrip("mkKMGTPi")
    return Decimal(number) * _UNITS[text[len(number) :]]


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# Kubernetes takes `cpu: 4` as well as `cpu: "4"`.
Quantity = Annotated[
    str,
    Field(max_length=_QUANTITY_LENGTH, pattern=_QUANTITY),
    BeforeValidator(_as_text),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": _QUANTITY, "maxLength": _QUANTITY_LENGTH}),
]
ResourceName = Annotated[str, Field(min_length=3, max_length=256, pattern=_RESOURCE_NAME)]


def _positive(name: str) -> tuple[str, str]:
    rule = f"!has(self.{name}) || quantity(string(self.{name})).isGreaterThan(quantity('0'))"
    return rule, f"{name} must be greater than 0"


_RULES = cel(
    _positive("cpu"),
    _positive("memory"),
    _positive("sharedMemory"),
    (
        "!has(self.memory) || !has(self.sharedMemory) || "
        "quantity(string(self.sharedMemory)).compareTo(quantity(string(self.memory))) <= 0",
        "sharedMemory counts against memory and must not exceed it",
    ),
    (
        "!has(self.extended) || !(self.gpuResourceName in self.extended)",
        "set GPUs with gpusPerNode, not in extended",
    ),
)


class Resources(Contract):
    """Number of pods and the resources of each."""

    model_config = ConfigDict(json_schema_extra=_RULES)

    nodes: int = Field(
        1, ge=1, le=256, description="Number of pods; the scheduler picks their nodes. Always 1 in local runs."
    )
    gpus_per_node: int = Field(
        1,
        ge=0,
        le=64,
        description="GPUs per pod; 0 trains on CPU. In local runs an upper limit: with fewer GPUs, or none, "
        "training still runs.",
    )
    gpu_resource_name: ResourceName = Field("nvidia.com/gpu", description="Extended resource name of the GPUs.")
    processes_per_node: int | None = Field(
        None, ge=1, le=64, description="Training processes per pod. Defaults to one per GPU, or one without GPUs."
    )
    cpu: Quantity | None = Field(None, description="CPU cores per pod, set as request and limit, e.g. 8 or 500m.")
    memory: Quantity | None = Field(None, description="Memory per pod, set as request and limit, e.g. 32Gi.")
    shared_memory: Quantity | None = Field(
        None,
        description="Size of /dev/shm per pod, e.g. 8Gi. Counts against memory and must not exceed it. Defaults "
        "to memory.",
    )
    extended: Annotated[dict[ResourceName, Annotated[int, Field(ge=1, le=65536)]], Field(max_length=16)] = Field(
        {}, description="Other extended resources per pod, by name, e.g. rdma/hca: 1."
    )

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        for name, value in (("cpu", self.cpu), ("memory", self.memory), ("sharedMemory", self.shared_memory)):
            if value is not None and quantity(value) == 0:
                raise ValueError(f"{name} must be greater than 0")
        if self.memory and self.shared_memory and quantity(self.shared_memory) > quantity(self.memory):
            raise ValueError(
                f"sharedMemory {self.shared_memory} counts against memory {self.memory} and must not exceed it"
            )
        if self.gpu_resource_name in self.extended:
            raise ValueError(f"set GPUs with gpusPerNode, not as {self.gpu_resource_name} in extended")
        return self

    @property
    def processes(self) -> int:
        """Processes of each pod."""
        return self.processes_per_node or max(1, self.gpus_per_node)

    @property
    def gpus(self) -> int:
        """GPUs over all pods."""
        return self.nodes * self.gpus_per_node

    def of_stage(self, stage: StageName) -> Resources:
        """What an attempt at the stage gets: all to train weights; scores take one process, on one GPU at most."""
        if stage.has_weights:
            return self
        alone = {"nodes": 1, "processes_per_node": 1, "gpus_per_node": min(1, self.gpus_per_node)}
        return self.model_copy(update=alone)
