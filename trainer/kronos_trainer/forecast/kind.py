"""The requested result of a forecast: averages, quantiles or every path. Checked before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass

from kronos_trainer.errors import ConfigError
from kronos_trainer.forecast.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Averages of the paths, unless quantiles or all paths are requested.

    Raises ConfigError for both at once, for quantiles outside of 0..1, and for quantiles of a single path.
    """

    sampling: Sampling
    paths: bool = False
    quantiles: tuple[float, ...] = ()
    raw: bool | None = None
    """Leave bars that contradict themselves as they were drawn; None: only those of top_k 1."""

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
