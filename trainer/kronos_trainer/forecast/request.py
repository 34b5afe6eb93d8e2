"""What the forecast command is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kronos_trainer.forecast.published import Weights
from kronos_trainer.forecast.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Request:
    """Options that were checked as far as that is possible without reading bars; lengths are in bars."""

    weights: Weights
    input: Path
    symbol: str | None
    bad_rows: Literal["refuse", "drop"]
    lookback: int | None
    max_context: int
    horizon: int
    future: Path | None
    sampling: Sampling
    device: str
    """auto, cpu, cuda or cuda:N."""
    output: Path
    plot: Path | None
    title: str
    """Whose bars the plot shows."""
