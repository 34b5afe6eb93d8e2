"""The common form of every kind of file: a table that can be read repeatedly, a chunk at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

HEAD_ROWS = 500  # that are looked at to recognise a layout

Int64 = npt.NDArray[np.int64]
Chunk = tuple[pd.DataFrame, Int64]  # rows, and their numbers in the file


class Table(Protocol):
    """Rows under a header. Columns are named by their place, from 0."""

    file: Path  # as messages name it
    unit: str  # what row numbers count: "line" or "row"
    headless: bool
    facts: list[str]  # how the file was read, where that was not plain

    @property
    def kind(self) -> str:
        """Kind of file, in words."""

    @property
    def first(self) -> int:
        """Number of the first row."""

    @property
    def header(self) -> Sequence[str]:
        """Names of the columns; "0", "1", ... where the file has none."""

    @property
    def likely_decimal(self) -> str | None:
        """What the point in 1.234 means in this kind of file; None: it may be decimal or stand for thousands."""

    def head(self) -> pd.DataFrame:
        """The first rows, as text, by place."""

    def frames(self, columns: Mapping[int, str], text: Collection[str], skip: int, rows: int) -> Iterator[Chunk]:
        """Some columns by new names, from row `skip` on, at most `rows` at a time; no numbers are made of `text`."""


@dataclass
class FrameTable:
    """A table in memory."""

    file: Path
    frame: pd.DataFrame
    kind: str = "JSON"
    unit: str = "row"
    headless: bool = False
    first: int = 1
    likely_decimal: str | None = "."
    facts: list[str] = field(default_factory=list)

    @property
    def header(self) -> list[str]:
        """Names of the columns."""
        return [str(name) for name in self.frame.columns]

    def head(self) -> pd.DataFrame:
        """As `Table`."""
        return as_text(self.frame.iloc[:HEAD_ROWS])

    def frames(self, columns: Mapping[int, str], text: Collection[str], skip: int, rows: int) -> Iterator[Chunk]:
        """As `Table`."""
        for start in range(skip, len(self.frame), rows):
            part = self.frame.iloc[start : start + rows, list(columns)]
            part = part.set_axis(list(columns.values()), axis=1).reset_index(drop=True)
            yield part, np.arange(start + 1, start + 1 + len(part))


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Every value as text, "" where there is none, columns by place."""
    places = frame.set_axis(range(frame.shape[1]), axis=1)
    return places.astype("object").where(places.notna(), "").astype("str")
