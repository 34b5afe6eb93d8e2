"""values.schema.json: a mistyped or impossible value is refused before anything is installed."""

from __future__ import annotations

from typing import Any

import pytest
from rendering import Chart, leaves

REFUSED = [
    ("namespace=quant", "additional properties 'namespace' not allowed"),
    ("namespaces=quant", "at '/namespaces': got string, want array"),
    ("namespaces={Quant}", "at '/namespaces/0': 'Quant' does not match pattern"),
    ("namespaces={a,a}", "at '/namespaces': items at 0 and 1 are equal"),
    ("crds.instal=false", "additional properties 'instal' not allowed"),
    ("crds.install=maybe", "at '/crds/install': got string, want boolean"),
    ("image.tag=a b", "at '/image/tag': 'a b' does not match pattern"),
    ("image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
    ("policy.maxNode=2", "additional properties 'maxNode' not allowed"),
    ("policy=null", "missing property 'policy'"),
    ("networkPolicy.apiServerPorts=null", "missing property 'apiServerPorts'"),
    ("policy.maxNodes=0", "at '/policy/maxNodes': minimum: got 0, want 1"),
    ("policy.maxGpus=many", "at '/policy/maxGpus': got string, want null or integer"),
    ("policy.maxCpuPerNode=0", "at '/policy/maxCpuPerNode': minimum: got 0, want 1"),
    ("policy.maxMemoryPerNode=64 GB", "at '/policy/maxMemoryPerNode': '64 GB' does not match pattern"),
    ("policy.allowedEnv={*}", "at '/policy/allowedEnv/0': '*' does not match pattern"),
    ("policy.requiredNodeSelector.gpu=true", "at '/policy/requiredNodeSelector/gpu': got boolean, want string"),
    ("admissionPolicy.enabled=maybe", "at '/admissionPolicy/enabled': got string, want boolean"),
    ("progressSeconds=0", "at '/progressSeconds': minimum: got 0, want 1"),
    ("resyncSeconds=1", "at '/resyncSeconds': minimum: got 1, want 10"),
    ("logFormat=xml", "at '/logFormat': value must be one of 'json', 'text'"),
    ("replicas=2", "additional properties 'replicas' not allowed"),
    ("networkPolicy.apiServerPorts={0}", "at '/networkPolicy/apiServerPorts/0': minimum: got 0, want 1"),
    ("metrics.serviceMonitor.interval=often", "at '/metrics/serviceMonitor/interval': 'often' does not match pattern"),
    ("podLabels.team=7", "at '/podLabels/team': got number, want string"),
    ("fullnameOverride=My", "at '/fullnameOverride': 'My' does not match pattern"),
]


@pytest.mark.parametrize(("setting", "message"), REFUSED)
def test_refused_with_its_place_and_reason(chart: Chart, setting: str, message: str) -> None:
    done = chart.run(f"--set={setting}")
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize("tag", ["0.1.0", "sha-0f3b", f"0.1.0@sha256:{'0' * 64}"])
def test_tag_may_carry_a_digest(chart: Chart, tag: str) -> None:
    assert f"kronos-operator:{tag}" in chart.run(f"--set=image.tag={tag}").stdout


def test_schema_and_values_name_the_same(chart: Chart) -> None:
    known = set(_properties(chart.schema)) - {"global"}
    free = ("resources.requests", "resources.limits", "metrics.dashboard.labels")  # maps with any keys
    given = {next((name for name in free if leaf.startswith(name)), leaf) for leaf in leaves(chart.values)}
    assert known == given


def test_every_object_is_closed(chart: Chart) -> None:
    closed = {
        path: one.get("additionalProperties") is False
        for path, one in _objects(chart.schema, "")
        if "properties" in one
    }
    assert all(closed.values()), closed


def test_what_may_not_be_null_has_to_be_there(chart: Chart) -> None:
    """Helm takes a value that is set to null away, default and all, before it looks at the schema."""
    for path, one in _objects(chart.schema, ""):
        nullable = {name for name, value in one.get("properties", {}).items() if "null" in value.get("type", ())}
        assert set(one.get("required", ())) == set(one.get("properties", ())) - nullable - {"global"}, path


def _properties(schema: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, one in schema["properties"].items():
        found += _properties(one, f"{prefix}{name}.") if "properties" in one else [prefix + name]
    return found


def _objects(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, one in schema.get("properties", {}).items():
        found += _objects(one, f"{path}/{name}")
    if isinstance(schema.get("items"), dict):
        found += _objects(schema["items"], f"{path}/items")
    return found
