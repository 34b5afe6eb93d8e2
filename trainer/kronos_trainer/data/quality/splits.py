"""Price jumps that look like an unadjusted split, and the adjustment of bars for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kronos_trainer.data.quality.trading_hours import DAY

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# New shares for old ones; each also the other way round, as a reverse split.
_RATIOS = np.array([(3, 2), *((new, 1) for new in (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100))])
_LOGS = np.log(_RATIOS[:, 0] / _RATIOS[:, 1])
NEAR = 0.03  # how far, as a logarithm, a quiet price may open from the ratio
NEAR_MOST = 0.15  # and one that moves much overnight
OVERNIGHT = (
    3  # times the usual jump overnight: how far one that is not quiet may open, and twice that if the volume fits
)
STAYS = 0.25  # how far from it the next days may be, as a logarithm
AROUND = 5  # days that are looked at on each side
UNUSUAL = 10  # times the usual move from day to day
EXACT = 0.008  # how far, as a logarithm, one may open that is as exact as a split of a quiet price
ALONE = 6  # times every other jump: a price that jumps often may hit a ratio by chance
ALMOST_ALONE = 4  # times every other jump but one, for an exact ratio: a crash proves nothing against a split
VOLUME = 30  # days of volume on each side
SURE = 2.5  # standard errors by which the volume must have changed


@dataclass(frozen=True)
class Split:
    """A jump that looks like a split into `new` shares for `old` ones; the prices before `row` are the old ones."""

    row: int
    at: int  # wall-clock ns of the row
    new: int
    old: int
    clear: bool  # whether the bars can be adjusted for it

    @property
    def ratio(self) -> str:
        """4:1 is four new shares for an old one."""
        return f"{self.new}:{self.old}"


def splits(times: Int64, values: Float64) -> list[Split]:
    """Likely splits in the bars of one symbol, ascending in time.

    `times` [N] are wall-clock nanoseconds, `values` [N, 6] in the order of FEATURES. Between two days the price must
    jump by the ratio and stay there, far beyond its usual moves: a crash may look alike, a wrong bar does not. Where it
    jumps often, the volume must have changed by the ratio as well. Where bars open at the last close, as if nothing
    happened at night, the jump is looked for from close to close; such a split is never clear.
    """
    days, opens, closes, volumes = _daily(times, values)
    if len(days) <= 2 * AROUND:
        return []  # too few, or a spread, which has no shares
    jumps = opens[1:] - closes[:-1]
    moves = np.diff(closes)
    usual = float(np.median(np.abs(moves)))
    overnight = bool(np.count_nonzero(jumps) * 10 > len(jumps)) or not _far(moves, usual).any()
    found = _found(jumps, closes, volumes, usual)
    if not found and not overnight:
        found = [(day, index, False) for day, index, _ in _found(moves, closes, volumes, usual)]
    result = []
    for day, index, clear in found:
        new, old = (int(part) for part in _RATIOS[index])
        if closes[day + 1] > closes[day]:
            new, old = old, new
        row = int(days[day + 1])
        result.append(Split(row, int(times[row]), new, old, clear))
    return result


def adjusted(values: Float64, found: Sequence[Split]) -> Float64:
    """Values [N, 6] as they would be had the shares always been those after the splits: a copy.

    Prices before a split are divided by its ratio and volumes multiplied; amounts are money and stay.
    """
    values = values.copy()
    for split in found:
        values[: split.row, :4] *= split.old / split.new
        values[: split.row, 4] *= split.new / split.old
    return values


def _daily(times: Int64, values: Float64) -> tuple[Int64, Float64, Float64, Float64]:
    """First row [D], log open, log close and volume of each day; none of them where a price is below 0."""
    opens, closes = values[:, 0], values[:, 3]
    nothing = np.empty(0)
    if not len(times) or min(opens.min(), closes.min()) < 0:
        return np.empty(0, np.int64), nothing, nothing, nothing
    first = np.flatnonzero(np.diff(times // DAY, prepend=times[0] // DAY - 1))
    last = np.append(first[1:], len(times)) - 1
    opens, closes, volumes = opens[first], closes[last], np.add.reduceat(values[:, 4], first)
    priced = (opens > 0) & (closes > 0)
    return first[priced], np.log(opens[priced]), np.log(closes[priced]), volumes[priced]


def _far(jumps: Float64, usual: float) -> npt.NDArray[np.bool_]:
    far: npt.NDArray[np.bool_] = np.abs(jumps) > max(UNUSUAL * usual, _LOGS[0] - NEAR)
    return far


def _found(jumps: Float64, closes: Float64, volumes: Float64, usual: float) -> list[tuple[int, int, bool]]:
    """The day before each likely split, which of the ratios it has, and whether it is clear."""
    sizes = np.abs(jumps)
    far = _far(jumps, usual)
    if not far.any():
        return []
    near = OVERNIGHT * float(np.median(sizes))
    strict, wide = float(np.clip(near, NEAR, NEAR_MOST)), float(np.clip(2 * near, NEAR, NEAR_MOST))
    stays = max(STAYS, 12 * usual)
    others = [0.0, 0.0, *np.sort(sizes[~far])[-2:]]
    likely = []
    for day in np.flatnonzero(far).tolist():
        before = np.median(closes[max(day + 1 - AROUND, 0) : day + 1])
        after = np.median(closes[day + 1 : day + 1 + AROUND])
        index = int(np.abs(_LOGS - sizes[day]).argmin())
        expected = float(np.copysign(_LOGS[index], jumps[day]))
        if abs(jumps[day] - expected) <= wide and abs(after - before - expected) <= stays:
            likely.append((day, index, expected))
        elif abs(after - before) > sizes[day] / 2:  # else a wrong bar, which comes back
            others.append(float(sizes[day]))
    *_, second, largest = sorted(others)
    result = []
    for day, index, expected in likely:
        said, off = _volume_says(volumes, day, expected), abs(jumps[day] - expected)
        alone = sizes[day] > ALONE * largest and off <= strict
        exact = sizes[day] > ALMOST_ALONE * second and off <= max(EXACT, near / OVERNIGHT)
        if said > 0 or alone or exact:
            result.append((day, index, said >= 0))
    return result


def _volume_says(volumes: Float64, day: int, expected: float) -> int:
    """Whether the volume changed as by a split whose prices change by `expected`, a logarithm: 1 yes, -1 against, 0."""
    sides = [volumes[max(day + 1 - VOLUME, 0) : day + 1], volumes[day + 1 : day + 1 + VOLUME]]
    logs = [np.log(side[side > 0]) for side in sides]
    if min(map(len, logs)) < AROUND:
        return 0
    middles = [float(np.median(side)) for side in logs]
    spread = 1.4826 * float(np.median(np.abs(np.concatenate([logs[0] - middles[0], logs[1] - middles[1]]))))
    error = 1.25 * spread * np.sqrt(1 / len(logs[0]) + 1 / len(logs[1]))
    change = (middles[0] - middles[1]) / expected  # 1 for a split
    least = max(0.5, SURE * error / abs(expected))
    if least <= change <= 1 + 1 / abs(expected):
        return 1
    return -1 if change <= -least else 0
