"""How every chart looks. Called by the plots of `kronos data check` and of the forecast."""

from __future__ import annotations

from matplotlib.axes import Axes

INK, GRID = "#333f48", "#dfe4e8"


def plain(axes: Axes) -> None:
    """Reduces a panel to its data, faint horizontal lines and a base line."""
    axes.grid(axis="y", color=GRID, linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
