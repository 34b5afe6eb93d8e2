"""Fine bars -> coarser bars of one symbol; called while bars are prepared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.config import Timeframe
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.errors import DataError

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

DAY = 86_400_000_000_000
WEEK = 7 * DAY
MONDAY = 4 * DAY  # 1970-01-05, the first Monday after the epoch
FEW = 10  # bars; too few to distinguish a coarse series from one with gaps


def resampled(times: Int64, values: Float64, timeframe: Timeframe, symbol: str) -> tuple[Int64, Float64]:
    """Bars of `timeframe` from finer ones: times [N] and values [N, 6] -> times [M] and values [M, 6].

    Times are wall-clock nanoseconds, ascending. A bar is labelled with its start; starts are counted from local
    midnight, weeks from Monday, months from their first day. A bar takes the first open, highest high, lowest low, last
    close and summed volume and amount. A span without bars gives none, and a last bar that ends before bars of its kind
    usually do is dropped.
    Bars already `timeframe` apart come back unchanged, as the same arrays.
    Raises DataError when the bars are coarser than `timeframe`, or `timeframe` is not a multiple of them.
    """
    if timeframe is Timeframe.MO1:
        return _months(times, values, symbol)
    target = timeframe.seconds * 1_000_000_000
    steps = np.diff(times)
    steps = steps[steps > 0]
    if len(steps) == 0:
        return times, values
    smallest = int(steps.min())
    if smallest > target:
        if len(times) <= FEW:
            return times, values
        raise DataError(
            f"symbol {symbol}: bars are {length(smallest)} apart or more, coarser than timeframe {timeframe}; "
            "use finer bars or a longer timeframe"
        )
    # the half: an odd stamp, or a clock change, makes no fine series of one that is right already
    if smallest == target or (steps == target).mean() > 0.5:
        return times, values
    if int(np.gcd.reduce(steps)) == smallest and target % smallest:
        raise DataError(
            f"symbol {symbol}: timeframe {timeframe} is not a multiple of the file's {length(smallest)} bars"
        )

    anchor = MONDAY if target == WEEK else 0
    labels = (times - anchor) // target * target + anchor
    labels, ends, bars = _merged(labels, values)
    if not _complete(labels, times[ends] - labels, smallest, target):
        labels, bars = labels[:-1], bars[:-1]
    return labels, bars


def _merged(labels: Int64, values: Float64) -> tuple[Int64, Int64, Float64]:
    """One bar for each run of equal labels: the labels [M], the row of each bar's last source bar [M], and values."""
    starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))
    ends = np.append(starts[1:], len(labels)) - 1
    bars = np.column_stack(
        [
            values[starts, 0],
            np.maximum.reduceat(values[:, 1], starts),
            np.minimum.reduceat(values[:, 2], starts),
            values[ends, 3],
            np.add.reduceat(values[:, 4], starts),
            np.add.reduceat(values[:, 5], starts),
        ]
    )
    return labels[starts], ends, bars


def _months(times: Int64, values: Float64, symbol: str) -> tuple[Int64, Float64]:
    """`resampled` for bars of a month, whose length is that of the calendar."""
    days = times // DAY
    months = days.astype("datetime64[D]").astype("datetime64[M]")
    apart = np.diff(months.astype(np.int64))
    if len(times) < 2:
        return times, values
    if apart.min() > 1 and len(times) > FEW:
        raise DataError(
            f"symbol {symbol}: bars are {apart.min()} months apart or more, coarser than timeframe {Timeframe.MO1}; "
            "use finer bars"
        )
    # the half: as for the other timeframes
    if (apart >= 1).mean() > 0.5:
        return times, values
    steps = np.diff(times)
    steps = steps[steps > 0]
    smallest = int(steps.min())
    if int(np.gcd.reduce(steps)) == smallest and DAY % smallest:
        raise DataError(f"symbol {symbol}: a month is not a multiple of the file's {length(smallest)} bars")
    labels, _, bars = _merged(months.astype("datetime64[ns]").astype(np.int64), values)
    if not _month_complete(times, smallest):
        labels, bars = labels[:-1], bars[:-1]
    return labels, bars


def _month_complete(times: Int64, step: int) -> bool:
    """Whether the last month is complete: no weekday with bars is left in it."""
    days = times // DAY
    in_day = times[np.flatnonzero(np.diff(days, append=days[-1] + 1))] % DAY  # of the last bar of each day
    if in_day[-1] + step < DAY and in_day[-1] < np.median(in_day):
        return False
    after = (days[-1].astype("datetime64[D]").astype("datetime64[M]") + 1).astype("datetime64[D]").astype(np.int64)
    left = np.arange(days[-1] + 1, after)
    return not np.isin(left % 7, days % 7).any()


def resampled_frame(bars: pd.DataFrame, timeframe: Timeframe, symbol: str) -> pd.DataFrame:
    """`resampled` for a frame with columns timestamps (naive) and FEATURES, as `readers.read_frame` returns it."""
    times = bars["timestamps"].to_numpy("datetime64[ns]").view(np.int64)
    labels, values = resampled(times, bars[list(FEATURES)].to_numpy(), timeframe, symbol)
    if labels is times:
        return bars
    frame = pd.DataFrame(values, columns=list(FEATURES))
    frame.insert(0, "timestamps", labels.view("datetime64[ns]"))
    return frame


def _complete(labels: Int64, reached: Int64, step: int, target: int) -> bool:
    """Whether the last bar is complete: `reached` is how far into each bar its last source bar begins."""
    if reached[-1] + step >= target:
        return True
    # a market that closes early fills its bars only so far
    alike = reached[:-1][labels[:-1] % DAY == labels[-1] % DAY]
    return len(alike) > 0 and bool(reached[-1] >= np.median(alike))


def length(nanoseconds: int) -> str:
    """A span of time in the largest unit that divides it: 4h, 90m."""
    for unit, size in (("d", DAY), ("h", DAY // 24), ("m", DAY // 1440), ("s", DAY // 86400)):
        if nanoseconds % size == 0:
            return f"{nanoseconds // size}{unit}"
    return f"{nanoseconds / 1e9:g}s"
