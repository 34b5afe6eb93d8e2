"""What the operator may do, and what its pod may: this and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from rendering import NAMESPACE, Chart, Object, at

from kronos_operator import names
from kronos_operator.backends import BACKENDS

SERVICE_ACCOUNT = "spec/template/spec/serviceAccountName"
ALL = "create get list watch delete deletecollection"
RIGHTS = {
    ("kronos.io", "kronosmodels"): "get list watch",
    ("kronos.io", "kronosmodels/status"): "get patch",
    **{(backend.kind.group, backend.kind.plural): ALL for backend in BACKENDS.values()},
    ("", "services"): ALL,
    ("", "configmaps"): ALL,
    ("", "pods"): "get list watch",
    ("", "pods/log"): "get",
    ("", "events"): "list watch",
    ("events.k8s.io", "events"): "create patch",
    ("", "persistentvolumeclaims"): "get",
    ("kueue.x-k8s.io", "workloads"): "get list watch",
}


def granted(role: Object) -> Counter[tuple[str, str, str]]:
    assert not [rule for rule in role["rules"] if rule.keys() != {"apiGroups", "resources", "verbs"}]
    return Counter(
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


NODES = Counter({("", "nodes", "get"): 1})
EXPECTED = Counter((group, resource, verb) for (group, resource), verbs in RIGHTS.items() for verb in verbs.split())


def of_kind(objects: dict[tuple[str, str], Object], kind: str) -> dict[str, Object]:
    return {name: one for (found, name), one in objects.items() if found == kind}


def test_cluster_mode_has_one_cluster_role_with_exactly_these_rights(chart: Chart) -> None:
    objects = chart.render({"userRoles.create": False})
    assert granted(of_kind(objects, "ClusterRole").pop("kronos-operator")) == EXPECTED + NODES
    assert of_kind(objects, "ClusterRoleBinding").keys() == {"kronos-operator"}
    assert not of_kind(objects, "Role")


def test_the_admission_policy_looks_into_the_pods_of_every_backend(chart: Chart) -> None:
    spec = chart.render()["ValidatingAdmissionPolicy", "kronos-system-kronos-operator"]["spec"]
    guarded = {
        (rule["apiGroups"][0], one) for rule in spec["matchConstraints"]["resourceRules"] for one in rule["resources"]
    }
    (pods,) = [one["expression"] for one in spec["variables"] if one["name"] == "pods"]
    for backend in BACKENDS.values():
        assert (backend.kind.group, backend.kind.plural) in guarded
        assert f"request.resource.resource == '{backend.kind.plural}'" in pods


def test_namespaced_mode_has_the_same_rights_in_each_namespace_and_none_elsewhere(chart: Chart) -> None:
    objects = chart.render({"namespaces": ["quant", "research"], "userRoles.create": False})
    roles = of_kind(objects, "Role")
    assert roles.keys() == {"quant/kronos-operator", "research/kronos-operator"}
    assert all(granted(role) == EXPECTED for role in roles.values())
    assert of_kind(objects, "RoleBinding").keys() == roles.keys()
    assert not of_kind(objects, "ClusterRole") and not of_kind(objects, "ClusterRoleBinding")


@pytest.mark.parametrize("namespaces", [[], ["quant"]])
def test_rights_go_to_the_operators_service_account_alone(chart: Chart, namespaces: list[str]) -> None:
    objects = chart.render({"namespaces": namespaces, "userRoles.create": False})
    bindings = of_kind(objects, "ClusterRoleBinding") | of_kind(objects, "RoleBinding")
    subject = {"kind": "ServiceAccount", "name": "kronos-operator", "namespace": NAMESPACE}
    assert [one["subjects"] for one in bindings.values()] == [[subject]]
    assert [one["roleRef"]["name"] for one in bindings.values()] == ["kronos-operator"]
    assert at(objects["Deployment", "kronos-operator"], SERVICE_ACCOUNT) == subject["name"]


@pytest.mark.parametrize(
    ("values", "account"),
    [
        ({}, "kronos-operator"),
        ({"serviceAccount.name": "robot"}, "robot"),
        ({"serviceAccount.create": False}, "default"),
        ({"fullnameOverride": "kronos", "namespaces": ["quant"]}, "kronos"),
    ],
)
def test_rights_are_bounded_for_the_account_that_has_them(chart: Chart, values: Object, account: str) -> None:
    objects = chart.render(values)
    (policy,) = of_kind(objects, "ValidatingAdmissionPolicy").values()
    (binding,) = of_kind(objects, "ValidatingAdmissionPolicyBinding").values()
    (condition,) = policy["spec"]["matchConditions"]
    user = f"'system:serviceaccount:{NAMESPACE}:{account}'"
    assert condition["expression"] == f"request.userInfo.username == {user}"
    assert at(objects["Deployment", values.get("fullnameOverride", "kronos-operator")], SERVICE_ACCOUNT) == account
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    assert policy["spec"]["failurePolicy"] == "Fail"


def test_whatever_the_operator_may_create_or_delete_is_bounded_but_events(chart: Chart) -> None:
    (policy,) = of_kind(chart.render(), "ValidatingAdmissionPolicy").values()
    rules = policy["spec"]["matchConstraints"]["resourceRules"]
    assert all(rule["operations"] == ["CREATE", "UPDATE", "DELETE"] for rule in rules)
    bounded = {(group, one) for rule in rules for group in rule["apiGroups"] for one in rule["resources"]}
    writable = {key for key, verbs in RIGHTS.items() if {"create", "delete"} & set(verbs.split())}
    assert bounded == writable - {("events.k8s.io", "events")}


def test_limits_of_the_policy_on_names_bind_the_token_too(chart: Chart) -> None:
    limits = {f"policy.allowed{kind}": [f"only-{kind.lower()}"] for kind in ("ServiceAccounts", "Claims", "Secrets")}
    free, bound = (
        next(iter(of_kind(chart.render(values), "ValidatingAdmissionPolicy").values()))["spec"]["validations"]
        for values in ({}, limits)
    )
    assert bound[: len(free)] == free
    assert [
        f"'only-{kind}'" in rule["expression"]
        for kind, rule in zip(("serviceaccounts", "claims", "secrets"), bound[len(free) :], strict=True)
    ] == [True] * 3


def test_users_get_models_but_not_their_status(chart: Chart) -> None:
    roles = of_kind(chart.render(), "ClusterRole")
    users = granted(roles["kronos-operator-view"]) + granted(roles["kronos-operator-edit"])
    assert {(group, resource) for group, resource, _ in users} == {("kronos.io", "kronosmodels")}
    aggregated = [key for role in roles.values() for key in role["metadata"]["labels"] if "aggregate" in key]
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert sorted(aggregated) == [f"{prefix}edit", f"{prefix}view"]


def test_every_user_may_read_the_default_image_and_nothing_else_of_the_system_namespace(chart: Chart) -> None:
    objects = chart.render({"trainer.image.repository": "example.org/trainer", "trainer.image.tag": "7"})
    published = objects["ConfigMap", names.CLIENT_CONFIG_MAP]
    assert published["data"] == {names.CLIENT_IMAGE_KEY: "example.org/trainer:7"}
    assert published["metadata"]["namespace"] == names.CLIENT_NAMESPACE
    environment = at(objects["Deployment", "kronos-operator"], "spec/template/spec/containers/0/env")
    assert {"name": "KRONOS_DEFAULT_IMAGE", "value": "example.org/trainer:7"} in environment
    ((place, role),) = of_kind(objects, "Role").items()
    assert place == f"{names.CLIENT_NAMESPACE}/{names.CLIENT_CONFIG_MAP}"
    (rule,) = role["rules"]
    assert rule == {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [names.CLIENT_CONFIG_MAP],
        "verbs": ["get"],
    }
    (binding,) = of_kind(objects, "RoleBinding").values()
    assert [subject["name"] for subject in binding["subjects"]] == ["system:authenticated"]


def test_one_operator_at_a_time(chart: Chart) -> None:
    spec = chart.render()["Deployment", "kronos-operator"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_pod_has_no_privileges_and_writes_no_disk(chart: Chart) -> None:
    pod: Any = at(chart.render()["Deployment", "kronos-operator"], "spec/template/spec")
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert [one["securityContext"] for one in pod["containers"]] == [
        {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    ]
    assert "volumes" not in pod and "hostNetwork" not in pod


def test_metrics_service_reaches_the_operator(chart: Chart) -> None:
    objects = chart.render()
    service, deployment = objects["Service", "kronos-operator-metrics"], objects["Deployment", "kronos-operator"]
    labels = at(deployment, "spec/template/metadata/labels")
    ports = {port["name"]: port["containerPort"] for port in at(deployment, "spec/template/spec/containers/0/ports")}
    assert labels.items() >= service["spec"]["selector"].items()
    assert at(service, "spec/ports/0/targetPort") in ports


def test_network_policy_lets_in_scrapes_and_out_dns_and_the_api_server(chart: Chart) -> None:
    objects = chart.render()
    policy, deployment = objects["NetworkPolicy", "kronos-operator"]["spec"], objects["Deployment", "kronos-operator"]
    labels = at(deployment, "spec/template/metadata/labels")
    assert labels.items() >= policy["podSelector"]["matchLabels"].items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": "metrics"}]}]
    out = [(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]]
    assert out == [("UDP", 53), ("TCP", 53), ("TCP", 443), ("TCP", 6443), ("TCP", 8443)]
