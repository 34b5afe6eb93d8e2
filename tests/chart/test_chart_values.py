"""Every value of the chart, and what it changes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from rendering import Chart, at, leaves

DEPLOYMENT = ("Deployment", "kronos-operator")
ACCOUNT = ("ServiceAccount", "kronos-operator")
NETWORK = ("NetworkPolicy", "kronos-operator")
MONITOR = ("ServiceMonitor", "kronos-operator")
RULES = ("PrometheusRule", "kronos-operator")
DASHBOARD = ("ConfigMap", "kronos-operator-dashboard")
POD = "spec/template/spec"
CONTAINER = f"{POD}/containers/0"
LABELS = {"team": "ml"}
SCRAPED = {"metrics.serviceMonitor.enabled": True}
ALERTED = {"metrics.rules.enabled": True}
SHOWN = {"metrics.dashboard.enabled": True}

# value: what it is set to, beside what else, and where what then stands
CASES: list[tuple[str, Any, dict[str, Any], tuple[str, str], str, Any]] = [
    ("image.repository", "example.org/op", {}, DEPLOYMENT, f"{CONTAINER}/image", "example.org/op:0.1.0"),
    ("image.tag", "edge", {}, DEPLOYMENT, f"{CONTAINER}/image", "kronos-operator:edge"),
    ("image.pullPolicy", "Always", {}, DEPLOYMENT, f"{CONTAINER}/imagePullPolicy", "Always"),
    ("imagePullSecrets", [{"name": "pull"}], {}, DEPLOYMENT, f"{POD}/imagePullSecrets", [{"name": "pull"}]),
    ("serviceAccount.name", "robot", {}, ("ServiceAccount", "robot"), "metadata/name", "robot"),
    ("serviceAccount.name", "robot", {}, DEPLOYMENT, f"{POD}/serviceAccountName", "robot"),
    ("serviceAccount.name", "robot", {}, ("ClusterRoleBinding", "kronos-operator"), "subjects/0/name", "robot"),
    ("serviceAccount.annotations", {"a": "b"}, {}, ACCOUNT, "metadata/annotations/a", "b"),
    ("resources.requests.cpu", "2", {}, DEPLOYMENT, f"{CONTAINER}/resources/requests/cpu", "2"),
    ("resources.requests.memory", "1Gi", {}, DEPLOYMENT, f"{CONTAINER}/resources/requests/memory", "1Gi"),
    ("resources.limits.memory", "1Gi", {}, DEPLOYMENT, f"{CONTAINER}/resources/limits/memory", "1Gi"),
    ("podAnnotations", {"a": "b"}, {}, DEPLOYMENT, "spec/template/metadata/annotations", {"a": "b"}),
    ("podLabels", LABELS, {}, DEPLOYMENT, "spec/template/metadata/labels/team", "ml"),
    ("nodeSelector", {"disk": "ssd"}, {}, DEPLOYMENT, f"{POD}/nodeSelector", {"disk": "ssd"}),
    ("tolerations", [{"operator": "Exists"}], {}, DEPLOYMENT, f"{POD}/tolerations", [{"operator": "Exists"}]),
    ("affinity", {"nodeAffinity": {}}, {}, DEPLOYMENT, f"{POD}/affinity", {"nodeAffinity": {}}),
    ("priorityClassName", "high", {}, DEPLOYMENT, f"{POD}/priorityClassName", "high"),
    ("networkPolicy.apiServerPorts", [16443], {}, NETWORK, "spec/egress/0/ports/2/port", 16443),
    ("metrics.serviceMonitor.interval", "5s", SCRAPED, MONITOR, "spec/endpoints/0/interval", "5s"),
    ("metrics.serviceMonitor.labels", LABELS, SCRAPED, MONITOR, "metadata/labels/team", "ml"),
    ("metrics.rules.labels", LABELS, ALERTED, RULES, "metadata/labels/team", "ml"),
    ("metrics.dashboard.labels.grafana_dashboard", "y", SHOWN, DASHBOARD, "metadata/labels/grafana_dashboard", "y"),
    ("fullnameOverride", "kronos", {}, ("Deployment", "kronos"), "metadata/name", "kronos"),
]

SETTINGS = [
    ("namespaces", ["quant", "research"], "KRONOS_NAMESPACES", "quant,research"),
    ("trainer.image.repository", "example.org/trainer", "KRONOS_DEFAULT_IMAGE", "example.org/trainer:0.1.0"),
    ("trainer.image.tag", "edge", "KRONOS_DEFAULT_IMAGE", "kronos-trainer:edge"),
    ("progressSeconds", 2, "KRONOS_PROGRESS_SECONDS", "2"),
    ("resyncSeconds", 20, "KRONOS_RESYNC_SECONDS", "20"),
    ("logFormat", "text", "KRONOS_LOG_FORMAT", "text"),
]

SWITCHES = [
    ("crds.install", ("CustomResourceDefinition", "kronosmodels.kronos.io")),
    ("admissionPolicy.enabled", ("ValidatingAdmissionPolicy", "kronos-system-kronos-operator")),
    ("serviceAccount.create", ACCOUNT),
    ("userRoles.create", ("ClusterRole", "kronos-operator-edit")),
    ("networkPolicy.enabled", NETWORK),
    ("metrics.serviceMonitor.enabled", MONITOR),
    ("metrics.rules.enabled", RULES),
    ("metrics.dashboard.enabled", DASHBOARD),
]


def environment(deployment: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in at(deployment, f"{CONTAINER}/env")}


def test_every_value_is_tested(chart: Chart) -> None:
    tested = {case[0] for case in (*CASES, *SETTINGS, *SWITCHES)}
    policy = {f"policy.{name}" for name in chart.values["policy"]}  # tested with the operator's own class
    assert set(leaves(chart.values)) == tested | policy


@pytest.mark.parametrize(("name", "value", "beside", "key", "path", "expected"), CASES)
def test_value_stands_where_it_belongs(
    chart: Chart, name: str, value: Any, beside: dict[str, Any], key: tuple[str, str], path: str, expected: Any
) -> None:
    assert at(chart.render({**beside, name: value})[key], path) == expected
    assert at(chart.render(beside).get(key, {}), path) != expected


@pytest.mark.parametrize(("name", "value", "variable", "expected"), SETTINGS)
def test_setting_reaches_the_operator(chart: Chart, name: str, value: Any, variable: str, expected: str) -> None:
    assert environment(chart.render({name: value})[DEPLOYMENT])[variable] == expected
    assert environment(chart.render()[DEPLOYMENT])[variable] != expected


@pytest.mark.parametrize(("name", "key"), SWITCHES)
def test_switch_adds_its_object(chart: Chart, name: str, key: tuple[str, str]) -> None:
    assert key in chart.render({name: True})
    assert key not in chart.render({name: False})


def test_labels_of_the_user_never_replace_the_selected_ones(chart: Chart) -> None:
    deployment = chart.render({"podLabels": {"app.kubernetes.io/name": "other"}})[DEPLOYMENT]
    labels = at(deployment, "spec/template/metadata/labels")
    assert labels.items() >= at(deployment, "spec/selector/matchLabels").items()


def test_existing_service_account_is_used(chart: Chart) -> None:
    objects = chart.render({"serviceAccount.create": False, "serviceAccount.name": "robot"})
    assert at(objects[DEPLOYMENT], f"{POD}/serviceAccountName") == "robot"


def test_names_leave_room_for_their_suffix(chart: Chart) -> None:
    done = chart.run("--set=metrics.dashboard.enabled=true", release="r" * 53)
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    names = {one["metadata"]["name"]: 253 if "AdmissionPolicy" in one["kind"] else 63 for one in objects}
    assert [name for name, most in names.items() if len(name) > most] == []
