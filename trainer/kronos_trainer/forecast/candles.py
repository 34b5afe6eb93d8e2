"""Draws history and forecast as candles with volume below, into a PNG. Called by the forecast command."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from kronos_trainer.charts import INK, plain
from kronos_trainer.forecast.fonts import fonts_for

Floats = npt.NDArray[np.float64]

RISE, FALL, FORECAST, FAN = "#2a9d8f", "#d1495b", "#edf2fb", "#3a5a98"
DARKEST = 0.55  # of the narrowest band, between the shade of the forecast and the line of the median
MOST_BANDS_NAMED = 4
BODY = 0.7  # width of a candle, in bars
LONGEST_NAME = 60  # characters of a symbol that fit into the title
MOST_HISTORY = 400  # more candles than this cannot be distinguished


def candles_png(
    history: pd.DataFrame, forecast: pd.DataFrame, symbol: str, fan: Mapping[float, Floats] | None = None
) -> tuple[bytes, str | None]:
    """A PNG of the last bars of `history` (about twice the horizon) and of `forecast`, which is shaded, and a note.

    Both have columns timestamps, open, high, low, close, volume. With a `fan`, quantiles of the close [H] by their
    level, ascending, it takes the place of the forecast's candles: the median is a line, two quantiles that lie
    opposite, such as 0.1 and 0.9, bound a band, and others are thin lines. Bars are spaced evenly: the nights and
    weekends between them take no room. The title names the symbol and the days of the forecast; the note its signs that
    no font here has.
    """
    families, title, note = fonts_for(_title(symbol, pd.DatetimeIndex(forecast["timestamps"])))
    shown = history.tail(min(max(2 * len(forecast), 40), MOST_HISTORY))
    bars = pd.concat([shown, forecast], ignore_index=True)
    boundary = len(shown) - 0.5

    figure = Figure(figsize=(11, 6), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    traded = bool((bars["volume"] > 0).any())
    panels = figure.subplots(2 if traded else 1, 1, sharex=True, squeeze=False, height_ratios=[4, 1] if traded else [1])
    price, bottom = panels[0, 0], panels[-1, 0]
    for axes in panels[:, 0]:
        axes.axvspan(boundary, len(bars) - 0.5, color=FORECAST, zorder=0)
        axes.axvline(boundary, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        plain(axes)

    colours = np.where(bars["close"] >= bars["open"], RISE, FALL)
    _draw_candles(price, shown if fan else bars, colours)
    if fan:
        _draw_fan(price, fan, float(shown["close"].iloc[-1]), first=len(shown))
    price.margins(y=0.08)
    price.set_ylabel("price", color=INK)
    # a symbol may hold what mathtext would take for a formula
    price.set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold", fontfamily=families, parse_math=False)
    label = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "color": INK, "fontsize": 9}
    price.annotate("history", (boundary, 1), xytext=(-6, -12), ha="right", **label)
    price.annotate("forecast", (boundary, 1), xytext=(6, -12), ha="left", **label)

    if traded:
        # a sampled volume may be negative: a bar below zero would look like a drawing fault
        bottom.bar(range(len(bars)), bars["volume"].clip(lower=0), width=BODY, color=colours, alpha=0.6, zorder=2)
        bottom.set_ylabel("volume", color=INK)
        bottom.yaxis.set_major_locator(MaxNLocator(nbins=3))
        bottom.yaxis.set_major_formatter(EngFormatter(sep=""))
        figure.align_ylabels()
    _label_times(bottom, bars["timestamps"], first=len(shown))
    bottom.set_xlim(-0.8, len(bars) - 0.5)

    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue(), note


def _title(symbol: str, times: pd.DatetimeIndex) -> str:
    pattern = "%Y-%m-%d %H:%M" if (times != times.normalize()).any() else "%Y-%m-%d"
    name = "".join(sign if sign.isprintable() else " " for sign in symbol)
    name = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return f"{name}: {times[0].strftime(pattern)} – {times[-1].strftime(pattern)} ({len(times)} bars)"


def _draw_candles(axes: Axes, bars: pd.DataFrame, colours: np.ndarray[tuple[int], np.dtype[np.str_]]) -> None:
    position = np.arange(len(bars))
    low, high = bars["low"].to_numpy(), bars["high"].to_numpy()
    wicks = np.stack([np.column_stack([position, low]), np.column_stack([position, high])], axis=1)
    axes.add_collection(LineCollection(list(wicks), colors=colours, linewidths=0.9, zorder=2))

    top, bottom = bars[["open", "close"]].max(axis=1).to_numpy(), bars[["open", "close"]].min(axis=1).to_numpy()
    left, right = position - BODY / 2, position + BODY / 2
    corners = [(left, bottom), (left, top), (right, top), (right, bottom)]
    bodies = np.stack([np.column_stack(corner) for corner in corners], axis=1)
    # the edge keeps a bar visible that opened and closed at the same price
    axes.add_collection(PolyCollection(list(bodies), facecolors=colours, edgecolors=colours, linewidths=0.8, zorder=3))
    axes.autoscale_view()


def _draw_fan(axes: Axes, fan: Mapping[float, Floats], origin: float, *, first: int) -> None:
    """From the last close of the history on, at bar `first` - 1."""
    position = np.arange(first - 1, first + len(next(iter(fan.values()))))
    lines = {level: np.concatenate([[origin], line]) for level, line in fan.items()}
    bands = [(low, high) for low in lines for high in lines if low < 0.5 and abs(low + high - 1) < 1e-9]
    named = -(-len(bands) // MOST_BANDS_NAMED)
    pale, dark = (np.asarray(to_rgb(colour)) for colour in (FORECAST, FAN))
    for index, (low, high) in enumerate(bands):  # from the widest to the narrowest
        shade = tuple(pale + (dark - pale) * DARKEST * (index + 1) / len(bands))
        label = f"{100 * (high - low):.4g} %" if index % named == 0 else None
        axes.fill_between(position, lines[low], lines[high], color=shade, linewidth=0, label=label, zorder=2)
    for level in sorted({*lines} - {end for band in bands for end in band} - {0.5}):
        label = f"{100 * level:.4g} % quantile"
        axes.plot(position, lines[level], color=FAN, linewidth=0.8, linestyle=":", label=label, zorder=3)
    if 0.5 in lines:
        axes.plot(position, lines[0.5], color=FAN, linewidth=1.8, label="median", zorder=3)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=6, frameon=False, fontsize=8, labelcolor=INK)
    axes.autoscale_view()


def _label_times(axes: Axes, times: pd.Series, *, first: int) -> None:
    """About eight labels, one of them at bar `first`, as short as the spacing of the bars allows."""
    stamps = pd.DatetimeIndex(times)
    intraday = bool((stamps != stamps.normalize()).any())
    one_day = stamps[0].normalize() == stamps[-1].normalize()
    pattern = ("%H:%M" if one_day else "%d %b %H:%M") if intraday else "%d %b %Y"
    step = -(-len(stamps) // 8)
    ticks = range(first % step, len(stamps), step)
    axes.set_xticks(ticks, [stamps[tick].strftime(pattern) for tick in ticks], fontsize=8)
