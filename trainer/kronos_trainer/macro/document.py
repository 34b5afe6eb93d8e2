"""macro.json: tables of what the market did and how wrong the forecasts were, each row with its count and interval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BeforeValidator, Field

from kronos_trainer.config.tolerant import Count, Number, Tolerant


class Row(Tolerant):
    """One state or season."""

    label: str = ""
    count: Count = Field(0, description="Observations behind the value; none has a value of its own below two.")
    value: Number | None = None
    low: Number | None = Field(None, description="Lower end of the 95 % interval.")
    high: Number | None = Field(None, description="Upper end.")


class Table(Tolerant):
    """Some states or seasons side by side."""

    name: str = ""
    title: str = ""
    about: str = Field("", description="What the value is, and how it was found.")
    unit: str = Field("", description="Of the values, e.g. `% a bar`.")
    observations: str = Field("", description="What `count` counts, e.g. `dates`.")
    neutral: Number | None = Field(None, description="Value of what has no effect: intervals beside it stand out.")
    rows: tuple[Annotated[Row, BeforeValidator(Row.read_inside)], ...] = ()

    @property
    def beside(self) -> int:
        """Rows whose interval leaves out the neutral value: one of 20 does by chance."""
        if self.neutral is None:
            return 0
        ends = [(row.low, row.high) for row in self.rows if row.low is not None and row.high is not None]
        return sum(not low <= self.neutral <= high for low, high in ends)


class Macro(Tolerant):
    """macro.json. Fields are only ever added."""

    version: Count = 1
    tables: tuple[Annotated[Table, BeforeValidator(Table.read_inside)], ...] = ()
    notes: tuple[str, ...] = Field((), description="What was left out, and why.")

    def with_notes(self, more: Sequence[str]) -> Self:
        """The same with more that was left out."""
        return self.model_copy(update={"notes": (*self.notes, *more)})

    @classmethod
    def load(cls, text: str) -> Self:
        """From the text of a macro.json. Raises ValueError where it is no JSON object."""
        return cls.read(json.loads(text))

    def dump(self) -> str:
        """The text of macro.json."""
        return json.dumps(self.wire, indent=1, allow_nan=False) + "\n"
