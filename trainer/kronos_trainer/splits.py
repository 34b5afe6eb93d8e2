"""Jumps of the price that look like a split for which the bars were not adjusted; called wherever bars are read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# New shares for old ones; each also the other way round, as a reverse split.
_RATIOS = ((3, 2), *((new, 1) for new in (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100)))
NEAR = 0.03  # how far, as a logarithm, the price may open from the ratio
STAYS = 0.2  # and how far from it the next bars may be, as a logarithm
BARS = 5  # that are looked at on each side
UNUSUAL = 10  # times the usual move from bar to bar


def splits(times: Int64, values: Float64) -> list[tuple[str, str]]:
    """Day and ratio (4:1 is four new shares for an old one) of each likely split in the bars of one symbol.

    `times` [N] are wall-clock nanoseconds, `values` [N, 6] in the order of FEATURES. The price must
    open at the ratio and stay there, far beyond its usual moves: a crash may look alike, a wrong bar does not.
    """
    if len(times) <= 2 * BARS or (values[:, (0, 3)] <= 0).any():
        return []  # too few to tell, or a spread, which has no shares
    opens, closes = np.log(values[:, 0]), np.log(values[:, 3])
    jumps = opens[1:] - closes[:-1]
    usual = np.median(np.abs(np.diff(closes)))
    found = []
    for row in np.flatnonzero(np.abs(jumps) > max(UNUSUAL * usual, np.log(1.5) - NEAR)):
        before = np.median(closes[max(row + 1 - BARS, 0) : row + 1])
        after = np.median(closes[row + 1 : row + 1 + BARS])
        for new, old in _RATIOS:
            expected = np.copysign(np.log(new / old), jumps[row])
            if abs(jumps[row] - expected) <= NEAR and abs(after - before - expected) <= STAYS:
                day = str(times[row + 1].astype("datetime64[ns]").astype("datetime64[D]"))
                found.append((day, f"{new}:{old}" if expected < 0 else f"{old}:{new}"))
                break
    return found
