"""The requested result of a forecast: averages, quantiles or every path. Checked before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kronos_trainer.errors import ConfigError
from kronos_trainer.forecast.calibration import Calibration, read_calibration
from kronos_trainer.forecast.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Averages of the paths, unless quantiles or all paths are requested.

    Raises ConfigError for both at once, for quantiles outside of 0..1, and for quantiles of a single path.
    """

    sampling: Sampling
    paths: bool = False
    quantiles: tuple[float, ...] = ()
    """Ascending."""
    raw: bool | None = None
    """Leave what was sampled as it is: contradictory bars and the width of bands. None: only the bars of top_k 1."""
    calibration: Calibration | None = None
    """Moves the quantiles of prices; None: they are as sampled."""
    as_sampled: str | None = None
    """Why there is none, for the user; None: there is, or none is wanted."""

    def __post_init__(self) -> None:
        if self.paths and self.quantiles:
            raise ConfigError("paths and quantiles: use one; quantiles can be computed from the paths")
        for quantile in self.quantiles:
            if not 0 <= quantile <= 1:
                raise ConfigError(f"quantiles: {quantile:g} is not between 0 and 1; write e.g. 0.05,0.5,0.95")
        if self.quantiles and self.sampling.samples < 2:
            raise ConfigError("quantiles of 1 path are that path: set more samples, e.g. 100")
        if self.quantiles and self.sampling.top_k == 1:
            raise ConfigError("quantiles with top-k 1, with which all paths are equal: remove top-k")

    @classmethod
    def asked(
        cls,
        given: Mapping[str, Any],
        *,
        sampling: Sampling | None = None,
        paths: bool = False,
        quantiles: Sequence[float] = (),
        raw: bool | None = None,
        calibration: Path | None = None,
    ) -> Kind:
        """From what a user gives; `given` are fields of Sampling, None where he does not name one.

        Quantiles are calibrated by the file, unless `raw`, and its temperature and top-p are then their defaults. The
        bands of another sampling are not those that were measured: they stay as sampled.

        Raises ConfigError, and InputMissing for a damaged file.
        """
        wanted = bool(quantiles) and not raw
        read = read_calibration(calibration) if wanted and calibration is not None else None
        if sampling is None:
            sampling = Sampling(temperature=read.temperature, top_p=read.top_p) if read else Sampling()
        sampling = replace(sampling, **{name: one for name, one in given.items() if one is not None})
        why = _as_sampled(read, sampling) if wanted else None
        return cls(
            sampling=sampling,
            paths=paths,
            quantiles=tuple(sorted(set(quantiles))),
            raw=raw,
            calibration=read if why is None else None,
            as_sampled=why,
        )

    def notes(self, horizon: int) -> list[str]:
        """What the user must know of the quantiles of so many steps."""
        if self.as_sampled is not None:
            return [f"quantiles are as sampled: {self.as_sampled}"]
        if self.calibration is None:
            return []
        notes = []
        if horizon > self.calibration.horizon:
            notes.append(f"quantiles are calibrated for {self.calibration.horizon} steps: later ones are as the last")
        outermost = max(abs(2 * quantile - 1) for quantile in self.quantiles)
        if outermost > self.calibration.reached:
            notes.append(
                f"the {self.calibration.dates} dates of the calibration suffice for bands of up to "
                f"{100 * self.calibration.reached:g} %: wider ones are rough"
            )
        rarest = min((min(one, 1 - one) for one in self.quantiles if 0 < one < 1), default=1.0)
        if (self.sampling.samples + 1) * rarest < 1 - 1e-9:
            least = -(-1 // rarest) - 1
            notes.append(f"{self.sampling.samples} samples are too few for the outer quantiles: set {least:g} or more")
        return notes


def _as_sampled(read: Calibration | None, sampling: Sampling) -> str | None:
    if read is None:
        return "these weights have no calibration.json, which the evaluation of a run leaves beside its stages"
    if not read.factors:
        return f"calibration.json has no factors ({read.note or 'without a reason'})"
    if not read.holds_for(sampling):
        return (
            f"calibration holds for temperature {read.temperature:g} and top-p {read.top_p:g} without top-k; "
            "these are the defaults"
        )
    return None
