"""The page of a comparison, in the style of the reports: no script, and nothing from outside of it."""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kronos_trainer.collection.comparing import Compared
from kronos_trainer.collection.telling import measures
from kronos_trainer.report import canvas
from kronos_trainer.report.canvas import INK, Shape, drawn, plain
from kronos_trainer.report.figures import date_axis, days_of
from kronos_trainer.report.html import environment, styled
from kronos_trainer.storage import durable


def write(root: Path, found: Compared) -> Path:
    """Replaces the page below the output root and returns its file. Raises StorageError."""
    sides = "-".join(re.sub(r"[^\w.-]", "-", side.name) for side in (found.first, found.second))
    file = root / f"compare-{sides}.html"
    durable.write_text(file, page(found))
    return file


def page(found: Compared) -> str:
    """The text of the page."""
    return (
        environment()
        .get_template("comparison.html")
        .render(
            found=found,
            one=found.tested,
            measures=measures(found),
            figure=_paired(found),
            **styled(),
        )
    )


def _paired(found: Compared) -> Markup:
    """The losses of both on each date, and the sum of their differences: where it rises, the first was better."""
    days = [day or 0.0 for day in map(days_of, found.dates)]
    gained = list(accumulate(theirs - ours for ours, theirs in zip(found.tested.model, found.tested.loss, strict=True)))

    def draw(figure: Figure, shape: Shape) -> None:
        losses, sums = figure.subplots(2, 1, sharex=True, height_ratios=[1.4, 1])
        metric = found.first.found.metric.upper()
        plain(losses, title=f"{metric} of each date, % of the close")
        losses.plot(days, found.tested.loss, color=canvas.START, linewidth=1.3)
        losses.plot(days, found.tested.model, color=canvas.MODEL)
        losses.set_ylim(bottom=0)
        plain(sums, title="Sum of the differences: rises where the first is better")
        sums.axhline(0, color=INK, linewidth=0.9)
        sums.plot(days, gained, color=canvas.MODEL)
        for axes in (losses, sums):
            axes.yaxis.set_major_locator(MaxNLocator(4))
        date_axis(sums, shape, days[-1] - days[0])

    return drawn("Losses of both, by date", draw, height=330, narrow_height=330)
