"""calibration.json: the sampling that served best on the validation span, and how far its bands were off there.

An evaluation writes it beside the stages of its run (`evaluation.calibrating`); `bands` applies it. Imports no NumPy,
for a bad option of the forecast command is reported before that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field

from kronos_trainer.config.tolerant import Count, Number, Tolerant
from kronos_trainer.errors import InputMissing
from kronos_trainer.forecast.sampling import Sampling

VERSION = 1


class Tried(Tolerant):
    """One sampling that was tried on the validation span."""

    temperature: Number = 1.0
    top_p: Number = 1.0
    crps: Number | None = Field(None, description="Mean over dates, in percent of the close.")


class Calibration(Tolerant):
    """calibration.json. Without factors, bands are left as sampled."""

    version: Count = VERSION
    run: str = ""
    hash: str = Field("", description="Of the evaluation that measured it, whose later attempts keep it.")
    temperature: Number = 1.0
    top_p: Number = 1.0
    tried: tuple[Annotated[Tried, BeforeValidator(Tried.read_inside)], ...] = ()
    levels: tuple[Number, ...] = Field((), description="Of the central bands, ascending, e.g. 0.8.")
    factors: tuple[tuple[Number, ...], ...] = Field(
        (),
        description="[levels][horizon]: the ends of the band move to this multiple of their distance from the median, "
        "in log price.",
    )
    samples: Count = Field(0, description="Paths per cell that the factors are measured with.")
    dates: Count = Field(0, description="Dates of the validation span; the units that the factors are measured with.")
    cells: Count = Field(0, description="Forecasts of one symbol at one date.")
    half_life: Number | None = Field(
        None, description="Dates after which a date weighs half as much; null: all weigh the same."
    )
    sampled: Mapping[str, Number] = Field(
        {}, description="Share of the validation closes in the central band of so many percent, as sampled."
    )
    calibrated: Mapping[str, Number] = Field(
        {}, description="The same after calibration: in sample, the factors are measured on these closes."
    )
    reached: Number = Field(
        1.0, description="Level up to which the dates suffice; wider bands are as wide as the widest close needed."
    )
    note: str = Field("", description="Why there are no factors; empty: there are.")

    @classmethod
    def load(cls, text: str) -> Self:
        """From the text of a calibration.json. Raises ValueError where it cannot be used."""
        read = cls.read(json.loads(text))
        problem = read._problem()
        if problem is not None:
            raise ValueError(problem)
        return read

    def dump(self) -> str:
        """The text of calibration.json."""
        return json.dumps(self.wire, indent=1, allow_nan=False) + "\n"

    @property
    def horizon(self) -> int:
        """Steps that have factors of their own."""
        return len(self.factors[0]) if self.factors else 0

    def holds_for(self, sampling: Sampling) -> bool:
        """Whether the factors were measured with this sampling; another one has other bands."""
        return (sampling.temperature, sampling.top_p, sampling.top_k) == (self.temperature, self.top_p, 0)

    def _problem(self) -> str | None:
        if self.version > VERSION:
            return f"version {self.version} is of a newer release"
        if self.malformed:
            return "a field has a value of another kind"
        if not (self.temperature > 0 and 0 < self.top_p <= 1):
            return f"temperature {self.temperature:g} and topP {self.top_p:g} are no sampling"
        ascending = all(below < above for below, above in pairwise((0.0, *self.levels, 1.0)))
        if not ascending or len(self.factors) != len(self.levels):
            return "levels must ascend between 0 and 1, with a row of factors each"
        if len({len(row) for row in self.factors}) > 1 or any(not row for row in self.factors):
            return "every level needs as many factors as there are steps"
        if any(not (math.isfinite(factor) and factor >= 0) for row in self.factors for factor in row):
            return "factors must be 0 or more"
        return None


def read_calibration(file: Path) -> Calibration:
    """The calibration in a file. Raises InputMissing, naming the file and the way out, where it cannot be read."""
    way_out = "evaluate the model again with `kronos run --force`, or pass --raw (raw=True) for quantiles as sampled"
    try:
        return Calibration.load(file.read_text())
    except OSError as error:
        raise InputMissing(f"{file}: cannot be read ({error.strerror}); {way_out}") from None
    except ValueError as error:
        raise InputMissing(f"{file}: damaged ({error}); {way_out}") from None


def calibration_of(run: Path | None) -> Path | None:
    """The calibration.json in a run's directory, if its evaluation left one."""
    file = None if run is None else run / "calibration.json"
    return file if file is not None and file.is_file() else None


def coverage_names(levels: Sequence[float]) -> tuple[str, ...]:
    """Keys of `sampled` and `calibrated`: 0.8 is 80."""
    return tuple(f"{100 * level:g}" for level in levels)
