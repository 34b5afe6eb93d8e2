"""Rivals that need no net. The table has them in the order of the report; one concept or close family per module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kronos_trainer.evaluation.baselines.boosted_trees import BoostedTrees
from kronos_trainer.evaluation.baselines.garch import Garch
from kronos_trainer.evaluation.baselines.har import Har
from kronos_trainer.evaluation.baselines.momentum import Momentum
from kronos_trainer.evaluation.baselines.naive import Drift, Naive
from kronos_trainer.evaluation.baselines.past import Past
from kronos_trainer.evaluation.baselines.seasonal import SeasonalNaive
from kronos_trainer.evaluation.cells import Baseline, Origin

Made = tuple[Baseline | None, str]  # None: it does not apply; and why it forecasts nothing or not everything

BASELINES: Mapping[str, Callable[[Past], Made]] = {
    "naive": lambda past: (Naive(), ""),
    "drift": lambda past: (Drift(), ""),
    "seasonalNaive": lambda past: (SeasonalNaive(), ""),
    "garch": lambda past: (None, why) if (why := Garch.absent(past)) else (Garch(past), Garch.partly(past)),
    "har": lambda past: (None, why) if (why := Har.absent(past)) else (Har(past), ""),
    "momentum5": lambda past: (Momentum(5), ""),
    "momentum20": lambda past: (Momentum(20), ""),
    "reversal5": lambda past: (Momentum(5, reversal=True), ""),
    "lightgbm": lambda past: (None, why) if (why := BoostedTrees.absent(past)) else (BoostedTrees(past), ""),
}


def baselines(origins: Sequence[Origin]) -> tuple[tuple[Baseline, ...], dict[str, str]]:
    """Those that apply to these origins, all that will be forecast; and by name why others are left out.

    A baseline may be in both: then the reason is why it forecasts some of the symbols only. What is fitted once is
    fitted at the first forecast that needs it.
    """
    past = Past.before(origins)
    apply: list[Baseline] = []
    reasons: dict[str, str] = {}
    for name, make in BASELINES.items():
        baseline, why = make(past)
        if baseline is not None:
            apply.append(baseline)
        if why:
            reasons[name] = why
    return tuple(apply), reasons
