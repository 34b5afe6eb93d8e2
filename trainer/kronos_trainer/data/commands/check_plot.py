"""Draws checked bars into a PNG: close and volume, findings, and splits. Called by `kronos data check`."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from kronos_trainer.charts import GRID, INK, plain
from kronos_trainer.data.bars import Bars
from kronos_trainer.data.commands.check import Checked
from kronos_trainer.data.quality.findings import KINDS, Found
from kronos_trainer.data.quality.trading_hours import DAY

MOST = 12  # symbols that are drawn: the worst
POINTS = 1500  # of a line; more cannot be distinguished
PRICE, VOLUME = "#20639b", "#9fb3c8"
SPLITS = {"train": "#f3f6fa", "validation": "#fdf3d8", "test": "#e3f2e6"}
SHADED = {"gap": ("#d1495b", "bars missing"), "halt": ("#8d6a9f", "the same prices")}
LINED = {"split": ("#d1495b", "split"), "adjusted": ("#2a9d8f", "adjusted split")}
MARKED = {"outlier": "wrong bar", "zeroPrice": "price of 0", "contradiction": "contradiction"}
MARK = "#e07a00"

Float64 = npt.NDArray[np.float64]


def overview_png(checked: Checked) -> bytes:
    """A PNG of the bars of one symbol, or small ones of the dozen with the worst findings."""
    bars = checked.bars
    assert bars is not None
    shown = _worst(bars, checked.found)
    columns = 1 if len(shown) == 1 else 2 if len(shown) <= 4 else 3
    rows = -(-len(shown) // columns)
    size = (11, 6.2) if len(shown) == 1 else (5.2 * columns, 2.9 * rows + 0.9)
    figure = Figure(figsize=size, dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    cells = np.ravel(figure.subfigures(rows, columns, squeeze=False, wspace=0.03, hspace=0.05))
    for cell, symbol in zip(cells, shown, strict=False):
        _draw(cell, checked, symbol, alone=len(shown) == 1)
    more = "" if len(shown) == len(bars.symbols) else f": {len(shown)} of {len(bars.symbols):,} symbols"
    figure.suptitle(f"{checked.path}, {checked.timeframe} bars{more}", x=0.01, ha="left", color=INK, fontsize=11)
    figure.legend(handles=_legend(checked, shown), loc="outside lower left", ncols=9, frameon=False, fontsize=8)
    image = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a symbol in a script that no font here has
        figure.savefig(image, format="png")
    return image.getvalue()


def _worst(bars: Bars, found: Sequence[Found]) -> list[int]:
    """Which symbols to draw: those with the worst findings first."""
    order = list(KINDS)
    worst = {symbol: len(order) for symbol in bars.symbols}
    for one in found:
        if one.symbol in worst:
            worst[one.symbol] = min(worst[one.symbol], order.index(one.kind))
    return sorted(range(len(bars.symbols)), key=lambda index: worst[bars.symbols[index]])[:MOST]


def _draw(cell: SubFigure, checked: Checked, index: int, *, alone: bool) -> None:
    bars = checked.bars
    assert bars is not None
    name = bars.symbols[index]
    rows = slice(bars.offsets[index], bars.offsets[index + 1])
    found = [one for one in checked.found if one.symbol == name]
    gaps = [span for one in found if one.kind == "gap" for span in one.spans]
    times, close, low, high, volume = _thinned(bars.times[rows], bars.values[rows].astype(np.float64), gaps)
    traded = bool((volume > 0).any())
    panels = cell.subplots(2 if traded else 1, 1, sharex=True, squeeze=False, height_ratios=[4, 1] if traded else [1])
    price, bottom = panels[0, 0], panels[-1, 0]
    positive = close > 0
    logarithmic = bool(positive.any() and not (low < 0).any())
    for axes in panels[:, 0]:
        _splits(axes, checked)
        plain(axes)
    price.fill_between(
        times, np.where(low > 0, low, close) if logarithmic else low, high, color=PRICE, alpha=0.18, lw=0
    )
    price.plot(times, np.where(positive, close, np.nan) if logarithmic else close, color=PRICE, lw=1.1)
    if logarithmic:
        _logarithmic(price)
    else:
        price.yaxis.set_major_locator(MaxNLocator(nbins=6))
    for one in found:
        _mark(price, one, times, close)
    price.set_title(name, loc="left", color=INK, fontsize=11 if alone else 9, fontweight="bold")
    if traded:
        bottom.fill_between(times, volume, step="mid", color=VOLUME, lw=0)
        bottom.set_ylim(bottom=0)
        bottom.yaxis.set_major_locator(MaxNLocator(nbins=2))
        bottom.yaxis.set_major_formatter(EngFormatter(sep=""))
    if alone:
        price.set_ylabel("close, low to high shaded", color=INK, fontsize=9)
        bottom.set_ylabel("volume" if traded else bottom.get_ylabel(), color=INK, fontsize=9)
        cell.align_ylabels()
    bottom.set_xlim(times[0], max(times[-1], times[0] + 1 / 1440))
    locator = AutoDateLocator(minticks=3, maxticks=9 if alone else 5)  # type: ignore[no-untyped-call]
    bottom.xaxis.set_major_locator(locator)
    bottom.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _thinned(
    times: npt.NDArray[np.int64], values: Float64, gaps: Sequence[tuple[int, int]]
) -> tuple[Float64, Float64, Float64, Float64, Float64]:
    """Days since 1970, close, low, high and volume of as many points as can be distinguished: no extreme is lost.

    In each gap stands a point without values, which breaks a line.
    """
    step = max(1, len(times) // POINTS)
    starts = np.arange(0, len(times), step)
    ends = np.append(starts[1:], len(times)) - 1
    holes = np.searchsorted(times[ends], [last for _, last in gaps])

    def broken(points: Float64, there: float | list[float] = np.nan) -> Float64:
        return np.insert(points, holes, there)

    return (
        broken(times[ends] / DAY, [(first + last) / 2 / DAY for first, last in gaps]),
        broken(values[ends, 3]),
        broken(np.minimum.reduceat(values[:, 2], starts)),
        broken(np.maximum.reduceat(values[:, 1], starts)),
        broken(np.maximum.reduceat(values[:, 4], starts)),
    )


def _splits(axes: Axes, checked: Checked) -> None:
    for name, colour in SPLITS.items():
        if checked.splits is not None:
            start, end = checked.splits.spans[name]
            if start < end:
                axes.axvspan(_date(start), _date(end), color=colour, lw=0, zorder=0)


def _mark(axes: Axes, found: Found, times: Float64, close: Float64) -> None:
    for first, last in found.spans:
        start, end = _date(first), _date(last)
        if found.kind in SHADED:
            axes.axvspan(start, end, color=SHADED[found.kind][0], alpha=0.35, lw=1, zorder=1)
        elif found.kind in LINED:
            axes.axvline(start, color=LINED[found.kind][0], lw=1, ls=(0, (4, 3)), zorder=2)
        elif found.kind in MARKED:
            at = int(np.clip(np.searchsorted(times, start), 0, len(times) - 1))
            height = close[at] if close[at] > 0 or axes.get_yscale() == "linear" else close[max(at - 1, 0)]
            axes.plot(times[at], height, "o", ms=9, mfc="none", mec=MARK, mew=1.6, zorder=4)
    if found.kind in LINED:
        text = found.examples[0].rpartition("(")[2].rstrip(")")
        axes.annotate(
            text, (_date(found.spans[0][0]), 1), xycoords=("data", "axes fraction"), xytext=(3, -10),
            textcoords="offset points", color=LINED[found.kind][0], fontsize=8,
        )  # fmt: skip


def _legend(checked: Checked, shown: Sequence[int]) -> list[Line2D | Patch]:
    assert checked.bars is not None
    names = {checked.bars.symbols[index] for index in shown}
    kinds = {one.kind for one in checked.found if one.symbol in names}
    handles: list[Line2D | Patch] = []
    if checked.splits is not None:
        for name, colour in SPLITS.items():
            if checked.splits.spans[name][0] < checked.splits.spans[name][1]:
                handles.append(Patch(facecolor=colour, edgecolor=GRID, label=name))
    handles += [Patch(color=colour, alpha=0.35, label=text) for kind, (colour, text) in SHADED.items() if kind in kinds]
    handles += [
        Line2D([], [], color=colour, ls="--", label=text) for kind, (colour, text) in LINED.items() if kind in kinds
    ]
    marks = [text for kind, text in MARKED.items() if kind in kinds]
    if marks:
        handles.append(Line2D([], [], ls="", marker="o", ms=8, mfc="none", mec=MARK, mew=1.6, label=", ".join(marks)))
    return handles


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    narrow = high < 8 * low
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6) if narrow else LogLocator(subs=(1, 2, 5), numticks=10))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _date(time: int) -> float:
    """Days since 1970, as matplotlib counts them."""
    return time / DAY
