"""Single bars whose price jumps away and comes back, as after a slip of a digit; called when a series is surveyed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

FAR = 2.0  # times the bars beside it, at the least
AT_THE_END = 20.0  # the same for the first and the last bar, which have a neighbour on one side only
UNUSUAL = 20  # times the usual move from bar to bar


def outliers(values: Float64) -> list[tuple[int, float]]:
    """Rows of one symbol's values [N, 6] that stand alone, and by what factor: the worst first.

    A bar stands alone when one of its prices is far above, or far below, both the close before it and the open after
    it, which agree with each other. Where prices go below 0 none is told.
    """
    rows = np.arange(len(values))
    least = values[:, :4].min(initial=1)
    if least < 0:
        return []  # of a spread no factor can be told
    if least == 0:
        rows = np.flatnonzero((values[:, :4] > 0).all(axis=1))
        values = values[rows]
    if len(values) < 5:
        return []
    opens, closes = values[:, 0], values[:, 3]
    top, bottom = values[:, :4].max(axis=1), values[:, :4].min(axis=1)
    before, after = np.roll(closes, 1), np.roll(opens, -1)
    before[0], after[-1] = after[0], before[-1]
    far = (top > FAR * np.maximum(before, after)) | (bottom * FAR < np.minimum(before, after))
    candidates = np.flatnonzero(far)
    if not len(candidates):
        return []
    usual = float(np.median(np.abs(np.diff(np.log(closes)))))
    enough = np.full(len(candidates), max(np.log(FAR), UNUSUAL * usual))
    ends = (candidates == 0) | (candidates == len(values) - 1)
    enough[ends] = max(np.log(AT_THE_END), enough[0])
    up = np.log(top[candidates] / np.maximum(before, after)[candidates])
    down = np.log(bottom[candidates] / np.minimum(before, after)[candidates])
    away = np.where(up > -down, up, down)
    apart = np.abs(np.log(before[candidates] / after[candidates]))
    alone = (np.abs(away) >= enough) & (apart < np.abs(away) / 2)
    worst = np.flatnonzero(alone)[np.argsort(-np.abs(away[alone]), kind="stable")]
    return [(int(rows[candidates[at]]), float(np.exp(away[at]))) for at in worst]
