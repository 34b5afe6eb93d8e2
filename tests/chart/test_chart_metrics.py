"""The dashboard and the alerts ask for metrics, labels and words that the operator's own registry has."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict

import pytest
import yaml
from rendering import FOLDER, Chart, at

from kronos_operator.api import CheckpointState, Compared, Condition, Evaluated, Phase, Restarts, Run, RunStage, Status
from kronos_operator.kube import Key
from kronos_operator.metrics import Metrics
from kronos_trainer.config import StageName

DASHBOARD = json.loads((FOLDER / "files" / "dashboard.json").read_text())
ALERTS = yaml.safe_load((FOLDER / "files" / "alerts.yaml").read_text())
PANELS = {panel["title"]: panel["targets"][0] for panel in DASHBOARD["panels"] if panel["type"] != "row"}
QUERIES = {title: (target["expr"], target["legendFormat"]) for title, target in PANELS.items()} | {
    rule["alert"]: (rule["expr"], str(rule["annotations"])) for group in ALERTS for rule in group["rules"]
}


@pytest.fixture(scope="module")
def exposed() -> dict[str, dict[str, set[str]]]:
    """Values of each label of each metric, after something of everything has happened."""
    metrics, key = Metrics(), Key("quant", "model-b-1d")
    before = Status(run=Run(id="first"))
    saved = CheckpointState(step=1, time=time.time())
    trained = RunStage(stage=StageName.TOKENIZER, hash="0f3b21aa", done=True, metrics={"seconds": 60.0})
    run = Run(id="first", stages=(trained,), restarts=Restarts(crashes=1))
    rivals = tuple(Compared(rival=rival, improvement=0.02) for rival in ("start", "naive"))
    numbers = {"verdict": "Better", "dates": 21, "coverage80": 0.7, "calibrated80": 0.8, "comparisons": rivals}
    held = Condition(type="Finished", status="True", reason="PromotionHeld", last_transition_time=time.time())
    evaluation = Evaluated(run="first", **numbers)
    after = Status(phase=Phase.TRAINING, run=run, checkpoint=saved, evaluation=evaluation, conditions=[held])
    metrics.saw(key, before, after)
    metrics.used(key, 8, 0.0, running=True)
    metrics.used(key, 8, 3600.0, running=True)
    found: dict[str, dict[str, set[str]]] = {}
    for family in metrics.registry.collect():
        for suffix in {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""]):
            found[family.name + suffix] = defaultdict(set)
        for sample in family.samples:
            for label, value in sample.labels.items():
                found.setdefault(sample.name, defaultdict(set))[label].add(value)
    return found


@pytest.mark.parametrize("title", QUERIES)
def test_query_names_what_exists(exposed: dict[str, dict[str, set[str]]], title: str) -> None:
    query, texts = QUERIES[title]
    (metric,) = set(re.findall(r"\bkronos_\w+", query))
    assert metric in exposed
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(",")}
    selected = dict(re.findall(r'(\w+)=~?"([^"]*)"', query))
    shown = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", texts))
    assert grouped | selected.keys() | shown <= exposed[metric].keys()
    for label, value in selected.items():
        assert value == "$namespace" or value in exposed[metric][label]
    assert query.count("(") == query.count(")") and query.count("{") == query.count("}")


def test_every_metric_is_on_the_dashboard(exposed: dict[str, dict[str, set[str]]]) -> None:
    queries = " ".join(target["expr"] for target in PANELS.values())
    counted = {name for name in exposed if not name.endswith(("_created", "_sum", "_count"))}
    assert {name for name in counted if name not in queries} == set()


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_files_are_installed_as_they_are(chart: Chart) -> None:
    objects = chart.render({"metrics.dashboard.enabled": True, "metrics.rules.enabled": True})
    dashboard = at(objects["ConfigMap", "kronos-operator-dashboard"], "data")["kronos-operator.json"]
    assert json.loads(dashboard) == DASHBOARD
    assert at(objects["PrometheusRule", "kronos-operator"], "spec/groups") == ALERTS
