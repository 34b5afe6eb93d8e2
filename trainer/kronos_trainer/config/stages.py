"""The stages of a run, in their order. All that the operator's side and run.json need to know of one is its row here.

What a stage does is in `kronos_trainer.training.stages`. A field for each stage is added to a class by `stage_fields`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Self

from kronos_trainer.config.spec import Contract, PredictorStage, StageConfig, TokenizerStage, TrainedStage


class StageName(StrEnum):
    """One row for each stage: its name, the short form for names of children, its config, and what that is.

    A stage that produces weights is part of every model. One that produces scores is part of those that configure it.
    """

    TOKENIZER = "tokenizer", "tok", TokenizerStage, "Training of the tokenizer, the first stage."
    PREDICTOR = "predictor", "pred", PredictorStage, "Training of the predictor, the second stage."

    _value_: str  # also the name of its field in the spec, and of its directory in a run
    short: str  # at most four characters: names of children are short
    config: type[StageConfig]
    about: str

    def __new__(cls, name: str, short: str = "", config: type[StageConfig] = StageConfig, about: str = "") -> Self:
        """Takes a row; `StageName("tokenizer")` finds one."""
        stage = str.__new__(cls, name)
        stage._value_, stage.short, stage.config, stage.about = name, short, config, about
        return stage

    @property
    def has_weights(self) -> bool:
        """Whether it produces weights, and not scores."""
        return issubclass(self.config, TrainedStage)

    @property
    def path_variable(self) -> str:
        """The environment variable that names a directory of its first weights."""
        return f"KRONOS_{self.upper()}_PATH"

    @property
    def condition(self) -> str:
        """Type of the condition that tells whether it is done."""
        return f"{self.capitalize()}{'Trained' if self.has_weights else 'Completed'}"

    @property
    def field_type(self) -> Any:
        """Type of its field in the spec."""
        return self.config if self.has_weights else self.config | None

    @property
    def default(self) -> StageConfig | None:
        """Its config where a spec says nothing."""
        return self.config() if self.has_weights else None

    @classmethod
    def with_weights(cls) -> list[StageName]:
        """The stages that produce weights: what a forecast needs."""
        return [stage for stage in cls if stage.has_weights]


def stage_fields(
    body: dict[str, Any],
    name: str,
    field: Callable[[StageName], tuple[Any, Any]],
    stages: Iterable[StageName] = StageName,
) -> None:
    """Adds a field for each stage to a Contract, at the place in its body where this is called with `vars()`.

    `name` is the field's, with `{}` for the stage's; `field` gives its type and what pydantic's `Field` returned.
    """
    for stage in stages:
        key = name.format(stage)
        body["__annotations__"][key], body[key] = field(stage)


class Staged(Contract):
    """A document with a field for each stage, which holds its config, or None for a stage that it does not have."""

    def config_of(self, stage: StageName) -> StageConfig | None:
        """What a stage is told."""
        config: StageConfig | None = getattr(self, stage)
        return config

    def runs(self, stage: StageName) -> bool:
        """Whether a run has this stage to do."""
        config = self.config_of(stage)
        return config is not None and config.runs

    def memory_restarts(self, stage: StageName) -> int:
        """Most restarts after running out of GPU memory that can help a stage."""
        config = self.config_of(stage)
        return 0 if config is None else config.memory_restarts

    def trained(self) -> dict[StageName, TrainedStage]:
        """The configs of the stages that produce weights, in their order."""
        configs = {stage: self.config_of(stage) for stage in StageName}
        return {stage: config for stage, config in configs.items() if isinstance(config, TrainedStage)}
