"""What a forecast needs to know of how a training read its bars: published in current.json, under `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from kronos_trainer.config import Contract, Data


class Reading(Contract):
    """How the bars of a training were read. Fields of other releases are ignored, and their absence is the default."""

    model_config = ConfigDict(extra="ignore")

    clip: float = Field(5.0, description="Standard deviations at which values are cut off.")
    time_zone: str | None = Field(None, description="Zone of timestamps without one.")
    columns: dict[str, str] | None = Field(None, description="Columns of the files, by what they hold.")
    calendar: str | None = Field(None, description="Exchange whose sessions the forecast follows.")
    label: Literal["left", "right"] = Field("left", description="Which end of its bar a timestamp names.")
    adjust: Literal["none", "splits"] = Field("none", description="What prices are adjusted for.")

    @classmethod
    def of(cls, data: Data) -> Reading:
        """That of a run's `data`."""
        columns = data.columns.given if data.columns else None
        return cls(**{name: getattr(data, name) for name in cls.model_fields} | {"columns": columns})
