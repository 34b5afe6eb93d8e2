"""The checked bars of one symbol -> a summary and the findings; called wherever bars are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from kronos_trainer.data.labels import right_labelled, starts
from kronos_trainer.data.quality.findings import EXAMPLES, Findings, Found, stamp
from kronos_trainer.data.quality.halts import SHORTEST, still_runs, unusual
from kronos_trainer.data.quality.outliers import outliers
from kronos_trainer.data.quality.splits import adjusted, splits
from kronos_trainer.data.quality.trading_hours import HOUR, Gap, spacing, trading_hours
from kronos_trainer.data.scaling import ORDINARY
from kronos_trainer.data.zones import local_times

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Example = tuple[str, int, int]  # what was found, from when to when
Say = Callable[..., None]  # (kind, *examples), the worst first
Label = Literal["left", "right"]
Adjust = Literal["none", "splits"]

OFTEN = 0.1  # of the bars without volume: so many are reported even if not consecutive
EASTERNMOST = 14 * HOUR  # ahead of UTC
WORST = 3  # gaps that are kept
HALF = 0.1  # of the least volume of the bars before it: a last bar with less is not over
BEFORE = 50  # bars that the last one is compared with


@dataclass(frozen=True)
class Series:
    """What the bars of one symbol are, as they were read; times are wall-clock ns."""

    symbol: str
    rows: int  # read; there are fewer bars where they were resampled
    first: int
    last: int
    step: int  # ns from bar to bar, 0 for a single one
    regular: float  # share of the steps that are no longer than that
    zone: str | None  # of that clock; None where no file names one
    hours: str  # when it trades
    holidays: int  # trading days without a bar
    missing: int  # bars in gaps
    gap_count: int
    gaps: tuple[Gap, ...]  # the longest
    low: float
    high: float
    zero_volume: float  # share of the bars
    still: int  # bars in unusual runs of the same prices


def surveyed(
    symbol: str,
    times: Int64,
    values: Float64,
    zone: str | None,
    findings: Findings,
    *,
    label: Label = "left",
    adjust: Adjust = "none",
) -> tuple[Int64, Float64, Series]:
    """Times [N] and values [N, 6] of one symbol, ascending, by the label and, if requested, adjusted for splits.

    Anomalies of the returned bars go into `findings`.
    """
    step = spacing(times)

    def found(kind: str, *examples: Example) -> None:
        texts, spans = zip(*((text, (first, last)) for text, first, last in examples[:EXAMPLES]), strict=True)
        findings.found.append(Found(kind, symbol, len(examples), texts, spans))

    if label == "right":
        times = starts(times, step)
    elif (why := right_labelled(times, step)) is not None:
        found("rightLabel", (f"({why})", int(times[0]), int(times[-1])))

    likely = splits(times, values)
    mended = [split for split in likely if split.clear] if adjust == "splits" else []
    for split in likely:
        found("adjusted" if split in mended else "split", (f"on {stamp(split.at)} ({split.ratio})", split.at, split.at))
    if mended:
        values = adjusted(values, mended)

    hours = trading_hours(times, step)
    if hours.gaps:
        found("gap", *map(_gap, hours.gaps))
    still = _prices(found, times, values)
    if not findings.without_volume:
        _volume(found, times, values[:, 4], still)
    bars = Series(
        symbol=symbol,
        rows=len(times),
        first=int(times[0]),
        last=int(times[-1]),
        step=step,
        regular=float(np.count_nonzero(np.diff(times) <= step)) / max(len(times) - 1, 1),
        zone=zone,
        hours=hours.text,
        holidays=hours.holidays,
        missing=hours.missing,
        gap_count=len(hours.gaps),
        gaps=hours.gaps[:WORST],
        low=float(values[:, 2].min()),
        high=float(values[:, 1].max()),
        zero_volume=float(np.count_nonzero(values[:, 4] == 0)) / len(values),
        still=int(still.sum()),
    )
    return times, values, bars


def ahead(series: Sequence[Series], now: int) -> list[Found]:
    """What has stamps later than `now`, ns since 1970 in UTC, or a last bar that is not over yet.

    Where no zone is known, only what is later than any clock on earth.
    """
    found = []
    clocks: dict[str | None, int] = {None: now + EASTERNMOST}
    for one in series:
        if one.zone not in clocks:
            clocks[one.zone] = int(local_times(np.array([now]), one.zone)[0])
        clock = clocks[one.zone]
        if one.last > clock:
            found.append(Found("future", one.symbol, 1, (f"up to {stamp(one.last)}",), ((one.last, one.last),)))
        elif one.last + one.step > clock:
            text = f"on {stamp(one.last)} (it is not over yet)"
            found.append(Found("unfinished", one.symbol, 1, (text,), ((one.last, one.last),)))
    return found


def _gap(gap: Gap) -> Example:
    bars = "1 bar" if gap.missing == 1 else f"{gap.missing:,} bars"
    return f"after {stamp(gap.after)} until {stamp(gap.until)} ({bars})", gap.after, gap.until


def _prices(found: Say, times: Int64, values: Float64) -> Bool:
    """Finds anomalies of the prices, and returns which bars stand still."""
    low, high = values[:, 2], values[:, 1]
    if len(times) > 1 and low.min() == high.max():
        found("constantPrice", (f"from {low[0]:g}", int(times[0]), int(times[-1])))
        return np.ones(len(times), np.bool_)
    alone = outliers(values)
    if alone:
        found("outlier", *((f"on {stamp(times[row])} ({_times(by)})", *_at(times, row)) for row, by in alone))
    still = np.zeros(len(times), np.bool_)
    runs = still_runs(values)
    for first, count in runs:
        still[first : first + count] = True
    if runs:
        found("halt", *(_run(times, first, count, f" at {values[first, 3]:g}") for first, count in runs))
    if low.min() < 0:
        row = int(low.argmin())
        found("negativePrice", (f"down to {low[row]:g} on {stamp(times[row])}", *_at(times, row)))
    elif 0 < (middle := float(np.median(values[:, 3]))) < ORDINARY:
        found("tinyPrice", (f"around {middle:.2g}", int(times[0]), int(times[-1])))
    return still


def _volume(found: Say, times: Int64, volumes: Float64, still: Bool) -> None:
    none = volumes == 0
    if none.all():
        found("zeroVolume", ("in every bar", int(times[0]), int(times[-1])))
        return
    none &= ~still  # already reported as a halt
    share = np.count_nonzero(none) / len(none)
    if runs := unusual(none):
        found("zeroVolume", *(_run(times, first, count, "") for first, count in runs))
    elif share >= OFTEN and len(none) * share >= SHORTEST:
        found("zeroVolume", (f"in {share:.0%} of the bars", int(times[0]), int(times[-1])))
    before = volumes[-1 - BEFORE : -1]
    before = before[before > 0]
    if len(before) >= BEFORE / 2 and 0 < volumes[-1] < HALF * before.min():
        usual = f"its volume is {volumes[-1] / np.median(before):.1%} of the usual"
        found("unfinished", (f"on {stamp(times[-1])} ({usual})", *_at(times, -1)))


def _run(times: Int64, first: int, count: int, where: str) -> Example:
    start, end = int(times[first]), int(times[first + count - 1])
    return f"from {stamp(start)} ({count:,} bars{where})", start, end


def _at(times: Int64, row: int) -> tuple[int, int]:
    return int(times[row]), int(times[row])


def _times(factor: float) -> str:
    times = max(factor, 1 / factor)
    text = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"x{text}" if factor > 1 else f"x1/{text}"
