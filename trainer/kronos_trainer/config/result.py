"""result.json: what a stage has come to. Its writer is the trainer; whoever reads it may be of another release."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field

from kronos_trainer.config.tolerant import Count, Number, Tolerant
from kronos_trainer.config.verdicts import EvaluationSummary, PromotionResult


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Measured = Annotated[Number | None, BeforeValidator(_finite)]
"""A number that a training may not have, or only as NaN."""

_SHORT = (
    "stage",
    "hash",
    "digest",
    "epochs",
    "steps",
    "seconds",
    "initialValidationLoss",
    "bestValidationLoss",
    "finalTrainLoss",
    "samplesPerSecond",
    "peakGpuBytes",
    "bytes",
    "dataThrough",
    "scores",
    "evaluation",
    "promotion",
)
_JUDGED = ("evaluation", "promotion")
_FOR_THE_REPORT = ("smallestGain",)  # of a comparison
_METRICS = {
    "initialValidationLoss": "initial_validation_loss",
    "bestValidationLoss": "best_validation_loss",
    "finalTrainLoss": "final_train_loss",
    "samplesPerSecond": "samples_per_second",
    "peakGpuBytes": "peak_gpu_bytes",
    "seconds": "seconds",
}


class WindowCounts(Tolerant):
    """How many windows an epoch trains and a validation scores."""

    train: Count = 0
    validation: Count = 0


class BarsRead(Tolerant):
    """The bars of a training."""

    digest: str = Field("", description="SHA-256 of the files and of the options that change their bars, in hex.")
    symbols: Count = 0
    bars: Count = 0
    spans: Mapping[str, tuple[str, str]] = Field(
        {}, description="First instant and first instant after each split, as ISO 8601 in the exchange's time."
    )
    notes: tuple[str, ...] = Field((), description="What was dropped, and what is odd about them.")


class StageResult(Tolerant):
    """A complete stage. One without epochs has no times, losses, windows and bars; one with scores has no weights.

    Fields are only ever added, and `version` is raised when one of them means something else.
    """

    version: Count = Field(1, description="Absent in version 1.")
    stage: str = Field("", description="Its name.")
    hash: str = Field("", description="Its stage hash.")
    run: str = Field("", description="Id of the run that has trained it.")
    attempt: Count | None = None
    model: Mapping[str, Any] | None = Field(None, description="Namespace and name of the KronosModel.")
    started_at: str = Field("", description="When this attempt began, as ISO 8601 in UTC.")
    finished_at: str = Field("", description="When it ended.")
    seconds: Measured = Field(None, description="Spent in training, over all attempts.")
    epochs: Count | None = Field(None, description="Epochs done.")
    steps: Count | None = Field(None, description="Optimizer steps done.")
    parameters: Count | None = None
    world_size: Count | None = Field(None, description="Processes.")
    initial_validation_loss: Measured = None
    best_validation_loss: Measured = Field(None, description="Of the best weights.")
    selected_by: str = Field("", description="What the best weights are best by: `loss` or `crps`.")
    initial_crps: Measured = Field(None, description="CRPS of forecasts on the validation span, in percent.")
    best_crps: Measured = Field(None, description="The same of the best weights.")
    best_step: Count | None = Field(None, description="The step after which the best weights were saved.")
    best_epoch: Count | None = None
    final_train_loss: Measured = Field(None, description="Mean over the last logged steps.")
    windows: Annotated[WindowCounts, BeforeValidator(WindowCounts.read_inside)] | None = None
    data: Annotated[BarsRead, BeforeValidator(BarsRead.read_inside)] | None = None
    data_through: str = Field("", description="`through`, in a termination message, which has no room for `data`.")
    origin: str = Field("", description="Where the initial weights came from.")
    pretrained_until: str = Field(
        "",
        description="First day that the initial weights have certainly not seen; `unknown` if nobody has said, empty "
        "for random ones.",
    )
    precision: str = ""
    device: str = ""
    samples_per_second: Measured = Field(None, description="Windows trained per second, in this attempt.")
    peak_gpu_bytes: Count | None = Field(
        None, description="The most GPU memory that the tensors of a process took, in this attempt. Absent on a CPU."
    )
    digest: str = Field("", description="SHA-256 of the weights, in hex.")
    bytes: Count | None = Field(None, description="Of the files of the weights.")
    scores: Mapping[str, Measured] | None = Field(None, description="Of a stage that produces scores, by name.")
    evaluation: Annotated[EvaluationSummary, BeforeValidator(EvaluationSummary.read_inside)] | None = None
    promotion: Annotated[PromotionResult, BeforeValidator(PromotionResult.read_inside)] | None = None
    software: Mapping[str, str] = Field({}, description="Versions by name.")

    @classmethod
    def load(cls, text: str) -> Self:
        """From the text of a result.json. Raises ValueError where it is no JSON object."""
        return cls.read(json.loads(text))

    def dump(self) -> str:
        """The text of result.json."""
        return json.dumps(self.wire, indent=2, allow_nan=False) + "\n"

    @property
    def short(self) -> dict[str, Any]:
        """Of `wire`, what a model's status shows, for a termination message: of a verdict four digits suffice."""
        wire = self.wire | ({"dataThrough": self.through} if self.through else {})
        return {name: _brief(wire[name]) if name in _JUDGED else wire[name] for name in _SHORT if name in wire}

    @property
    def through(self) -> str:
        """Last day of the bars that it has read, of all splits, as YYYY-MM-DD; empty where that is not known."""
        if self.data is None:
            return self.data_through
        try:  # a span ends with the first instant after it
            ends = [datetime.fromisoformat(end) - timedelta(microseconds=1) for _, end in self.data.spans.values()]
        except (ValueError, OverflowError):
            return ""
        return max((f"{end:%Y-%m-%d}" for end in ends), default="")

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers that are worth a place in a model's status."""
        values = {name: getattr(self, field) for name, field in _METRICS.items()} | dict(self.scores or {})
        return {name: value for name, value in values.items() if value is not None}


def _brief(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _brief(one) for name, one in value.items() if one is not None and name not in _FOR_THE_REPORT}
    if isinstance(value, list | tuple):
        return [_brief(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
