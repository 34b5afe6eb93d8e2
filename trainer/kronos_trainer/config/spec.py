"""What to train: the parts of a KronosModel that reach the trainer unchanged.

These classes are also the source of the CustomResourceDefinition, so every field carries a description
with its unit, and every string, list and map a bound.
"""

from __future__ import annotations

import difflib
import re
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict


class Contract(BaseModel):
    """Frozen, keyword-only, camelCase in JSON, unknown keys refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
        validate_default=True,
    )


Path = Annotated[str, Field(min_length=1, max_length=1024)]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]


def cel(*rules: tuple[str, str]) -> JsonDict:
    """CEL rules for the CRD, each with its message, of a class or a field; the class checks the same in a validator."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def _one_of_rule(schema: JsonDict) -> None:
    names = list(cast(JsonDict, schema["properties"]))
    present = ", ".join(f"has(self.{name})" for name in names)
    schema |= cel((f"[{present}].filter(x, x).size() == 1", f"give exactly one of {', '.join(names)}"))


class OneOf(Contract):
    """An object of which exactly one field is set, each naming an alternative."""

    model_config = ConfigDict(json_schema_extra=_one_of_rule)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        fields = {info.alias or name: getattr(self, name) for name, info in type(self).model_fields.items()}
        present = [name for name, value in fields.items() if value is not None]
        if len(present) != 1:
            raise ValueError(f"give exactly one of {', '.join(fields)}; found {' and '.join(present) or 'none'}")
        return self


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"; did you mean {near[0]}?" if near else "; an IANA name is expected, such as America/New_York"
        raise ValueError(f"no such time zone: {name!r}{hint}") from None
    return name


TimeZone = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$"), AfterValidator(_known_zone)
]


class Timeframe(StrEnum):
    """Length of a bar. The value is also what the CRD's enum lists."""

    M1, M3, M5, M10, M15, M20, M30 = "1m", "3m", "5m", "10m", "15m", "20m", "30m"
    H1, H2, H4, H6, H12 = "1h", "2h", "4h", "6h", "12h"
    D1, W1, MO1 = "1d", "1w", "1mo"

    @property
    def seconds(self) -> int:
        """Length in seconds. Raises ValueError for a month, which has no fixed one."""
        if self is Timeframe.MO1:
            raise ValueError("a month has no fixed length")
        return int(self.value[:-1]) * {"m": 60, "h": 3600, "d": 86400, "w": 604800}[self.value[-1]]


_INSIDE = "must stay inside: no part of it may be '..'"
_URI = "must begin with s3://, gs://, az:// or hf://, and have neither '..' as a part nor '::'"


def _inside(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError(f"{_INSIDE}; found {path!r}")
    return path


def _remote(uri: str) -> str:
    if not re.fullmatch(r"(s3|gs|az|hf)://\S+", uri) or "::" in uri or ".." in uri.split("/"):
        raise ValueError(_URI)  # the value stays out: it may hold a key
    return uri


# A path that climbs out of its volume, or a URI of another protocol, would name files of the pod itself. By '::' fsspec
# chains protocols.
_CLIMBS = "self.matches('(^|/)[.][.](/|$)')"
InnerPath = Annotated[
    str,
    Field(min_length=1, max_length=1024, json_schema_extra=cel((f"!{_CLIMBS}", _INSIDE))),
    AfterValidator(_inside),
]
Uri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1024,
        json_schema_extra=cel(
            (f"self.matches('^(s3|gs|az|hf)://[^[:space:]]+$') && !self.contains('::') && !{_CLIMBS}", _URI)
        ),
    ),
    AfterValidator(_remote),
]


class ClaimPath(Contract):
    """A directory or file on a PersistentVolumeClaim."""

    name: Name = Field(description="Name of the PersistentVolumeClaim, in the model's namespace.")
    path: InnerPath | None = Field(None, description="Path inside the volume, relative to its root. Absent: the root.")


class Source(OneOf):
    """Where the bars are. Exactly one field."""

    claim: ClaimPath | None = Field(None, description="Bars on a PersistentVolumeClaim.")
    path: Path | None = Field(
        None,
        description="Bars on this machine's disk (local runs only). A relative path starts at the file that names it, "
        "or at KRONOS_DATA_PATH where that is set.",
    )
    uri: Uri | None = Field(
        None, description="Bars in an object store or on a hub (s3://, gs://, az://, hf://), downloaded to a cache."
    )


