"""An improvement and its interval as a mark on a line, in a row of a table. Called by the template."""

from __future__ import annotations

from markupsafe import Markup

from kronos_trainer.report.judged import Compared

WIDTH, HEIGHT = 150, 16
REACH = 0.3  # improvement at either end; what lies beyond is drawn there


def interval_svg(one: Compared) -> Markup:
    """SVG of a fixed scale, so that rows and reports can be compared; empty without an interval."""
    if one.improvement is None or one.low is None or one.high is None:
        return Markup("")
    low, middle, high = (_place(value) for value in (one.low, one.improvement, one.high))
    return Markup(
        f'<svg class="line" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="interval">'
        f'<path d="M0 8H{WIDTH}" class="s-faint"/><path d="M{WIDTH // 2} 1V15" class="s-naive"/>'
        f'<path d="M{low:.1f} 8H{high:.1f}" class="s-model" stroke-width="2.4"/>'
        f'<circle cx="{middle:.1f}" cy="8" r="3.6" class="f-model"/></svg>'
    )


def _place(improvement: float) -> float:
    return WIDTH / 2 * (1 + max(-1.0, min(1.0, improvement / REACH)) * 0.97)
