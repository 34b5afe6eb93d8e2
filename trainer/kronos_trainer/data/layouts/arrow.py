"""Parquet and Feather files as tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kronos_trainer.data.layouts.tables import HEAD_ROWS, Chunk, as_text


@dataclass
class ArrowTable:
    """A Parquet or Feather file; of the columns only those asked for are read."""

    file: Path
    source: Path | BinaryIO
    parquet: bool
    unit: str = "row"
    headless: bool = False
    first: int = 1
    header: list[str] = field(default_factory=list)
    likely_decimal: str | None = "."
    facts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.parquet:
            with pq.ParquetFile(self.source) as file:
                self._metadata = file.metadata
                self.header = list(file.schema_arrow.names)
        else:
            with pa.ipc.open_file(self._stream()) as reader:
                self.header = list(reader.schema.names)

    @property
    def kind(self) -> str:
        """As `Table`."""
        return "Parquet" if self.parquet else "Feather"

    def _stream(self) -> pa.NativeFile:
        return pa.memory_map(str(self.source)) if isinstance(self.source, Path) else self._rewound()

    def _rewound(self) -> BinaryIO:
        assert not isinstance(self.source, Path)
        self.source.seek(0)
        return self.source

    def _batches(self, names: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        if self.parquet:
            place = self.source if isinstance(self.source, Path) else self._rewound()
            with pq.ParquetFile(place, metadata=self._metadata) as file:
                yield from file.iter_batches(rows, columns=names)
            return
        with pa.ipc.open_file(self._stream()) as reader:
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index).select(names)
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)

    def head(self) -> pd.DataFrame:
        """As `Table`."""
        batch = next(self._batches(self.header, HEAD_ROWS), None)
        return as_text(_frame(batch)) if batch is not None else pd.DataFrame(columns=range(len(self.header)))

    def frames(self, columns: Mapping[int, str], text: Collection[str], skip: int, rows: int) -> Iterator[Chunk]:
        """As `Table`."""
        own = {self.header[place]: name for place, name in columns.items()}
        first = 1
        for batch in self._batches(list(own), rows):
            frame = _frame(batch).rename(columns=own)
            numbers = np.arange(first, first + len(frame))
            first += len(frame)
            if numbers[-1:] > skip:
                left = numbers > skip
                yield frame[left].reset_index(drop=True), numbers[left]


def _frame(batch: pa.RecordBatch) -> pd.DataFrame:
    for index, item in enumerate(batch.schema):
        if pa.types.is_dictionary(item.type):
            batch = batch.set_column(index, item.name, batch.column(index).dictionary_decode())
    frame: pd.DataFrame = batch.to_pandas(ignore_metadata=True, date_as_object=False)
    return frame
