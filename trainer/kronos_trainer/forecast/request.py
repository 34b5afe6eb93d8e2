"""A request to the forecast command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kronos_trainer.data.reading.files import bar_files
from kronos_trainer.forecast.kind import Kind
from kronos_trainer.forecast.published import Weights
from kronos_trainer.model.directory import CONFIG, WEIGHTS


@dataclass(frozen=True, kw_only=True)
class Request:
    """Options that were checked as far as that is possible without reading bars; lengths are in bars."""

    weights: Weights
    input: Path
    symbol: str | None
    bad_rows: Literal["refuse", "drop"]
    lookback: int | None
    max_context: int
    horizon: int | None
    """None: as many as `future` names, else the model's."""
    future: Path | None
    calendar: str | None
    kind: Kind
    device: str
    """auto, cpu, cuda or cuda:N."""
    output: Path
    plot: Path | None
    strict: bool
    """End with an error if one of several symbols cannot be forecast."""

    def inputs(self) -> list[Path]:
        """All input files. Raises InputMissing and DataError for missing bars."""
        weights = [
            part / name for part in (self.weights.tokenizer, self.weights.predictor) for name in (CONFIG, WEIGHTS)
        ]
        return [*bar_files(self.input), *([self.future] if self.future else []), *weights]
