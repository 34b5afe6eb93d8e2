"""metrics.jsonl of a stage: one line per attempt, per log point and per validation. Written by the loop on rank 0."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from kronos_trainer.storage import durable, strict_json
from kronos_trainer.training.comet import Reporter


class Metrics:
    """Appends lines to metrics.jsonl and hands the numbers to Comet. Without a path (ranks above 0) it does nothing."""

    def __init__(self, path: Path | None, reporter: Reporter) -> None:
        self._path = path
        self._reporter = reporter
        self._file: IO[str] | None = None
        self.lines = 0  # written so far

    def open(self, lines: int, *, attempt: int, step: int) -> None:
        """Keeps the first `lines` lines, those that the restored checkpoint knows of, and goes on behind them.

        The next line says which attempt does, from which step. Raises StorageError.
        """
        if self._path is None:
            return
        kept: list[str] = []
        if self._path.exists():
            kept = self._path.read_text().splitlines(keepends=True)[:lines]
        durable.write_text(self._path, "".join(kept))
        self.lines = len(kept)
        with durable.storing(self._path):
            self._file = self._path.open("a")
        self._append({"attempt": attempt, "step": step})

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        """Adds a line that holds after `step` optimizer steps. Raises StorageError."""
        if self._file is None:
            return
        self._append({"step": step, **values})
        self._reporter.metrics(step, values)

    def _append(self, line: Mapping[str, float | int]) -> None:
        assert self._path is not None and self._file is not None
        with durable.storing(self._path):
            self._file.write(strict_json.line(line) + "\n")
            self._file.flush()
        self.lines += 1

    def sync(self) -> None:
        """Makes the lines durable, before the checkpoint that counts them. Raises StorageError."""
        if self._path is not None and self._file is not None:
            with durable.storing(self._path):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends the file and the report."""
        if self._file is not None:
            with suppress(OSError):  # of a line whose failure was reported when it was written
                self._file.close()
        self._reporter.close()
