"""Bars in which nothing happens: the same prices again and again, or no volume; called when a series is surveyed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

SHORTEST = 5  # bars; a shorter run is never reported
CHANCE = 0.01  # how often a run may be there by chance in a series that is often still


def still_runs(values: Float64) -> list[tuple[int, int]]:
    """First row and length of unusually long runs of the same four prices in values [N, 6], the longest first."""
    same = values[1:, 3] == values[:-1, 3]
    if same.any():
        for column in range(3):
            same &= values[1:, column] == values[:-1, column]
    # the first bar of a run differs from the one before it
    return [(first, count + 1) for first, count in unusual(same)]


def unusual(mask: Bool) -> list[tuple[int, int]]:
    """First row and length of runs of True that are too long for chance, given the other rows; the longest first."""
    edges = np.flatnonzero(np.diff(mask.view(np.int8), prepend=0, append=0))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(lengths) or lengths.max() < SHORTEST - 1:
        return []
    longest = int(lengths.max())
    others = len(mask) - longest
    share = (int(lengths.sum()) - longest) / others if others else 0.0
    least = float(SHORTEST - 1)
    if 0 < share < 1:
        # quiet hours follow each other: twice what chance alone would make
        least = max(least, 2 * math.log(CHANCE / len(mask)) / math.log(share))
    order = np.argsort(-lengths, kind="stable")
    return [(int(starts[at]), int(lengths[at])) for at in order if lengths[at] >= least]
