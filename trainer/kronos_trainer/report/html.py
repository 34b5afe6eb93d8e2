"""report.html: the facts of a run on one page, without a script and without anything from outside of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kronos_trainer.evaluation.document import CALIBRATED, START, Fan
from kronos_trainer.report import figures, wording
from kronos_trainer.report.facts import Facts
from kronos_trainer.report.fan import fan_svg
from kronos_trainer.report.interval import interval_svg, row_svg
from kronos_trainer.report.judged import LEVELS, MOST_FANS, Compared, Judged
from kronos_trainer.report.labels import ACCURACY, DIRECTION, LABELS, PLACES, PLAUSIBILITY, SHARES, VOLATILITY
from kronos_trainer.report.recipes import RECOMPUTING, commands
from kronos_trainer.report.tables import calibration_rows, training_rows
from kronos_trainer.report.verdict import badge_of

_NO_BREAK = "\N{NO-BREAK SPACE}"
_FAN_RULES = [f".choice>#fan{number}:checked~.of{number}{{display:block}}" for number in range(1, MOST_FANS + 1)]


def page(facts: Facts) -> str:
    """The text of report.html."""
    judged = facts.evaluation
    names = list(dict.fromkeys(name for versions in facts.software.values() for name in versions))
    context: dict[str, Any] = {
        "facts": facts,
        **styled("\n".join(_FAN_RULES)),
        "metric_labels": LABELS,
        "accuracy": ACCURACY,
        "direction": DIRECTION,
        "volatility": VOLATILITY,
        "plausibility": PLAUSIBILITY,
        "present": lambda wanted: [] if judged is None else _present(judged, wanted),
        "has": lambda values, wanted: any(values.get(name) is not None for name in wanted),
        "between": wording.between,
        "trainings": [(one, figures.training(one)) for one in facts.training],
        "trained": [one for one in facts.training if one.trained],
        "training_rows": training_rows([one for one in facts.training if one.trained]),
        "timeline": figures.timeline(facts.data),
        "software_names": names,
        "commands": commands(facts),
        "recomputing": RECOMPUTING,
    }
    if judged is not None:
        context |= _of_evaluation(judged)
    return environment().get_template("report.html").render(context)


def _of_evaluation(judged: Judged) -> dict[str, Any]:
    fans: dict[str, list[tuple[Fan, Markup]]] = {}
    for fan in judged.fans:
        fans.setdefault(fan.symbol, []).append((fan, fan_svg(fan)))
    shown = {name for losses in judged.by_step.values() for name in losses}
    others = [judged.labels[name] for name in judged.labels if name in shown and name not in figures.COLOURS]
    compared = [row for row in judged.by_symbol if row.over_start is not None]
    covered = {(row.forecaster, round(100 * row.level)): row for row in judged.coverage}
    better = sum(row.over_start > 0 for row in compared if row.over_start is not None)
    return {
        "by_step": figures.by_step(judged),
        "shown_by_step": shown,
        "others_by_step": ", ".join(others),
        "calibration": figures.calibration(judged),
        "coverage": [
            (name, [covered.get((name, level)) for level in LEVELS])
            for name in dict.fromkeys(row.forecaster for row in judged.coverage)
        ],
        "levels": LEVELS,
        "nbsp": _NO_BREAK,
        "calibrated": CALIBRATED in judged.metrics,
        "start_covered": any(row.forecaster == START for row in judged.coverage),
        "calibration_rows": [] if judged.calibration is None else calibration_rows(judged.calibration),
        "fans": list(fans.items()),
        "fans_of_all": judged.symbols > len(fans),
        "calibrated_fans": any(fan.calibrated for fan in judged.fans),
        "band_text": _bands(judged.fans),
        "symbol_count": f"Lower than the start's on {better:,} of {len(compared):,} symbols."
        if len(compared) > 1
        else "",
    }


def _present(judged: Judged, wanted: Sequence[str]) -> list[str]:
    """Of some metrics those that a forecaster has."""
    return [name for name in wanted if any(one.get(name) is not None for one in judged.metrics.values())]


def _bands(fans: Sequence[Fan]) -> str:
    levels = sorted({level for fan in fans for level in fan.levels})
    widths = sorted(
        {round(100 * (high - low)) for low, high in zip(levels, reversed(levels), strict=True) if high > low}
    )
    return f"bands of {wording.some_of([f'{width} %' for width in widths])}" if widths else "bands"


def style_sheet(name: str) -> str:
    """The text of a style sheet of this package."""
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def styled(rules: str = "") -> dict[str, str]:
    """What every page's template needs: the style sheet with more rules, and how the page's policy (CSP) names it."""
    style = style_sheet("style.css") + rules
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return {"style": Markup(style), "style_hash": f"sha256-{digest}"}


@cache
def environment() -> Environment:
    """Templates of this package, in which everything is escaped."""
    made = Environment(
        loader=PackageLoader("kronos_trainer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters |= {
        name: getattr(wording, name)
        for name in (
            "plain",
            "number",
            "loss",
            "hours",
            "hundredths",
            "megabytes",
            "count",
            "percent",
            "signed",
            "probability",
            "duration",
            "date",
            "finish",
        )
    }
    made.filters |= {
        "badge": badge_of,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "interval": _interval,
        "line": interval_svg,
        "row_line": row_svg,
        "metric": _metric,
        "setting": _setting,
        "tight": lambda text: text.replace(" %", f"{_NO_BREAK}%").replace("p < ", f"p{_NO_BREAK}<{_NO_BREAK}"),
    }
    return made


def _interval(one: Compared) -> str:
    if one.low is None or one.high is None:
        return wording.NOTHING
    return f"{wording.signed(one.low)} to {wording.signed(one.high)}"


def _metric(value: float | None, name: str) -> str:
    return wording.measure(value, PLACES.get(name), share=name in SHARES)


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        wording.NOTHING
        if value is None or value == ""
        else wording.plain(f"{value:g}" if isinstance(value, float) else str(value))
    )