class Fractions(Contract):
    """Shares of time; they sum to 1 within 1e-6."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "self.train + self.validation + self.test > 0.999999 "
                "&& self.train + self.validation + self.test < 1.000001",
                "train + validation + test must sum to 1",
            )
        )
    )

    train: float = Field(0.8, gt=0, lt=1, description="Share of the distinct timestamps used for training.")
    validation: float = Field(0.1, gt=0, lt=1, description="Share used to choose the best weights.")
    test: float = Field(0.1, ge=0, lt=1, description="Share kept for the evaluation, never trained on.")

    @model_validator(mode="after")
    def _sum(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test must sum to 1; they sum to {total:g}")
        return self


def _real_date(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text} is no date: {error}") from None
    return text


Stamp = Annotated[
    str,
    Field(min_length=10, max_length=19, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$"),
    AfterValidator(_real_date),
]


class TimeRange(Contract):
    """A span of time, in the exchange's local time."""

    model_config = ConfigDict(json_schema_extra=cel(("self.start < self.end", "start must be before end")))

    start: Stamp = Field(description="First instant inside, e.g. 2011-01-01.")
    end: Stamp = Field(description="First instant outside.")

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must be before end {self.end}")
        return self


class Ranges(Contract):
    """Explicit spans; they must not overlap and must follow each other in time."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("self.train.end <= self.validation.start", "validation must start where train ends, or later"),
            (
                "!has(self.test) || self.validation.end <= self.test.start",
                "test must start where validation ends, or later",
            ),
        )
    )

    train: TimeRange = Field(description="Training span.")
    validation: TimeRange = Field(description="Validation span.")
    test: TimeRange | None = Field(None, description="Test span, never trained on.")

    @model_validator(mode="after")
    def _follow(self) -> Self:
        spans = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        present = [(name, span) for name, span in spans if span is not None]
        for (before, first), (after, second) in pairwise(present):
            if second.start < first.end:
                raise ValueError(f"{after} starts at {second.start}, inside {before} which ends at {first.end}")
        return self


class Split(OneOf):
    """How bars are divided by time. Exactly one field."""

    fractions: Fractions | None = Field(None, description="Shares of time.")
    ranges: Ranges | None = Field(None, description="Explicit spans.")


Column = Annotated[str, Field(min_length=1, max_length=253)]


class Columns(Contract):
    """The files' own names of columns that are not recognised by themselves."""

    timestamps: Column | None = Field(None, description="Column of the stamps.")
    open: Column | None = Field(None, description="Column of the first price.")
    high: Column | None = Field(None, description="Column of the highest price.")
    low: Column | None = Field(None, description="Column of the lowest price.")
    close: Column | None = Field(None, description="Column of the last price.")
    volume: Column | None = Field(None, description="Column of the quantity traded.")
    amount: Column | None = Field(None, description="Column of the money traded.")
    symbol: Column | None = Field(None, description="Column of what the row is of, in files of several symbols.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        owners: dict[str, str] = {}
        for name, column in self.given.items():
            if owners.setdefault(column, name) != name:
                raise ValueError(f"{owners[column]} and {name} are both {column!r}; a column holds one field")
        if not owners:
            raise ValueError("name at least one column, as close: Price, or leave it out")
        return self

    @property
    def given(self) -> dict[str, str]:
        """Own name of each column that is named, by field."""
        return self.model_dump(exclude_none=True)


class Data(Contract):
    """The bars and how they become windows."""

    source: Source = Field(description="Where the bars are.")
    revision: str | None = Field(
        None, min_length=1, max_length=128, description="Free text; changing it says that the bars changed."
    )
    split: Split = Field(
        Split(fractions=Fractions(train=0.8, validation=0.1, test=0.1)),
        description="Division into train, validation and test, by time.",
    )
    clip: float = Field(5.0, gt=0, le=100, description="Normalised values are cut to ± this, in standard deviations.")
    time_zone: TimeZone | None = Field(
        None,
        description="IANA zone of the exchange, in which hour and weekday are taken; naive timestamps are local.",
    )
    columns: Columns | None = Field(
        None, description="Own names of columns that are not recognised by themselves, as {close: Price}."
    )
    calendar: str | None = Field(
        None,
        min_length=1,
        max_length=32,
        pattern=r"^[A-Za-z0-9_/]+$",
        description="Calendar of exchange_calendars, such as XNYS or XSHG, by which forecasts get their times, without "
        "holidays and with early closes. Changes nothing that is trained. Absent: they go on as the history's do.",
    )
    bad_rows: Literal["refuse", "drop"] = Field(
        "refuse",
        description="refuse: a bad row ends the run, naming it. drop: it is left out and counted, and so is a bar with "
        "a price of 0 or one outside of low to high, which is otherwise kept and said.",
    )
    label: Literal["left", "right"] = Field(
        "left",
        description="Which end of its bar a timestamp is. right: the end; it is moved to the start, one bar back.",
    )
    adjust: Literal["none", "splits"] = Field(
        "none",
        description="splits: prices before a clear, unadjusted split are divided by its ratio, and volumes multiplied; "
        "each is said with its date.",
    )


class Window(Contract):
    """Length of what the model sees and predicts, in bars."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("self.lookback + self.horizon <= self.maxContext", "lookback + horizon must not exceed maxContext")
        )
    )

    lookback: int = Field(90, ge=2, le=8192, description="Bars of history; normalisation uses these only.")
    horizon: int = Field(10, ge=1, le=4096, description="Bars to predict.")
    max_context: int = Field(512, ge=3, le=8192, description="Longest context the predictor attends to, in bars.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lookback + self.horizon > self.max_context:
            raise ValueError(f"lookback {self.lookback} + horizon {self.horizon} exceeds maxContext {self.max_context}")
        return self

    @property
    def length(self) -> int:
        """Bars of one training window: the last bar is only ever a target."""
        return self.lookback + self.horizon + 1


class Hub(Contract):
    """A model repository on the Hugging Face hub."""

    repo: str = Field(
        min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", description="owner/name."
    )
    revision: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Commit, tag or branch. The run records the commit it resolved to.",
    )


class Scratch(Contract):
    """A randomly initialised net."""

    size: str = Field(description="Architecture.")


class TokenizerScratch(Scratch):
    """A randomly initialised tokenizer."""

    size: Literal["tiny", "base", "2k"] = Field(description="Architecture.")


class PredictorScratch(Scratch):
    """A randomly initialised predictor."""

    size: Literal["tiny", "mini", "small", "base", "large"] = Field(description="Architecture.")


class Init(OneOf):
    """Where a net's first weights come from. Exactly one field."""

    hub: Hub | None = Field(None, description="Pretrained weights from the hub.")
    path: Path | None = Field(
        None,
        description="Directory with config.json and model.safetensors; a relative path starts at the file that names "
        "it.",
    )
    published: Literal[True] | None = Field(
        None,
        description="What this model has published when a run begins: a warm start, e.g. when bars have grown. The "
        "first run needs another start. A finished run is not trained again because it has published itself.",
    )
    scratch: Scratch | None = Field(None, description="Random weights.")


class TokenizerInit(Init):
    """Where a tokenizer's first weights come from. Exactly one field."""

    scratch: TokenizerScratch | None = Field(None, description="Random weights.")


class PredictorInit(Init):
    """Where a predictor's first weights come from. Exactly one field."""

    scratch: PredictorScratch | None = Field(None, description="Random weights.")


Beta = Annotated[float, Field(ge=0, lt=1)]


class StageConfig(Contract):
    """What a stage is told. One that produces scores derives from it, and reads the weights of the stages before it."""

    @property
    def runs(self) -> bool:
        """Whether a run has this stage to do."""
        return True

    @property
    def memory_restarts(self) -> int:
        """Most restarts after running out of GPU memory that can help."""
        return 0


class TrainedStage(StageConfig):
    """How a net is trained: a stage that produces weights."""

    epochs: int = Field(
        30, ge=0, le=10000, description="Passes over the training windows. 0: the initial weights are used unchanged."
    )
    batch_size: int = Field(64, ge=1, le=65536, description="Windows per optimizer step, over all processes together.")
    micro_batch_size: int = Field(
        16,
        ge=1,
        le=65536,
        description="Most windows per process and forward pass; gradient accumulation is derived from it.",
    )
    weight_decay: float = Field(0.1, ge=0, le=10, description="AdamW weight decay, on matrices only.")
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.95], description="AdamW's two momentum coefficients."
    )
    warmup_fraction: float = Field(
        0.03, gt=0, lt=1, description="Share of the steps in which the learning rate rises to its peak."
    )
    init: Init = Field(description="First weights.")
    learning_rate: float = Field(gt=0, le=1, description="Peak learning rate.")
    gradient_clip: float = Field(gt=0, le=1000, description="Largest gradient norm of a step.")

    @property
    def runs(self) -> bool:
        """Whether it is trained: without epochs the initial weights are used unchanged."""
        return self.epochs > 0

    @property
    def memory_restarts(self) -> int:
        """Most restarts after running out of GPU memory that can help: each at least halves the micro-batch."""
        return self.micro_batch_size.bit_length() - 1

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if self.epochs == 0 and self.init.scratch is not None:
            raise ValueError(
                "epochs 0 keeps the initial weights, and scratch weights are random: train them or name others"
            )
        return self


