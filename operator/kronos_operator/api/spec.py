"""What a user declares: the trainer's own parts, whole, and how and where the operator runs them."""

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
    Evaluation,
    InnerPath,
    OneOf,
    PredictorStage,
    ProgressPolicy,
    RunConfig,
    Timeframe,
    TimeZone,
    TokenizerStage,
    Training,
    Uri,
    Window,
    cel,
)


class BackendName(StrEnum):
    """Kind of the workload that runs a gang."""

    JOB = "Job"
    PYTORCH_JOB = "PyTorchJob"


class UpdatePolicy(StrEnum):
    """What a new spec does to a running training."""

    FINISH = "Finish"
    CANCEL = "Cancel"
    MANUAL = "Manual"


class Storage(OneOf):
    """Where checkpoints and results go. Exactly one field."""

    claim: ClaimPath | None = Field(None, description="On a PersistentVolumeClaim; ReadWriteMany if nodes is above 1.")
    path: InnerPath | None = Field(None, description="On this machine's disk (local runs only).")
    uri: Uri | None = Field(
        None, description="In an object store (s3://, gs://, az://), to which results are mirrored."
    )


class Comet(trainer.Comet):
    """Where metrics are reported, and the Secret that holds the key."""

    api_key_secret: SecretKey | None = Field(
        None,
        description="Secret with the Comet API key. A missing Secret blocks no pod: training goes on without Comet.",
    )

    def for_trainer(self) -> trainer.Comet:
        """The trainer's part of it."""
        return trainer.Comet(**{name: getattr(self, name) for name in trainer.Comet.model_fields})


class Retry(Contract):
    """What happens after crashes, stalls and disruptions."""

    max_restarts: int = Field(
        3, ge=0, le=1000, description="Crashes and stalls of a run before it has failed for good."
    )
    backoff_seconds: int = Field(
        30, ge=0, le=3600, description="Seconds before the first restart; doubled for each further one, up to an hour."
    )
    progress_deadline_seconds: int = Field(
        1800,
        ge=60,
        le=604800,
        description="Seconds without a sign of life after which a run counts as stalled; for the first one, at least "
        "600 from the start.",
    )
    max_disruptions: int = Field(
        100,
        ge=0,
        le=100000,
        description="Evictions, preemptions and lost nodes of a run before it has failed for good.",
    )
    max_runtime_seconds: int | None = Field(
        None, ge=60, le=31536000, description="Most seconds that one attempt of a stage may take. Absent: no limit."
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
    """When the model is retrained by itself."""

    cron: Annotated[str, Field(min_length=9, max_length=128), AfterValidator(_cron)] = Field(
        description="Minute, hour, day of month, month, weekday; e.g. 0 6 * * 6 for Saturdays at 6.",
        json_schema_extra=cel((f"self.matches('{_CRON}')", _CRON_ADVICE)),
    )
    time_zone: TimeZone = Field("UTC", description="IANA zone in which the hours are meant.")


_IMMUTABLE_TIMEFRAME = cel(
    ("self == oldSelf", "timeframe is immutable: create another KronosModel for another timeframe")
)
_URI_WITH_SECRET = "://[^/]*@|[?]"
_NO_SECRET = "a URI holds no keys and no query: give keys from a Secret, by podTemplate.env"
_NO_HUB = "storage.uri must begin with s3://, gs:// or az://: the hub can only be read"
_UNSTORED = "!has(self.storage) || !has(self.storage.uri)"
_RULES = cel(
    # A run on a laptop writes below its own output directory, so the models allow what a cluster must refuse.
    (
        "has(self.storage)",
        "storage is required in a cluster: say where results go, e.g. storage: {claim: {name: models}}",
    ),
    # Of the whole spec: an API server repeats the value of a field that it refuses, and this one may hold a secret.
    (
        f"!has(self.data.source.uri) || !self.data.source.uri.matches('{_URI_WITH_SECRET}')",
        f"data.source.uri: {_NO_SECRET}",
    ),
    (f"{_UNSTORED} || !self.storage.uri.matches('{_URI_WITH_SECRET}')", f"storage.uri: {_NO_SECRET}"),
    (f"{_UNSTORED} || !self.storage.uri.startsWith('hf://')", _NO_HUB),
)


class Spec(Contract):
    """What to train, and how and where to run it."""

    model_config = ConfigDict(json_schema_extra=_RULES)

    timeframe: Timeframe = Field(
        description="Length of a bar. It cannot be changed.", json_schema_extra=_IMMUTABLE_TIMEFRAME
    )
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^\S+$")] | None = Field(
        None, description="Image with the trainer. Absent: the operator's default."
    )
    data: Data = Field(description="The bars and how they become windows.")
    window: Window = Field(Window(), description="Length of what the model sees and predicts, in bars.")
    tokenizer: TokenizerStage = Field(TokenizerStage(), description="How the tokenizer is trained; the first stage.")
    predictor: PredictorStage = Field(PredictorStage(), description="How the predictor is trained; the second stage.")
    training: Training = Field(Training(), description="What both stages share.")
    evaluation: Evaluation = Field(Evaluation(), description="How the finished model is judged.")
    checkpoint: CheckpointPolicy = Field(CheckpointPolicy(), description="When training state is saved.")
    progress: ProgressPolicy = Field(ProgressPolicy(), description="How often the trainer reports progress.")
    resources: Resources = Field(Resources(), description="Size of the gang, and what each of its pods requests.")
    storage: Storage | None = Field(
        None,
        description="Where checkpoints and results go. Required in a cluster; absent, a local run writes to outputs/.",
    )
    backend: BackendName = Field(
        BackendName.JOB, description="Workload that runs the gang: an indexed Job, or a Kubeflow PyTorchJob."
    )
    hub_token_secret: SecretKey | None = Field(
        None,
        description="Secret with the Hugging Face token, for gated or private weights. Absent: anonymous downloads.",
    )
    comet: Comet | None = Field(None, description="Comet reporting. Absent: none.")
    retry: Retry = Field(Retry(), description="What happens after crashes and stalls.")
    update_policy: UpdatePolicy = Field(
        UpdatePolicy.FINISH,
        description="What a new spec does to a running training. Finish: it is finished first, unless it has not "
        "reported a step yet. Cancel: it is stopped, and the new one starts. Manual: the new spec waits for a retrain "
        "request. A tick of the schedule always waits for the end of the run in progress.",
    )
    suspend: bool = Field(
        False, description="true stops the training after saving a checkpoint; false goes on from it."
    )
    priority: Annotated[int, Field(ge=-1000000, le=1000000)] = Field(
        0,
        description="Order among the models that wait for their turn at the operator: higher first, then older. "
        "Models in a Kueue queue wait there instead.",
    )
    schedule: Schedule | None = Field(None, description="When the model is retrained by itself. Absent: never.")
    history_limit: int = Field(10, ge=0, le=100, description="Finished runs listed in status. Files are never deleted.")
    child_ttl_seconds_after_finished: int = Field(
        86400,
        ge=0,
        le=31536000,
        alias="childTTLSecondsAfterFinished",
        description="Seconds after which a finished stage's Job and Service are deleted. The KronosModel itself stays.",
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

        They are found by name, so that a new field of the trainer's reaches it without a change here.
        """
        fields = {name: getattr(self, name) for name in RunConfig.model_fields if name in type(self).model_fields}
        return fields | {"comet": self.comet and self.comet.for_trainer()}
