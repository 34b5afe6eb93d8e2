"""Bars in which nothing happens: the same prices again and again, or no volume; called when a series is surveyed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

SHORTEST = 5  # bars; a shorter run is never said
CHANCE = 0.01  # how often a run may be there by chance in a series that is often still


def still_runs(values: Float64) -> tuple[Int64, Int64]:
    """First row and length of each run of unusually many bars with the same four prices, of values [N, 6]."""
    same = values[1:, 3] == values[:-1, 3]
    if same.any():
        for column in range(3):
            same &= values[1:, column] == values[:-1, column]
    starts, lengths = unusual(same)
    return starts, lengths + 1  # the first bar of a run differs from the one before it


def unusual(mask: Bool) -> tuple[Int64, Int64]:
    """First row and length of each run of True that is longer than chance would make it, given the other rows."""
    edges = np.flatnonzero(np.diff(mask.view(np.int8), prepend=0, append=0))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(lengths) or lengths.max() < SHORTEST - 1:
        return starts[:0], lengths[:0]
    longest = int(lengths.max())
    others = len(mask) - longest
    share = (int(lengths.sum()) - longest) / others if others else 0.0
    least = float(SHORTEST - 1)
    if 0 < share < 1:
        # quiet hours follow each other: twice what chance alone would make
        least = max(least, 2 * math.log(CHANCE / len(mask)) / math.log(share))
    long = lengths >= least
    return starts[long], lengths[long]
