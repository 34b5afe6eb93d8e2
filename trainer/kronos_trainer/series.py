"""The checked bars of one symbol -> what is there and what is odd about it; called wherever bars are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from kronos_trainer.findings import Findings, Found
from kronos_trainer.halts import still_runs, unusual
from kronos_trainer.labels import right_labelled, starts
from kronos_trainer.outliers import outliers
from kronos_trainer.rows import MOST_EXAMPLES
from kronos_trainer.scaling import ORDINARY
from kronos_trainer.splits import adjusted, splits
from kronos_trainer.trading_hours import Gap, spacing, trading_hours

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Say = Callable[..., None]  # (kind, how often, *examples)
Label = Literal["left", "right"]
Adjust = Literal["none", "splits"]

OFTEN = 0.1  # of the bars without volume: so many are said even where they do not follow each other
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
    """Times [N] and values [N, 6] of one symbol, ascending, by the label and adjusted for splits if so wished.

    What is odd goes into `findings`, as found in the bars that are given back.
    """
    step = spacing(times)

    def found(kind: str, count: int, *examples: str) -> None:
        examples = examples[:MOST_EXAMPLES]
        findings.found.append(Found(kind, symbol, count, examples))

    if label == "right":
        times = starts(times, step)
    elif (why := right_labelled(times, step)) is not None:
        found("rightLabel", 1, f"({why})")

    likely = splits(times, values)
    mended = [split for split in likely if split.clear] if adjust == "splits" else []
    for split in likely:
        found("adjusted" if split in mended else "split", 1, f"on {stamp(split.at)} ({split.ratio})")
    if mended:
        values = adjusted(values, mended)

    hours = trading_hours(times, step)
    if hours.gaps:
        found("gap", len(hours.gaps), *map(_gap_text, hours.gaps))
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


def stamp(time: int | np.integer) -> str:
    """Wall-clock ns for people: 2024-01-05 03:00, without the clock at midnight."""
    text = str(np.datetime64(int(time), "ns").astype("datetime64[s]")).replace("T", " ")
    return text.removesuffix(" 00:00:00").removesuffix(":00")


def _gap_text(gap: Gap) -> str:
    bars = "1 bar" if gap.missing == 1 else f"{gap.missing:,} bars"
    return f"after {stamp(gap.after)} until {stamp(gap.until)} ({bars})"


def _prices(found: Say, times: Int64, values: Float64) -> Bool:
    """Finds what is odd about the prices, and returns which bars stand still."""
    low, high = values[:, 2], values[:, 1]
    if len(times) > 1 and low.min() == high.max():
        found("constantPrice", 1, f"from {low[0]:g}")
        return np.ones(len(times), np.bool_)
    rows, factors = outliers(values)
    if len(rows):
        order = np.argsort(-np.abs(np.log(factors)), kind="stable")
        found("outlier", len(rows), *(f"on {stamp(times[rows[at]])} ({_factor(factors[at])})" for at in order))
    runs, lengths = still_runs(values)
    if len(runs):
        order = np.argsort(-lengths, kind="stable")
        texts = (f"from {stamp(times[runs[at]])} ({lengths[at]:,} bars at {values[runs[at], 3]:g})" for at in order)
        found("halt", len(runs), *texts)
    if low.min() < 0:
        row = int(low.argmin())
        found("negativePrice", 1, f"down to {low[row]:g} on {stamp(times[row])}")
    elif 0 < (middle := float(np.median(values[:, 3]))) < ORDINARY:
        found("tinyPrice", 1, f"around {middle:.2g}")
    still = np.zeros(len(times), np.bool_)
    for first, length in zip(runs, lengths, strict=True):
        still[first : first + length] = True
    return still


def _volume(found: Say, times: Int64, volumes: Float64, still: Bool) -> None:
    none = volumes == 0
    share = np.count_nonzero(none) / len(none)
    if share == 1:
        found("zeroVolume", 1, "in every bar")
        return
    runs, lengths = unusual(none & ~still)  # a halt was said already
    if len(runs):
        order = np.argsort(-lengths, kind="stable")
        found("zeroVolume", len(runs), *(f"from {stamp(times[runs[at]])} ({lengths[at]:,} bars)" for at in order))
    elif np.count_nonzero(none & ~still) >= OFTEN * len(none):
        found("zeroVolume", 1, f"in {share:.0%} of the bars")
    before = volumes[-1 - BEFORE : -1]
    before = before[before > 0]
    if len(before) >= BEFORE / 2 and 0 < volumes[-1] < HALF * before.min():
        found(
            "unfinished", 1, f"on {stamp(times[-1])} (its volume is {volumes[-1] / np.median(before):.1%} of the usual)"
        )


def _factor(factor: float) -> str:
    times = max(factor, 1 / factor)
    text = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"x{text}" if factor > 1 else f"x1/{text}"
