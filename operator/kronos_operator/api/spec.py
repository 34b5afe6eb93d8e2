"""The spec of a KronosModel: the trainer's settings, unchanged, and how and where the operator runs them."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

import kronos_trainer.config as trainer
from kronos_operator.api.pod import PodTemplate, SecretKey
from kronos_operator.api.resources import Resources
from kronos_trainer.config import (
    CheckpointPolicy,
    ClaimPath,
    Contract,
    Data,
    InnerPath,
    OneOf,
    ProgressPolicy,
    Promotion,
    RunConfig,
    Staged,
    Timeframe,
    TimeZone,
    Training,
    Uri,
    Window,
    cel,
    stage_fields,
)


class BackendName(StrEnum):
    """Kind of the workload that runs a gang."""

    JOB = "Job"
    PYTORCH_JOB = "PyTorchJob"


class UpdatePolicy(StrEnum):
    """What happens to the current run when the spec changes."""

    FINISH = "Finish"
    CANCEL = "Cancel"
    MANUAL = "Manual"


class Storage(OneOf):
    """Where checkpoints and results are stored. Exactly one field is set."""

    claim: ClaimPath | None = Field(
        None, description="Directory on a PersistentVolumeClaim. Must be ReadWriteMany if nodes is greater than 1."
    )
    path: InnerPath | None = Field(None, description="Directory on the local disk; local runs only.")
    uri: Uri | None = Field(
        None, description="Prefix in an object store (s3://, gs://, az://), to which results are mirrored."
    )


class Comet(trainer.Comet):
    """Comet reporting, with the Secret that holds the API key."""

    api_key_secret: SecretKey | None = Field(
        None,
        description="Secret with the Comet API key. If the Secret is missing, training runs without Comet.",
    )

    def for_trainer(self) -> trainer.Comet:
        """The settings that the trainer reads."""
        return trainer.Comet(**{name: getattr(self, name) for name in trainer.Comet.model_fields})


class Retry(Contract):
    """Restarts after crashes, stalls and disruptions."""

    max_restarts: int = Field(
        3, ge=0, le=1000, description="Maximum restarts of a run after crashes and stalls. One more fails the run."
    )
    backoff_seconds: int = Field(
        30,
        ge=0,
        le=3600,
        description="Seconds before the first restart. Doubles with each further restart, up to one hour.",
    )
    progress_deadline_seconds: int = Field(
        1800,
        ge=60,
        le=604800,
        description="Seconds without output after which a run counts as stalled. Before the first output, at "
        "least 600.",
    )
    max_disruptions: int = Field(
        100,
        ge=0,
        le=100000,
        description="Maximum restarts of a run after evictions, preemptions and lost nodes. One more fails the run.",
    )
    max_runtime_seconds: int | None = Field(
        None,
        ge=60,
        le=31536000,
        description="Maximum duration of one attempt of a stage, in seconds. Defaults to no limit.",
    )


def _cron_field(value: str) -> str:
    part = rf"([*]|{value}(-{value})?)(/[1-9][0-9]?)?"
    return f"{part}(,{part})*"


_CRON = "^{}$".format(
    " ".join(
        _cron_field(value)
        for value in (
            "[0-5]?[0-9]",
            "([01]?[0-9]|2[0-3])",
            "(0?[1-9]|[12][0-9]|3[01])",
            "(0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)",
            "([0-7]|MON|TUE|WED|THU|FRI|SAT|SUN)",
        )
    )
)
_CRON_ADVICE = "must be five cron fields (minute hour day month weekday), e.g. 0 6 * * 6 for Saturdays at 6"


def _cron(text: str) -> str:
    if not re.fullmatch(_CRON, text):
        raise ValueError(f"{_CRON_ADVICE}; found {text!r}")
    return text


class Schedule(Contract):
    """Periodic retraining."""

    cron: Annotated[str, Field(min_length=9, max_length=128), AfterValidator(_cron)] = Field(
        description="Cron expression of five fields (minute hour day month weekday), e.g. 0 6 * * 6 for "
        "Saturdays at 6.",
        json_schema_extra=cel((f"self.matches('{_CRON}')", _CRON_ADVICE)),
    )
    time_zone: TimeZone = Field("UTC", description="IANA time zone of the cron expression.")


_IMMUTABLE_TIMEFRAME = cel(
    ("self == oldSelf", "timeframe is immutable: create another KronosModel for another timeframe")
)
_URI_WITH_SECRET = "://[^/]*@|[?]"
_NO_SECRET = "a URI must not contain keys or a query: pass keys from a Secret with podTemplate.env"
_NO_HUB = "storage.uri must begin with s3://, gs:// or az://: the hub can only be read"
_UNSTORED = "!has(self.storage) || !has(self.storage.uri)"
_RULES = cel(
    # A run on a laptop writes below its own output directory, so the models allow what a cluster must refuse.
    (
        "has(self.storage)",
        "storage is required in a cluster, e.g. storage: {claim: {name: models}}",
    ),
    # Of the whole spec: an API server repeats the value of a field that it refuses, and this one may hold a secret.
    (
        f"!has(self.data.source.uri) || !self.data.source.uri.matches('{_URI_WITH_SECRET}')",
        f"data.source.uri: {_NO_SECRET}",
    ),
    (f"{_UNSTORED} || !self.storage.uri.matches('{_URI_WITH_SECRET}')", f"storage.uri: {_NO_SECRET}"),
    (f"{_UNSTORED} || !self.storage.uri.startsWith('hf://')", _NO_HUB),
)


class Spec(Staged):
    """What to train, and how and where to run it."""

    model_config = ConfigDict(json_schema_extra=_RULES)

    timeframe: Timeframe = Field(description="Length of a bar. Immutable.", json_schema_extra=_IMMUTABLE_TIMEFRAME)
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^\S+$")] | None = Field(
        None, description="Container image of the trainer. Defaults to the operator's trainer image."
    )
    data: Data = Field(description="Bars and how they are cut into training windows.")
    window: Window = Field(Window(), description="Lengths of input and forecast, in bars.")
    stage_fields(vars(), "{}", lambda stage: (stage.field_type, Field(stage.default, description=stage.about)))
    training: Training = Field(Training(), description="Settings shared by the stages.")
    promotion: Promotion = Field(Promotion(), description="When a finished model replaces the published one.")
    checkpoint: CheckpointPolicy = Field(CheckpointPolicy(), description="Checkpointing of the training state.")
    progress: ProgressPolicy = Field(ProgressPolicy(), description="Progress reporting of the trainer.")
    resources: Resources = Field(Resources(), description="Number of pods and the resources of each.")
    storage: Storage | None = Field(
        None,
        description="Where checkpoints and results are stored. Required in a cluster; local runs default to outputs/.",
    )
    backend: BackendName = Field(
        BackendName.JOB, description="Workload that runs the pods: an indexed Job or a Kubeflow PyTorchJob."
    )
    hub_token_secret: SecretKey | None = Field(
        None,
        description="Secret with the Hugging Face token, for gated or private weights. If unset, downloads are "
        "anonymous.",
    )
    comet: Comet | None = Field(None, description="Comet reporting. If unset, disabled.")
    retry: Retry = Field(Retry(), description="Restarts after crashes, stalls and disruptions.")
    update_policy: UpdatePolicy = Field(
        UpdatePolicy.FINISH,
        description="What happens to the current run when the spec changes. Finish: it runs to its end, unless "
        "it has not reported a step yet. Cancel: it is stopped and a new run starts. Manual: the new spec waits for "
        "a retrain request. Scheduled runs always wait for the current run.",
    )
    suspend: bool = Field(
        False,
        description="Whether training is suspended. true saves a checkpoint and stops the pods; false resumes from it.",
    )
    priority: Annotated[int, Field(ge=-1000000, le=1000000)] = Field(
        0,
        description="Order among models that wait for a turn: higher first, then older. Ignored for models in a "
        "Kueue queue.",
    )
    schedule: Schedule | None = Field(None, description="Periodic retraining. If unset, disabled.")
    history_limit: int = Field(
        10, ge=0, le=100, description="Maximum finished runs kept in status. Files are never deleted."
    )
    child_ttl_seconds_after_finished: int = Field(
        86400,
        ge=0,
        le=31536000,
        alias="childTTLSecondsAfterFinished",
        description="Seconds after the end of a run after which its Jobs, Services and ConfigMaps are deleted. The "
        "KronosModel is kept.",
    )
    pod_template: PodTemplate = Field(
        PodTemplate(), description="Labels, scheduling, identity and environment of the pods."
    )

    @model_validator(mode="after")
    def _uris(self) -> Self:
        stored = None if self.storage is None else self.storage.uri
        for field, uri in (("data.source.uri", self.data.source.uri), ("storage.uri", stored)):
            if uri is not None and re.search(_URI_WITH_SECRET, uri):
                raise ValueError(f"{field}: {_NO_SECRET}")
        if stored is not None and stored.startswith("hf://"):
            raise ValueError(_NO_HUB)
        return self

    def run_fields(self) -> dict[str, Any]:
        """The fields of a RunConfig that come from the spec, ready for `RunConfig(**fields, ...)`.

        They are matched by name, so that a new trainer field reaches the trainer without a change here.
        """
        fields = {name: getattr(self, name) for name in RunConfig.model_fields if name in type(self).model_fields}
        return fields | {"comet": self.comet and self.comet.for_trainer()}
