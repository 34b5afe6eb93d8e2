"""The scores of every rival on every date, kept now and then, so that what was forecast is not forecast again."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kronos_trainer.evaluation.cells import Floats
from kronos_trainer.evaluation.scores import Scores
from kronos_trainer.storage import durable

VERSION = 2  # raised when the same forecasts would be scored differently, or more of them is kept
_PARTS = ("by_date", "by_step", "sums", "counts")


@dataclass
class Row:
    """The scores of one rival, and the dates (their indices) that it was scored on."""

    key: str
    scores: Scores
    done: set[int] = field(default_factory=set)


class Scoreboard:
    """The rows of all rivals, by name, in a file: scores.npz."""

    def __init__(self, file: Path, key: Mapping[str, Any], dates: int, symbols: int) -> None:
        """`key` is all that the scores depend on beside the rivals' own keys. A file with another one is replaced."""
        self.rows: dict[str, Row] = {}
        self.seconds = 0.0  # spent on forecasts, over all attempts
        self._file = file
        self._key = {"version": VERSION, "dates": dates, "symbols": symbols, **key}
        self._shape = (dates, symbols)
        self._read()

    def row(self, name: str, key: str) -> Row:
        """The row of a rival; an empty one where none with its key was kept."""
        kept = self.rows.get(name)
        if kept is None or kept.key != key:
            kept = self.rows[name] = Row(key, Scores(*self._shape))
        return kept

    def save(self) -> None:
        """Replaces the file. Raises StorageError."""
        rows = {name: {"key": row.key, "done": sorted(row.done)} for name, row in self.rows.items()}
        about = json.dumps({"key": self._key, "seconds": round(self.seconds, 3), "rows": rows})
        arrays: dict[str, npt.NDArray[Any]] = {"about": np.frombuffer(about.encode(), np.uint8)}
        for name, row in self.rows.items():
            arrays |= {f"{name}/{part}": values for part, values in _arrays(row.scores).items()}
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]  # the stubs take a name for `allow_pickle`
        durable.write_bytes(self._file, content.getvalue())

    def _read(self) -> None:
        try:
            with self._file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                about = json.loads(arrays["about"].tobytes())
                if about["key"] != json.loads(json.dumps(self._key)):
                    return
                found = {}
                for name, row in about["rows"].items():
                    parts = {
                        part.removeprefix(f"{name}/"): arrays[part]
                        for part in arrays.files
                        if part.startswith(f"{name}/")
                    }
                    found[name] = Row(row["key"], _scores(self._shape, parts), set(row["done"]))
        except (FileNotFoundError, ValueError, KeyError, zipfile.BadZipFile):
            return  # nothing that cannot be forecast again
        self.rows, self.seconds = found, about["seconds"]


def _arrays(scores: Scores) -> dict[str, Floats]:
    parts = {f"{part}/{name}": values for part in _PARTS for name, values in getattr(scores, part).items()}
    return {"crps": scores.crps, "expected": scores.expected, "pit": scores.pit, **parts}


def _scores(shape: tuple[int, int], parts: Mapping[str, Floats]) -> Scores:
    scores = Scores(*shape)
    for name, values in parts.items():
        part, _, metric = name.partition("/")
        if metric:
            getattr(scores, part)[metric] = values
        else:
            setattr(scores, part, values)
    return scores
