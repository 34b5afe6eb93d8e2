"""Single bars whose price spikes and reverts, e.g. after a mistyped digit; called when a series is surveyed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

FAR = 2.0  # times the bars beside it, at the least
AT_THE_END = 20.0  # the same for the first and the last bar, which have a neighbour on one side only
BLOCK = 50_000  # bars that are looked at together: what fits the caches is fast
UNUSUAL = 20  # times the usual move from bar to bar


def outliers(values: Float64) -> list[tuple[int, float]]:
    """Rows of one symbol's values [N, 6] that stand alone, and by what factor: the worst first.

    A bar stands alone when one of its prices is far above, or far below, both the close before it and the open after
    it, which agree with each other. Where prices go below 0, none is reported.
    """
    rows = np.arange(len(values))
    least = min(values[:, column].min(initial=1) for column in range(4))
    if least < 0:
        return []  # a spread has no meaningful factor
    if least == 0:
        rows = np.flatnonzero((values[:, :4] > 0).all(axis=1))
        values = values[rows]
    if len(values) < 5:
        return []
    opens, closes = values[:, 0], values[:, 3]
    before, after = np.concatenate([opens[1:2], closes[:-1]]), np.concatenate([opens[1:], closes[-2:-1]])
    candidates = np.concatenate(
        [
            _far(values[block : block + BLOCK], before[block : block + BLOCK], after[block : block + BLOCK]) + block
            for block in range(0, len(values), BLOCK)
        ]
    )
    if not len(candidates):
        return []
    usual = float(np.median(np.abs(np.diff(np.log(closes)))))
    enough = np.full(len(candidates), max(np.log(FAR), UNUSUAL * usual))
    ends = (candidates == 0) | (candidates == len(values) - 1)
    enough[ends] = max(np.log(AT_THE_END), enough[0])
    before, after, prices = before[candidates], after[candidates], values[candidates, :4]
    up = np.log(prices.max(axis=1) / np.maximum(before, after))
    down = np.log(prices.min(axis=1) / np.minimum(before, after))
    away = np.where(up > -down, up, down)
    apart = np.abs(np.log(before / after))
    alone = (np.abs(away) >= enough) & (apart < np.abs(away) / 2)
    worst = np.flatnonzero(alone)[np.argsort(-np.abs(away[alone]), kind="stable")]
    return [(int(rows[candidates[at]]), float(np.exp(away[at]))) for at in worst]


def _far(values: Float64, before: Float64, after: Float64) -> Int64:
    """Rows of values [N, 6] with a price that is FAR from both the price before and the one after it."""
    first, second, third, fourth = (values[:, column] for column in range(4))  # numpy is slow along an axis of four
    top = np.maximum(np.maximum(first, second), np.maximum(third, fourth))
    bottom = np.minimum(np.minimum(first, second), np.minimum(third, fourth))
    rows: Int64 = np.flatnonzero((top > FAR * np.maximum(before, after)) | (bottom * FAR < np.minimum(before, after)))
    return rows
