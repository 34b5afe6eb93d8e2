"""A backtest for a terminal."""

from __future__ import annotations

import textwrap

from kronos_trainer.backtest.document import Backtest
from kronos_trainer.backtest.page import rows
from kronos_trainer.backtest.wording import LABELS, chance
from kronos_trainer.report.text import WIDTH, table


def lines(found: Backtest) -> str:
    """Its sentence, its measures beside those of the benchmarks, and the gravest of the caveats."""
    names = [LABELS[name] for name in found.performance]
    measures = [[title, *cells] for title, cells in rows(list(found.performance.values()))]
    luck = "not defined" if found.deflated is None else chance(found.deflated)
    said = [f"{found.verdict}. {found.sentence}", *(f"- {one}" for one in found.caveats[:3])]
    head, *tail = [textwrap.fill(one, WIDTH, subsequent_indent="  " if one.startswith("- ") else "") for one in said]
    right = [str(place) for place in range(1, len(names) + 1)]
    body = table([["", *names], *measures, ["deflated Sharpe ratio", luck, *[""] * (len(names) - 1)]], right=right)
    return "\n".join([head, "", body, "", *tail])