_STAGE_RULES = ConfigDict(
    json_schema_extra=cel(
        (
            "self.epochs > 0 || !has(self.init.scratch)",
            "epochs 0 keeps the initial weights, and scratch weights are random",
        )
    )
)


class TokenizerStage(TrainedStage):
    """How the tokenizer is trained."""

    model_config = _STAGE_RULES

    init: TokenizerInit = Field(
        TokenizerInit(hub=Hub(repo="NeoQuasar/Kronos-Tokenizer-base", revision=None)), description="First weights."
    )
    learning_rate: float = Field(1.0e-4, gt=0, le=1, description="Peak learning rate.")
    gradient_clip: float = Field(2.0, gt=0, le=1000, description="Largest gradient norm of a step.")


class PredictorStage(TrainedStage):
    """How the predictor is trained."""

    model_config = _STAGE_RULES

    init: PredictorInit = Field(
        PredictorInit(hub=Hub(repo="NeoQuasar/Kronos-small", revision=None)), description="First weights."
    )
    learning_rate: float = Field(2.0e-5, gt=0, le=1, description="Peak learning rate.")
    gradient_clip: float = Field(3.0, gt=0, le=1000, description="Largest gradient norm of a step.")


class EarlyStopping(Contract):
    """Ends a stage that no longer improves."""

    patience: int = Field(ge=1, le=10000, description="Validations without improvement before the stage ends.")


