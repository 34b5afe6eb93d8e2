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
from typing import Annotated, Any, ClassVar, Literal, Self, cast
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

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: pydantic copies defaults for every object that it makes, and what is frozen may be shared."""
        return self


PathText = Annotated[str, Field(min_length=1, max_length=1024)]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]


def cel(*rules: tuple[str, str]) -> JsonDict:
    """CEL rules for the CRD, each with its message, of a class or a field; the class checks the same in a validator."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def _one_of_rule(schema: JsonDict) -> None:
    names = list(cast(JsonDict, schema["properties"]))
    present = ", ".join(f"has(self.{name})" for name in names)
    schema |= cel((f"[{present}].filter(x, x).size() == 1", f"set exactly one of {', '.join(names)}"))


class OneOf(Contract):
    """An object of which exactly one field is set, each naming an alternative."""

    model_config = ConfigDict(json_schema_extra=_one_of_rule)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        fields = {info.alias or name: getattr(self, name) for name, info in type(self).model_fields.items()}
        present = [name for name, value in fields.items() if value is not None]
        if len(present) != 1:
            raise ValueError(f"set exactly one of {', '.join(fields)}; found {' and '.join(present) or 'none'}")
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


_INSIDE = "must not contain '..' as a path segment"
_URI = "must begin with s3://, gs://, az:// or hf:// and contain neither '..' as a path segment nor '::'"


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
    path: InnerPath | None = Field(None, description="Path inside the volume. Defaults to its root.")


class Source(OneOf):
    """Location of the bars. Exactly one field is set."""

    claim: ClaimPath | None = Field(None, description="Bars on a PersistentVolumeClaim.")
    path: PathText | None = Field(
        None,
        description="Bars on the local disk; local runs only. A relative path is resolved against "
        "KRONOS_DATA_PATH if set, else against the directory of this file.",
    )
    uri: Uri | None = Field(
        None,
        description="Bars in an object store or on the Hugging Face hub (s3://, gs://, az://, hf://), downloaded "
        "to a cache.",
    )


class Fractions(Contract):
    """Shares of the time axis. They must sum to 1, within 1e-6."""

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
    validation: float = Field(0.1, gt=0, lt=1, description="Share used to select the best weights.")
    test: float = Field(0.1, ge=0, lt=1, description="Share held out for evaluation.")

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
        raise ValueError(f"{text} is not a date: {error}") from None
    return text


