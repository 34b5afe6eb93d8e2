"""What the chart tells the operator is what the operator understands."""

from __future__ import annotations

import json

from rendering import REPOSITORY, Chart, Object, at

from kronos_operator.policy import Policy
from kronos_operator.settings import Settings

CONTAINER = "spec/template/spec/containers/0"


def container(chart: Chart, **policy: object) -> Object:
    objects = chart.render({f"policy.{name}": value for name, value in policy.items()})
    found: Object = at(objects["Deployment", "kronos-operator"], CONTAINER)
    return found


def settings(container: Object) -> Settings:
    return Settings.from_environ({one["name"]: one["value"] for one in container["env"]})


def test_default_values_are_the_operators_defaults(chart: Chart) -> None:
    assert settings(container(chart)) == Settings(default_image=f"kronos-trainer:{chart.about['appVersion']}")


def test_every_variable_is_read(chart: Chart) -> None:
    source = (REPOSITORY / "operator" / "kronos_operator" / "settings.py").read_text()
    assert [one["name"] for one in container(chart)["env"] if f'"{one["name"]}"' not in source] == []


def test_ports_and_probes_are_the_operators(chart: Chart) -> None:
    one = container(chart)
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert ports == {"metrics": Settings().metrics_port, "health": Settings().health_port}
    probes = [one[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")]
    assert probes == [{"path": "/healthz", "port": "health"}, {"path": "/readyz", "port": "health"}]


def test_each_value_of_the_policy_is_a_limit(chart: Chart) -> None:
    values = {
        "allowedImagePrefixes": ["example.org/ml"],
        "allowedEnv": ["PYTHONUNBUFFERED", "TRITON_*"],
        "allowedAnnotations": ["linkerd.io/inject"],
        "allowedServiceAccounts": ["trainer"],
        "allowedPriorityClasses": ["low"],
        "allowedClaims": ["bars"],
        "allowedSecrets": ["hub"],
        "requiredNodeSelector": {"pool": "training"},
        "maxNodes": 2,
        "maxGpus": 1000000,
        "maxCpuPerNode": "16",
        "maxMemoryPerNode": "64Gi",
        "maxRunning": 3,
        "gangStartSeconds": 60,
        "defaultQueue": "gpu",
    }
    assert values.keys() == chart.values["policy"].keys()
    policy = settings(container(chart, **values)).policy
    assert policy == Policy.model_validate(values)
    assert json.loads(policy.model_dump_json(by_alias=True)) == values
