"""What was drawn -> quantiles of each number of each bar, calibrated where the model is. Called by `outcome`.

Close has its own factors. Open, high and low of a step get those of its close, each around its own median, for their
bands are measured nowhere; volume and amount stay as sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from kronos_trainer.forecast.bands import apply
from kronos_trainer.forecast.consistency import PRICES, consistent
from kronos_trainer.forecast.drawing import Drawn
from kronos_trainer.forecast.kind import Kind

Floats = npt.NDArray[np.float64]


def column(field: str, quantile: float) -> str:
    """Name of a quantile's column, in percent: close_q05, close_q50, close_q97_5."""
    whole, _, rest = format((Decimal(str(quantile)) * 100).normalize(), "f").partition(".")
    return f"{field}_q{whole.zfill(2)}" + (f"_{rest}" if rest else "")


def quantile_bars(drawn: Drawn, kind: Kind) -> Floats:
    """The quantiles of `kind` of a draw: [Q, H, 6], in the order of FEATURES."""
    bars = np.quantile(drawn.paths, kind.quantiles, axis=0)
    if kind.calibration is not None and _positive(drawn):
        logs = np.log(np.moveaxis(drawn.paths[..., PRICES], -1, 0))
        bars[..., PRICES] = np.exp(np.moveaxis(apply(kind.calibration, logs, kind.quantiles), 1, -1))
    if drawn.repairs is not None:
        # interpolation may be off by a last digit, and medians differ: a wider band of the close may leave the high's
        bars, _ = consistent(bars, bars.reshape(-1, bars.shape[-1]))
    return bars


def not_calibrated(drawn: Sequence[Drawn], kind: Kind) -> str | None:
    """A note on symbols whose quantiles are as sampled though the model is calibrated."""
    left = sum(not _positive(one) for one in drawn) if kind.calibration is not None else 0
    return f"quantiles of {left} symbol(s) are as sampled: prices of 0 or less were drawn" if left else None


def _positive(drawn: Drawn) -> bool:
    """Calibration is in log price."""
    return bool((drawn.paths[..., PRICES] > 0).all())