Stamp = Annotated[
    str,
    Field(min_length=10, max_length=19, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$"),
    AfterValidator(_real_date),
]


Date = Annotated[
    str,
    Field(min_length=10, max_length=10, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    AfterValidator(_real_date),
]


class TimeRange(Contract):
    """A half-open time span [start, end), in the exchange's local time."""

    model_config = ConfigDict(json_schema_extra=cel(("self.start < self.end", "start must be before end")))

    start: Stamp = Field(description="First instant of the span, e.g. 2011-01-01.")
    end: Stamp = Field(description="First instant after the span.")

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must be before end {self.end}")
        return self


class Ranges(Contract):
    """Explicit time spans, in chronological order and without overlap."""

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
    test: TimeRange | None = Field(None, description="Test span, held out for evaluation.")

    @model_validator(mode="after")
    def _follow(self) -> Self:
        spans = [("train", self.train), ("validation", self.validation), ("test", self.test)]
        present = [(name, span) for name, span in spans if span is not None]
        for (before, first), (after, second) in pairwise(present):
            if second.start < first.end:
                raise ValueError(f"{after} starts at {second.start}, inside {before} which ends at {first.end}")
        return self


class Split(OneOf):
    """Chronological split of the bars. Exactly one field is set."""

    fractions: Fractions | None = Field(None, description="Split by shares of the time axis.")
    ranges: Ranges | None = Field(None, description="Split by explicit time spans.")


Column = Annotated[str, Field(min_length=1, max_length=253)]


class Columns(Contract):
    """Names of columns in the files that are not recognised automatically."""

    timestamps: Column | None = Field(None, description="Timestamp column.")
    open: Column | None = Field(None, description="Open price column.")
    high: Column | None = Field(None, description="High price column.")
    low: Column | None = Field(None, description="Low price column.")
    close: Column | None = Field(None, description="Close price column.")
    volume: Column | None = Field(None, description="Traded volume column.")
    amount: Column | None = Field(None, description="Column of the traded value, in money.")
    symbol: Column | None = Field(None, description="Symbol column, for files that hold several symbols.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        owners: dict[str, str] = {}
        for name, column in self.given.items():
            if owners.setdefault(column, name) != name:
                raise ValueError(f"{owners[column]} and {name} are both {column!r}; a column holds one field")
        if not owners:
            raise ValueError("name at least one column, e.g. close: Price, or leave it out")
        return self

    @property
    def given(self) -> dict[str, str]:
        """Own name of each column that is named, by field."""
        return self.model_dump(exclude_none=True)


class Covariate(Contract):
    """A series that the report of slow bars shows beside errors and returns. The model never reads it."""

    name: Annotated[str, Field(min_length=1, max_length=40)] = Field(description="Its name in the report.")
    source: InnerPath = Field(
        description="CSV or Parquet file, from the root of the bars' claim; with data.source.path, beside the bars."
    )
    columns: tuple[Column, ...] = Field(min_length=1, max_length=8, description="Columns of values.")
    time: Column | None = Field(None, description="Column of timestamps. Defaults to the first column.")
    lag: Annotated[str, Field(max_length=8, pattern=r"^[0-9]{1,4}[hdw]$")] = Field(
        description="How long after its timestamp a value is published, e.g. 45d. Nothing is used before that."
    )


class Data(Contract):
    """Bars and how they are cut into training windows."""

    source: Source = Field(description="Location of the bars.")
    revision: str | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="Free text that versions the bars: changing it retrains the model.",
    )
    split: Split = Field(
        Split(fractions=Fractions(train=0.8, validation=0.1, test=0.1)),
        description="Chronological split into train, validation and test.",
    )
    clip: float = Field(
        5.0, gt=0, le=100, description="Normalised values are clipped to ± this many standard deviations."
    )
    time_zone: TimeZone | None = Field(
        None,
        description="IANA time zone of the exchange, used for hour and weekday. Timestamps without a zone are "
        "local time.",
    )
    columns: Columns | None = Field(
        None, description="Names of columns that are not recognised automatically, e.g. {close: Price}."
    )
    calendar: str | None = Field(
        None,
        min_length=1,
        max_length=32,
        pattern=r"^[A-Za-z0-9_/]+$",
        description="Exchange calendar of forecast timestamps, with holidays and early closes: a name in "
        "exchange_calendars, e.g. XNYS. No effect on training. If unset, timestamps continue the pattern of the "
        "history.",
    )
    bad_rows: Literal["refuse", "drop"] = Field(
        "refuse",
        description="What to do with invalid rows. refuse: fail the run and name the row. drop: skip and count "
        "them, and also bars with a zero price or an open or close outside low to high, which are otherwise kept and "
        "reported.",
    )
    label: Literal["left", "right"] = Field(
        "left",
        description="Which end of a bar its timestamp marks. right: timestamps are moved back by one bar.",
    )
    adjust: Literal["none", "splits"] = Field(
        "none",
        description="splits: adjust for stock splits. Before each clear split, prices are divided by its ratio "
        "and volumes multiplied by it. Each split is reported with its date.",
    )
    covariates: tuple[Covariate, ...] = Field(
        (),
        max_length=16,
        exclude_if=lambda found: not found,  # an older trainer knows none
        description="Series such as rates or prices of goods, to look at in the report of bars of a day or longer. "
        "They are not fed to the model: changing them judges again and trains nothing.",
    )


class Window(Contract):
    """Lengths of input and forecast, in bars."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("self.lookback + self.horizon <= self.maxContext", "lookback + horizon must not exceed maxContext")
        )
    )

    lookback: int = Field(90, ge=2, le=8192, description="Bars of history. Normalisation uses these only.")
    horizon: int = Field(10, ge=1, le=4096, description="Bars to forecast.")
    max_context: int = Field(512, ge=3, le=8192, description="Longest context of the predictor, in bars.")

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
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$",
        description="Repository, as owner/name.",
    )
    revision: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Commit, tag or branch. The run records the resolved commit. Defaults to the main branch.",
    )


class Scratch(Contract):
    """Random initial weights."""

    size: str = Field(description="Size of the architecture.")


class TokenizerScratch(Scratch):
    """Random initial weights for the tokenizer."""

    size: Literal["tiny", "base", "2k"] = Field(description="Size of the architecture.")


class PredictorScratch(Scratch):
    """Random initial weights for the predictor."""

    size: Literal["tiny", "mini", "small", "base", "large"] = Field(description="Size of the architecture.")


class Init(OneOf):
    """Initial weights of a net. Exactly one field is set."""

    hub: Hub | None = Field(None, description="Pretrained weights from the Hugging Face hub.")
    path: PathText | None = Field(
        None,
        description="Directory with config.json and model.safetensors. A relative path is resolved against the "
        "directory of this file.",
    )
    published: Literal[True] | None = Field(
        None,
        description="Weights that this model has published when a run starts (warm start), e.g. after new bars "
        "arrive. The first run needs another init. Publishing alone does not trigger a retrain.",
    )
    scratch: Scratch | None = Field(None, description="Random weights.")


class TokenizerInit(Init):
    """Initial weights of the tokenizer. Exactly one field is set."""

    scratch: TokenizerScratch | None = Field(None, description="Random weights.")


class PredictorInit(Init):
    """Initial weights of the predictor. Exactly one field is set."""

    scratch: PredictorScratch | None = Field(None, description="Random weights.")


Beta = Annotated[float, Field(ge=0, lt=1)]


class StageConfig(Contract):
    """Settings of a stage. A stage that produces scores derives from this class, one with weights from WeightsStage."""

    by_default: ClassVar[bool] = False
    """Whether a model that does not name the stage has it, with default settings."""

    forecasts: ClassVar[bool] = False
    """Whether what it trains makes forecasts, so that `Training.of_forecasts` concerns it."""

    @property
    def runs(self) -> bool:
        """Whether a run has this stage to do."""
        return True

    @property
    def memory_restarts(self) -> int:
        """Most restarts after running out of GPU memory that can help."""
        return 0


class WeightsStage(StageConfig):
    """Training of a net: a stage that produces weights."""

    by_default: ClassVar[bool] = True

    epochs: int = Field(
        30, ge=0, le=10000, description="Passes over the training windows. 0: use the initial weights unchanged."
    )
    batch_size: int = Field(64, ge=1, le=65536, description="Windows per optimizer step, summed over all processes.")
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Maximum windows per process and forward pass. Gradient accumulation follows from it. Defaults to "
        "the whole batch of a process on a GPU, and to 16 on a CPU.",
    )
    weight_decay: float = Field(0.1, ge=0, le=10, description="AdamW weight decay, applied to matrices only.")
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.95], description="AdamW coefficients beta1 and beta2."
    )
    warmup_fraction: float = Field(
        0.03, gt=0, lt=1, description="Fraction of the steps over which the learning rate rises to its peak."
    )
    init: Init = Field(description="Initial weights.")
    learning_rate: float = Field(gt=0, le=1, description="Peak learning rate.")
    gradient_clip: float = Field(gt=0, le=1000, description="Maximum gradient norm of a step.")

    @property
    def runs(self) -> bool:
        """Whether it is trained: without epochs the initial weights are used unchanged."""
        return self.epochs > 0

    @property
    def memory_restarts(self) -> int:
        """Most restarts after running out of GPU memory that can help: each at least halves the micro-batch."""
        return (self.micro_batch_size or self.batch_size).bit_length() - 1

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


class TokenizerStage(WeightsStage):
    """Training of the tokenizer."""

    model_config = _STAGE_RULES

    init: TokenizerInit = Field(
        TokenizerInit(hub=Hub(repo="NeoQuasar/Kronos-Tokenizer-base", revision=None)), description="Initial weights."
    )
    learning_rate: float = Field(1.0e-4, gt=0, le=1, description="Peak learning rate.")
    gradient_clip: float = Field(2.0, gt=0, le=1000, description="Maximum gradient norm of a step.")


class PredictorStage(WeightsStage):
    """Training of the predictor."""

    model_config = _STAGE_RULES

    forecasts: ClassVar[bool] = True

    init: PredictorInit = Field(
        PredictorInit(hub=Hub(repo="NeoQuasar/Kronos-small", revision=None)), description="Initial weights."
    )
    learning_rate: float = Field(2.0e-5, gt=0, le=1, description="Peak learning rate.")
    gradient_clip: float = Field(3.0, gt=0, le=1000, description="Maximum gradient norm of a step.")


class EarlyStopping(Contract):
    """Stops a stage that no longer improves in validation."""

    patience: int = Field(
        ge=1,
        le=10000,
        description="Validations without improvement before the stage stops, of those that select.",
    )


class Training(Contract):
    """Settings shared by the stages."""

    of_forecasts: ClassVar[frozenset[str]] = frozenset({"select_by", "select_every", "select_windows"})
    """Fields that concern only stages whose class says `forecasts`."""

    seed: int = Field(100, ge=0, le=2**31 - 1, description="Seed of every random draw.")
    precision: Literal["auto", "fp32", "tf32", "bf16"] = Field(
        "auto",
        description="Floating-point precision. auto: bf16 where the device supports it natively, else fp32. "
        "Encoding to tokens always uses fp32.",
    )
    windows_per_epoch: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="Maximum windows per epoch, summed over all processes and drawn without replacement. "
        "Defaults to all.",
    )
    validation_windows: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="Maximum windows per validation, summed over all processes. Drawn once from the seed, so "
        "that every validation scores the same ones. Defaults to the whole validation split.",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations: less memory, slower steps.")
    compile: bool | None = Field(
        None,
        description="Whether to use torch.compile, which takes a minute or two at the start. Defaults to true on a GPU "
        "for a stage of 20,000 steps or more, where it pays off, and to false otherwise.",
    )
    early_stopping: EarlyStopping | None = Field(None, description="Early stopping. If unset, every epoch is trained.")
    select_by: Literal["loss", "crps"] = Field(
        "loss",
        description="What selects the predictor's best weights. loss: the validation loss of its tokens. crps: the "
        "continuous ranked probability score of forecasts on the validation span, which takes longer.",
    )
    select_every: int = Field(
        1, ge=1, le=10000, description="Epochs between two validations by crps. The last epoch always has one."
    )
    select_windows: int = Field(
        64,
        ge=1,
        le=100000,
        description="Maximum forecasts per validation by crps. Drawn once from the seed, so that every validation "
        "scores the same ones.",
    )
    upstream_exact: bool = Field(
        False,
        description="Reproduce upstream where it differs: sampled non-causal validation, cycled beta1, tokenizer "
        "betas, weight decay on every parameter.",
    )


class Strategy(StrEnum):
    """How a backtest makes positions of forecasts."""

    TOP_K = "top-k"
    LONG_FLAT = "long-flat"
    LONG_SHORT = "long-short"


_DROP_OUT = "dropOut must not exceed topK"


class Backtest(Contract):
    """A strategy that trades on the forecasts of the evaluation, and what a trade costs."""

    model_config = ConfigDict(
        json_schema_extra=cel(("!has(self.dropOut) || !has(self.topK) || self.dropOut <= self.topK", _DROP_OUT))
    )

    strategy: Strategy | None = Field(
        None,
        description="top-k: holds the topK symbols that are expected to rise most, and replaces at most dropOut of "
        "them at a time. long-flat: holds each symbol that is expected to rise. long-short: holds the topK best "
        "and sells the topK worst short. Absent: long-flat with one symbol, top-k with several.",
    )
    top_k: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Symbols that are held, with long-short on each side. Absent: a fifth of the symbols, at most 50.",
    )
    drop_out: int | None = Field(
        None, ge=1, le=1000, description="Symbols that are replaced at most at a time. Absent: a fifth of topK."
    )
    cost_bps: float = Field(
        10.0, ge=0, le=1000, description="Commission and fees of a trade, in basis points of its value."
    )
    slippage_bps: float = Field(
        5.0,
        ge=0,
        le=1000,
        description="How much worse than the open a trade is filled, in basis points of its value.",
    )

    @model_validator(mode="after")
    def _drops_what_it_holds(self) -> Self:
        if self.drop_out is not None and self.top_k is not None and self.drop_out > self.top_k:
            raise ValueError(f"{_DROP_OUT}; found {self.drop_out} and {self.top_k}")
        return self


class Evaluation(StageConfig):
    """Evaluation of the finished model on the test span, the last stage."""

    by_default: ClassVar[bool] = True

    enabled: bool = Field(
        True,
        description="Whether to judge the model on the test span after training. false: it is published without a "
        "verdict.",
    )
    samples: int = Field(
        100,
        ge=2,
        le=1000,
        description="Sampled paths per forecast. With fewer than 40, bands of 95 % cannot be estimated.",
    )
    max_seconds: int = Field(
        3600,
        ge=10,
        le=604800,
        description="Maximum duration of the forecasts. When it is reached, the verdict rests on fewer dates, and the "
        "report says so.",
    )
    pretrained_until: Date | None = Field(
        None,
        description="First day that the initial weights have certainly not seen, e.g. 2024-07-01. Earlier test spans "
        "allow only a comparison with the initial weights. Known for the weights of NeoQuasar; random weights have "
        "seen nothing.",
    )
    backtest: Backtest | None = Field(
        None, description="Strategy that trades on the forecasts of the evaluation; absent: none. It decides nothing."
    )

    @property
    def runs(self) -> bool:
        """Whether the model is judged."""
        return self.enabled


class Rival(StrEnum):
    """What the promotion gate compares a model with."""

    START = "start"
    PUBLISHED = "published"
    NAIVE = "naive"


class Promotion(Contract):
    """When a finished model replaces the published one. Ignored without an evaluation: then every one does."""

    metric: Literal["crps"] = Field(
        "crps", description="Loss that decides: the continuous ranked probability score of the close."
    )
    against: Annotated[
        list[Rival], Field(min_length=1, max_length=3, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(
        [Rival.START, Rival.PUBLISHED],
        description="What the model must be better than: its initial weights, the published model if there is one, "
        "the naive forecast.",
    )
    min_improvement: float = Field(
        0.0, ge=0, lt=1, description="Least improvement over each of them, as a share of its loss."
    )
    confidence: float = Field(
        0.9, gt=0.5, lt=1, description="Confidence that the model is better. 1 minus it bounds false promotions."
    )
    on_undecided: Literal["hold", "publish"] = Field(
        "hold",
        description="What happens to a model of which the test span cannot tell. hold: it is published only where "
        "nothing is published yet. publish: it is published.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.against)) != len(self.against):
            raise ValueError("against must name each rival once")
        return self


class CheckpointPolicy(Contract):
    """Checkpointing of the training state."""

    every_seconds: int = Field(300, ge=1, le=86400, description="Seconds between checkpoints within an epoch.")


class ProgressPolicy(Contract):
    """Progress reporting of the trainer."""

    every_seconds: float = Field(
        5.0,
        ge=0.01,
        le=60,
        description="Seconds between progress lines in the log. The operator updates status at its own interval.",
    )


class Comet(Contract):
    """Comet reporting, active if COMET_API_KEY is set."""

    project: str = Field(min_length=1, max_length=128, description="Comet project.")
    workspace: str | None = Field(None, min_length=1, max_length=128, description="Comet workspace.")
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=32)] = Field(
        [], description="Tags added to every experiment."
    )