class Training(Contract):
    """What both stages share."""

    seed: int = Field(100, ge=0, le=2**31 - 1, description="Every random draw derives from it.")
    precision: Literal["auto", "fp32", "tf32", "bf16"] = Field(
        "auto", description="auto: bf16 where the device has it natively, else fp32. Tokenising stays fp32."
    )
    windows_per_epoch: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="Most windows an epoch uses, over all processes, drawn without replacement.",
    )
    validation_windows: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="Most windows a validation scores, over all processes, drawn from the seed: the same ones at every "
        "validation of both stages. Absent: all of the validation split.",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory, slower steps.")
    compile: bool = Field(False, description="torch.compile the model; pays off after some hundred steps.")
    early_stopping: EarlyStopping | None = Field(None, description="Absent: every epoch is trained.")
    upstream_exact: bool = Field(
        False,
        description="Follow upstream where it differs: sampled non-causal validation, cycled beta1, tokenizer betas, "
        "weight decay on every parameter.",
    )


class Evaluation(Contract):
    """How the finished model is judged."""

    enabled: bool = Field(True, description="Judge the model on the test span after training.")
    samples: int = Field(10, ge=1, le=1000, description="Sampled paths per forecast.")


class CheckpointPolicy(Contract):
    """When training state is saved."""

    every_seconds: int = Field(300, ge=1, le=86400, description="Seconds between checkpoints inside an epoch.")


class ProgressPolicy(Contract):
    """How often a trainer reports."""

    every_seconds: float = Field(
        5.0,
        ge=0.01,
        le=60,
        description="Seconds between lines of progress in the log; the operator writes status at its own pace.",
    )


class Comet(Contract):
    """Where metrics are reported, if COMET_API_KEY is set."""

    project: str = Field(min_length=1, max_length=128, description="Comet project.")
    workspace: str | None = Field(None, min_length=1, max_length=128, description="Comet workspace.")
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=32)] = Field(
        [], description="Tags of every experiment."
    )
