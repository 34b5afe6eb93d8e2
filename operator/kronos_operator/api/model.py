"""The KronosModel object itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, ConfigDict, Field

from kronos_operator.api.spec import Spec
from kronos_operator.api.status import Status
from kronos_operator.names import API_VERSION, KIND, MODEL_NAME_LENGTH, MODEL_NAME_PATTERN
from kronos_trainer.config import Contract, ModelRef, Name, cel

ModelName = Annotated[str, Field(min_length=1, max_length=MODEL_NAME_LENGTH, pattern=MODEL_NAME_PATTERN)]
_Text = Annotated[str, Field(max_length=262144)]
_Map = Annotated[dict[str, _Text], Field(max_length=1024)]

_NAME_RULE = cel(
    (
        f"size(self.metadata.name) <= {MODEL_NAME_LENGTH} && self.metadata.name.matches('{MODEL_NAME_PATTERN}')",
        f"the name must be at most {MODEL_NAME_LENGTH} lower-case letters, digits and '-', starting with a letter and "
        "ending with a letter or digit",
    )
)


class Metadata(Contract):
    """The object metadata that is used, and what an object exported from a cluster has beside it."""

    name: ModelName = Field(
        description="Name of the model: lower-case letters, digits and '-', starting with a letter."
    )
    namespace: Name = Field("default", description="Namespace; also a directory level of the results.")
    labels: _Map = Field({}, description="Labels of the object.")
    annotations: _Map = Field({}, description="Annotations of the object.")
    uid: str | None = Field(
        None, max_length=64, description="Set by the API server; distinguishes objects of the same name."
    )
    generation: int | None = Field(
        None, ge=0, description="Set by the API server; increases with every change of the spec."
    )
    resource_version: str | None = Field(
        None, max_length=128, description="Set by the API server; changes with every write."
    )
    creation_timestamp: AwareDatetime | None = Field(None, description="Set by the API server; time of creation.")
    deletion_timestamp: AwareDatetime | None = Field(
        None, description="Set by the API server; time of the delete request."
    )


class KronosModel(Contract):
    """A Kronos model to finetune for one timeframe and market: first its tokenizer, then its predictor."""

    model_config = ConfigDict(json_schema_extra=_NAME_RULE)

    api_version: str = Field(API_VERSION, pattern=f"^{API_VERSION}$", description="Version of the API.")
    kind: str = Field(KIND, pattern=f"^{KIND}$", description="Kind of the object.")
    metadata: Metadata = Field(description="Name, namespace, labels and annotations.")
    spec: Spec = Field(description="What to train, and how and where to run it.")
    status: Status | None = Field(None, description="Observed state of the model.")

    @classmethod
    def from_server(cls, body: Mapping[str, Any]) -> Self:
        """The model in an object read from the API server.

        Unknown fields are ignored, so that an operator keeps working under the CRD of a newer one. Raises pydantic's
        ValidationError for values that the CRD lets pass and the models do not, e.g. an unknown time zone.
        """
        return cls.model_validate(body, extra="ignore")

    def with_status_of(self, body: Mapping[str, Any]) -> Self:
        """The model with the metadata and the status that the API server answered to a write of its status.

        The write names the version that this model was read from, so the spec is the same, and is not read again.
        """
        metadata = Metadata.model_validate(body["metadata"], extra="ignore")
        status = Status.model_validate(body["status"], extra="ignore")
        return self.model_copy(update={"metadata": metadata, "status": status})

    @property
    def ref(self) -> ModelRef:
        """Namespace and name, as the trainer needs them."""
        return ModelRef(namespace=self.metadata.namespace, name=self.metadata.name)
