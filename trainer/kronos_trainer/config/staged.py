"""Documents with a field for each stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from kronos_trainer.config.spec import Contract, StageConfig, WeightsStage
from kronos_trainer.stages import StageName

Settings = TypeVar("Settings", bound=StageConfig)


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
    """A document with a field for each stage, which holds its settings, or None for a stage that it does not have."""

    def config_of(self, stage: StageName) -> StageConfig | None:
        """The settings of a stage."""
        config: StageConfig | None = getattr(self, stage)
        return config

    def settings(self, kind: type[Settings]) -> Settings | None:
        """The settings of the stage that has settings of this class."""
        configs = (self.config_of(stage) for stage in StageName)
        return next((config for config in configs if isinstance(config, kind)), None)

    def runs(self, stage: StageName) -> bool:
        """Whether a run has this stage to do."""
        config = self.config_of(stage)
        return config is not None and config.runs

    def memory_restarts(self, stage: StageName) -> int:
        """Most restarts after running out of GPU memory that can help a stage."""
        config = self.config_of(stage)
        return 0 if config is None else config.memory_restarts

    def weights_stages(self) -> dict[StageName, WeightsStage]:
        """The settings of the stages that produce weights, in their order."""
        configs = {stage: self.config_of(stage) for stage in StageName}
        return {stage: config for stage, config in configs.items() if isinstance(config, WeightsStage)}
