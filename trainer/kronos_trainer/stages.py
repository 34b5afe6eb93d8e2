"""The stages of a run, in their order: the table that both sides read. What each one does is in `training.stages`.

It imports nothing, for the help of `kronos`, which names the stages, is to be there at once.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from kronos_trainer.config.spec import StageConfig


class StageName(StrEnum):
    """One row for each stage: its name, its short name in those of children, its class in config.spec, its description.

    The name is also that of its field in the spec and of its directory in a run. A stage whose class is a WeightsStage
    produces weights and is part of every model. Any other produces scores, and is part of a model by its settings.
    """

    TOKENIZER = "tokenizer", "tok", "TokenizerStage", "Training of the tokenizer, the first stage."
    PREDICTOR = "predictor", "pred", "PredictorStage", "Training of the predictor, the second stage."
    EVALUATION = "evaluation", "eval", "Evaluation", "Evaluation of the finished model, the last stage."

    _value_: str
    short: str  # at most four characters, for names of children are short
    _config: str
    about: str

    def __new__(cls, name: str, short: str = "", config: str = "", about: str = "") -> Self:
        """Takes a row; `StageName("tokenizer")` finds one."""
        stage = str.__new__(cls, name)
        stage._value_, stage.short, stage._config, stage.about = name, short, config, about
        return stage

    @property
    def config(self) -> type[StageConfig]:
        """The class of its settings."""
        config: type[StageConfig] = getattr(import_module("kronos_trainer.config.spec"), self._config)
        return config

    @property
    def field_type(self) -> Any:
        """Type of its field in a spec."""
        return self.config if self.config.by_default else self.config | None

    @property
    def default(self) -> StageConfig | None:
        """Its settings where a spec does not name it."""
        return self.config() if self.config.by_default else None

    @cached_property
    def has_weights(self) -> bool:
        """Whether it produces weights, and not scores."""
        from kronos_trainer.config.spec import WeightsStage

        return issubclass(self.config, WeightsStage)

    @property
    def path_variable(self) -> str:
        """The environment variable that names a directory of initial weights."""
        return f"KRONOS_{self.upper()}_PATH"

    @property
    def outcome(self) -> str:
        """What is said of it when it is done, in one CamelCase word."""
        return "Trained" if self.has_weights else "Completed"

    @property
    def condition(self) -> str:
        """Type of the condition that says whether it is done."""
        return f"{self.capitalize()}{self.outcome}"

    @classmethod
    def with_weights(cls) -> list[StageName]:
        """The stages that produce weights: what a forecast needs."""
        return [stage for stage in cls if stage.has_weights]
