"""What baselines that are fitted once may read: each symbol's bars before the test span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from kronos_trainer.evaluation.cells import Int64, Origin


@dataclass(frozen=True)
class History:
    """Bars of one symbol that end before the test span begins."""

    bars: npt.NDArray[np.float32]  # [T, 6], as in Origin
    times: Int64  # [T], wall clock, ns


@dataclass(frozen=True)
class Past:
    """The histories of all symbols that are forecast, in the order of their names."""

    histories: Mapping[str, History]
    horizon: int

    @classmethod
    def before(cls, origins: Iterable[Origin]) -> Self:
        """Before the test span of these origins. Their order does not matter."""
        found: dict[str, History] = {}
        horizon = 0
        for origin in origins:
            horizon = origin.horizon
            known = found.get(origin.symbol)
            if known is None or origin.fitted < len(known.bars):
                found[origin.symbol] = History(origin.bars[: origin.fitted], origin.times[: origin.fitted])
        return cls(dict(sorted(found.items())), horizon)
