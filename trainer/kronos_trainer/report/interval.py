"""A value and its interval as a mark on a line, in a row of a table. Called by the template."""

from __future__ import annotations

from markupsafe import Markup

from kronos_trainer.macro.document import Row, Table
from kronos_trainer.report.judged import Compared

WIDTH, HEIGHT = 150, 16
REACH = 0.3  # improvement at either end; what lies beyond is drawn there


def interval_svg(one: Compared) -> Markup:
    """SVG of a fixed scale, so that rows and reports can be compared; empty without an interval."""
    if one.improvement is None or one.low is None or one.high is None:
        return Markup("")
    return _mark(one.low / REACH, one.improvement / REACH, one.high / REACH)


def row_svg(row: Row, table: Table) -> Markup:
    """The same of a row among the others of its table, around what has no effect; empty without an interval."""
    if table.neutral is None or row.value is None or row.low is None or row.high is None:
        return Markup("")
    ends = [abs(end - table.neutral) for one in table.rows for end in (one.low, one.high) if end is not None]
    reach = max(ends) or 1.0
    low, value, high = ((end - table.neutral) / reach for end in (row.low, row.value, row.high))
    return _mark(low, value, high)


def _mark(low: float, middle: float, high: float) -> Markup:
    """Of numbers that are -1 at the left end and 1 at the right one."""
    left, centre, right = (WIDTH / 2 * (1 + max(-1.0, min(1.0, end)) * 0.97) for end in (low, middle, high))
    return Markup(
        f'<svg class="line" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="interval">'
        f'<path d="M0 8H{WIDTH}" class="s-faint"/><path d="M{WIDTH // 2} 1V15" class="s-naive"/>'
        f'<path d="M{left:.1f} 8H{right:.1f}" class="s-model" stroke-width="2.4"/>'
        f'<circle cx="{centre:.1f}" cy="8" r="3.6" class="f-model"/></svg>'
    )
