"""backtest.html: one page in the style of the report, without a script and without anything from outside of it."""

from __future__ import annotations

import calendar
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kronos_trainer.backtest import wording
from kronos_trainer.backtest.document import BUY_AND_HOLD, EQUAL_WEIGHT, STRATEGY, Month, Performance
from kronos_trainer.backtest.running import Traded
from kronos_trainer.backtest.wording import LABELS, LOST, LUCK, SEEN, SKILL
from kronos_trainer.config import ModelRef
from kronos_trainer.report import canvas
from kronos_trainer.report.canvas import Shape, drawn, plain
from kronos_trainer.report.figures import date_axis
from kronos_trainer.report.html import environment, styled
from kronos_trainer.report.wording import count, percent, signed

_CLASSES = {LOST: "worse", LUCK: "cannot-tell", SEEN: "not-out-of-sample", SKILL: "better"}
_COLOURS = {STRATEGY: canvas.MODEL, BUY_AND_HOLD: canvas.NAIVE, EQUAL_WEIGHT: canvas.OTHER}
_MOST_POINTS = 1500  # of a line; a page is no wider


def page(found: Traded) -> str:
    """The text of backtest.html."""
    summary = found.summary
    return (
        environment()
        .get_template("backtest.html")
        .render(
            found=summary,
            model=ModelRef.model_validate(summary.model).key,
            **styled(),
            badge_class=_CLASSES.get(summary.verdict, "cannot-tell"),
            curve=_curve(found),
            names=[LABELS[name] for name in summary.performance],
            with_equal=EQUAL_WEIGHT in summary.performance,
            rows=rows(list(summary.performance.values())),
            years=_years(summary.months),
            months=[calendar.month_abbr[month] for month in range(1, 13)],
            ratio=wording.ratio,
            chance=wording.chance,
        )
    )


def rows(measured: Sequence[Performance]) -> list[tuple[str, list[str]]]:
    """Each measure with its value of each strategy."""
    two = wording.ratio
    shown = {
        "return": [signed(one.total_return) for one in measured],
        "return a year": [signed(one.annual_return) for one in measured],
        "volatility a year": [percent(one.volatility) for one in measured],
        "Sharpe ratio": [two(one.sharpe) for one in measured],
        "its standard error": [two(one.sharpe_error) for one in measured],
        "largest drawdown": [percent(one.max_drawdown) for one in measured],
        "turnover a year": [f"{one.turnover:,.1f}×" if one.turnover is not None else "–" for one in measured],
        "exposure": [percent(one.exposure) for one in measured],
        "exposure, net of shorts": [percent(one.net_exposure) for one in measured],
        "positions": [count(one.positions) for one in measured],
        "of these with a gain": [percent(one.hit_rate) for one in measured],
        "trades": [count(one.trades) for one in measured],
        "costs, of the capital": [percent(one.costs) for one in measured],
    }
    if all(one.exposure == one.net_exposure for one in measured):
        del shown["exposure, net of shorts"]
    return [(title, cells) for title, cells in shown.items() if set(cells) != {"–"}]


def _years(months: Sequence[Month]) -> list[tuple[int, list[str], str]]:
    """A row of twelve months for each year, and its whole."""
    found = []
    for year in sorted({one.year for one in months}):
        own = {one.month: one.value for one in months if one.year == year}
        whole = float(np.prod([1 + value for value in own.values() if value is not None])) - 1
        cells = [signed(own[month]).removesuffix(" %") if month in own else "" for month in range(1, 13)]
        found.append((year, cells, signed(whole).removesuffix(" %")))
    return found


def _curve(found: Traded) -> Markup:
    """Equity of the strategy and the benchmarks, and its drawdown."""
    days = found.market.times / 86_400e9
    kept = np.unique(np.linspace(0, len(days) - 1, min(len(days), _MOST_POINTS)).round().astype(int))
    width = float(days[-1] - days[0])

    def draw(figure: Figure, shape: Shape) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 1])
        plain(above, title="Value, start = 100")
        for name in reversed(list(found.ledgers)):
            equity = found.ledgers[name].equity
            style = "-" if name == STRATEGY else (0, (1.2, 1.6)) if name == BUY_AND_HOLD else "-"
            above.plot(
                days[kept], 100 * equity[kept] / equity[0], color=_COLOURS[name], linestyle=style,
                linewidth=1.8 if name == STRATEGY else 1.2,
            )  # fmt: skip
        plain(below, title="Drawdown")
        own = found.ledgers[STRATEGY].equity
        fallen = own / np.maximum.accumulate(own) - 1
        below.fill_between(days[kept], fallen[kept], 0, color=canvas.MODEL, alpha=0.4, linewidth=0)
        below.set_ylim(min(1.05 * float(fallen.min()), -0.001), 0)
        below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
        below.yaxis.set_major_locator(MaxNLocator(3))
        above.tick_params(labelbottom=False)
        date_axis(below, shape, width)

    return drawn("Value of the strategy over time", draw, height=330, narrow_height=330)
