"""One forecast on real candles. Called by html."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from kronos_trainer.evaluation.document import Fan
from kronos_trainer.report import canvas
from kronos_trainer.report.canvas import FAINT, INK, Shape, drawn, plain

BODY = 0.64  # width of a candle, in bars
MOST_ABOVE = 0.5  # of the height of the candles and sampled bands, for a calibrated band
HISTORY = {canvas.WIDE: 45, canvas.NARROW: 14}  # bars before the origin


def fan_svg(one: Fan) -> Markup:
    """A forecast on real candles: bands of the close as they were sampled, and as calibrated where that differs."""

    def draw(figure: Figure, shape: Shape) -> None:
        axes = figure.subplots()
        plain(axes)
        horizon = max((len(row) for row in (*one.sampled, *one.calibrated)), default=0)
        origin = max(0, len(one.bars) - horizon - 1)
        first = max(0, origin - HISTORY[shape])
        bars, times, origin = one.bars[first:], one.times[first:], origin - first
        ahead = [origin + step for step in range(horizon + 1)]
        close = bars[origin][3] if bars else 0.0
        for low, high, opacity in _bands(one.levels, one.sampled, close):
            axes.fill_between(ahead, low, high, color=canvas.MODEL, alpha=opacity, linewidth=0)
        middle = _quantile(one.levels, one.sampled, 0.5, close)
        if middle:
            axes.plot(ahead, middle, color=canvas.MODEL)
        axes.axvline(origin + 0.5, color=FAINT, linewidth=0.9)
        _draw_candles(axes, bars)
        low, high = axes.dataLim.intervaly
        for level in (min(one.levels, default=0), max(one.levels, default=0)):
            outer = _quantile(one.levels, one.calibrated, level, close)
            if outer:
                axes.plot(ahead, outer, color=canvas.MODEL, linewidth=1.1, linestyle=(0, (4, 2)))
        # From few dates a calibrated band can be many times as wide: it may leave the picture, which shows the candles.
        room = MOST_ABOVE * (high - low)
        shown = np.clip(axes.dataLim.intervaly, low - room, high + room)
        axes.set_xlim(-0.9, max(len(bars), origin + horizon + 1) - 0.1)
        if room > 0:
            axes.set_ylim(*(shown + np.array((-0.06, 0.06)) * np.ptp(shown)))
        axes.yaxis.set_major_locator(MaxNLocator(4 if shape.narrow else 5))
        _label_times(axes, times, origin, 3 if shape.narrow else 7)

    return drawn("Forecast and what came", draw, height=250, narrow_height=210)


def _draw_candles(axes: Axes, bars: Sequence[Sequence[float]]) -> None:
    """Hollow where the price rose, solid where it fell: told apart without colours. One path for all of a kind."""
    wicks = [point for place, bar in enumerate(bars) for point in ((place, bar[2]), (place, bar[1]))]
    axes.add_patch(
        PathPatch(Path(wicks, [Path.MOVETO, Path.LINETO] * len(bars)), edgecolor=INK, linewidth=0.9, zorder=3)
    )
    for rising in (True, False):
        corners = [
            (place + side, price)
            for place, bar in enumerate(bars)
            if (bar[3] >= bar[0]) == rising
            for side, price in (
                (-BODY / 2, bar[0]),
                (-BODY / 2, bar[3]),
                (BODY / 2, bar[3]),
                (BODY / 2, bar[0]),
                (0, 0),
            )
        ]
        codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * (len(corners) // 5)
        if corners:
            face = canvas.PAPER if rising else INK
            axes.add_patch(PathPatch(Path(corners, codes), facecolor=face, edgecolor=INK, linewidth=0.9, zorder=4))
    prices = [price for bar in bars for price in bar[1:3]]
    if prices:
        axes.update_datalim([(0, min(prices)), (len(bars) - 1, max(prices))])
        axes.autoscale_view()


def _bands(
    levels: Sequence[float], quantiles: Sequence[Sequence[float]], close: float
) -> list[tuple[list[float], list[float], float]]:
    """Pairs of quantiles around the median from the outermost inwards, each beginning at the close of the origin."""
    rows = sorted(zip(levels, quantiles, strict=False), key=lambda row: row[0])
    pairs = [(rows[place][1], rows[-1 - place][1]) for place in range(len(rows) // 2)]
    return [([close, *low], [close, *high], 0.16) for low, high in pairs]


def _quantile(
    levels: Sequence[float], quantiles: Sequence[Sequence[float]], level: float, close: float
) -> list[float] | None:
    found = [row for given, row in zip(levels, quantiles, strict=False) if abs(given - level) < 1e-9]
    return [close, *found[0]] if found else None


def _label_times(axes: Axes, times: Sequence[str], origin: int, most: int) -> None:
    """At most `most` labels, one of them at the origin, as short as the spacing of the bars allows."""
    intraday = any(time[11:16] not in ("", "00:00") for time in times)
    step = -(-len(times) // most) or 1
    ticks = list(range(origin % step, len(times), step))
    axes.set_xticks(ticks, [_short_time(times[tick], intraday=intraday) for tick in ticks])


def _short_time(text: str, *, intraday: bool) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return f"{moment:%d %b %H:%M}" if intraday else f"{moment:%d %b %Y}"
