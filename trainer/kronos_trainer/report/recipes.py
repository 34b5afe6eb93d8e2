"""What to type: commands that use a run, and the lines that recompute its p-values. Called by what renders a report."""

from __future__ import annotations

from kronos_trainer.report.facts import Facts

_COMMANDS = """\
# the published run of this model
kronos forecast --model {name}{namespace} --input bars.csv --horizon {horizon} --output forecast.csv

# exactly this run, from the directory of this report
kronos forecast --tokenizer tokenizer/best --predictor predictor/best --lookback {lookback} \\
    --input bars.csv --horizon {horizon} --output forecast.csv"""

RECOMPUTING = """\
import json
import numpy as np
from statsmodels.tsa.stattools import diebold_mariano_test

found = json.load(open("evaluation/evaluation.json"))
for one in found["comparisons"]:
    if not one.get("model"):  # not compared
        continue
    model, rival = np.array(one["model"]), np.array(one["loss"])
    lags = one.get("lags", 0)
    test = diebold_mariano_test(np.zeros(len(model)), model, rival, criterion=lambda _, loss: loss,
                                harvey_adj=True, horizon=lags + 1, lags=lags)
    better = test.pvalue / 2 if model.mean() < rival.mean() else 1 - test.pvalue / 2
    print(one["rival"], 1 - model.mean() / rival.mean(), better)"""


def commands(facts: Facts) -> str:
    """How to forecast with a run."""
    return _COMMANDS.format(
        name=facts.name,
        namespace="" if facts.namespace == "default" else f" --namespace {facts.namespace}",
        horizon=facts.horizon,
        lookback=facts.lookback,
    )
