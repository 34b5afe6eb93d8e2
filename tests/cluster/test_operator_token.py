"""What somebody who holds the operator's token can do with it: make and remove children of KronosModels, no more."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from control_plane import OPERATOR_NAMESPACE, RELEASE, REPOSITORY, ControlPlane
from operator_process import eventually

Object = dict[str, Any]

GOLDEN = REPOSITORY / "tests" / "operator" / "golden"
POLICY = f"{OPERATOR_NAMESPACE}-{RELEASE}"
NAMESPACE = "token"
POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
MASTER = "spec.pytorchReplicaSpecs.Master.template.spec"
WORKER = "spec.pytorchReplicaSpecs.Worker.template.spec"
HOST_PATH = {"name": "h", "hostPath": {"path": "/"}}
TOKEN = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
ROOT = {"name": "c", "image": "any", "securityContext": {"privileged": True}}
# A kind that this API server knows nothing more about: the policy alone looks into it.
PYTORCHJOBS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "pytorchjobs.kubeflow.org"},
    "spec": {
        "group": "kubeflow.org",
        "names": {"kind": "PyTorchJob", "plural": "pytorchjobs", "singular": "pytorchjob"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}


def child(kind: str) -> Object:
    """One of the objects that the operator makes."""
    case = "pytorchjob-2-nodes-cpu" if kind == "PyTorchJob" else "job-2-nodes-cpu"
    documents = yaml.safe_load_all((GOLDEN / case / "children.yaml").read_text())
    one: Object = next(document for document in documents if document["kind"] == kind)
    one["metadata"]["namespace"] = NAMESPACE
    return one


def changed(one: Object, path: str, value: Any) -> Object:
    """The object with another value at a dotted path; one that is no list lengthens a list, None removes."""
    one = copy.deepcopy(one)
    *parents, last = path.split(".")
    place: Any = one
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if value is None:
        del place[last]
    elif isinstance(place.get(last), list) and not isinstance(value, list):
        place[last].append(value)
    else:
        place[last] = value
    return one


def create(cluster: ControlPlane, one: Object) -> subprocess.CompletedProcess[str]:
    return cluster.kubectl_as_operator("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(one))


@pytest.fixture(scope="module")
def guarded(cluster: ControlPlane) -> Iterator[ControlPlane]:
    """The cluster once the policy is in force, a moment after it was created."""
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, PYTORCHJOBS])
    unowned = changed(child("ConfigMap"), "metadata.ownerReferences", None)
    eventually(lambda: POLICY in create(cluster, unowned).stderr, "the admission policy")
    yield cluster
    cluster.kubectl("delete", "crd", "pytorchjobs.kubeflow.org")


NODE = "must not share host namespaces"
VOLUMES = "may mount only ConfigMaps, emptyDirs and claims"
SERVICE_ACCOUNT = "must not mount a ServiceAccount token"
USER = "must run as non-root"
PRIVILEGES = "must have no privileges, no capabilities"
OWNED = "only objects controlled by a KronosModel"
LABELLED = "app.kubernetes.io/managed-by=kronos-operator"
OWNER = {"apiVersion": "kronos.io/v1alpha1", "kind": "KronosModel", "name": "m", "uid": "0", "controller": True}

# What is made of a child, and the rule that stands against it.
ESCALATIONS: list[tuple[str, str, Any, str]] = [
    ("Job", f"{POD}.hostPID", True, NODE),
    ("Job", f"{POD}.hostIPC", True, NODE),
    ("Job", f"{POD}.hostNetwork", True, NODE),
    ("Job", f"{POD}.nodeName", "control-plane", NODE),
    ("Job", f"{POD}.resourceClaims", [{"name": "gpu", "resourceClaimName": "all"}], NODE),
    ("Job", f"{CONTAINER}.ports", {"containerPort": 22, "hostPort": 22}, NODE),
    ("Job", f"{POD}.volumes", HOST_PATH, VOLUMES),
    ("Job", f"{POD}.volumes", {"name": "s", "secret": {"secretName": "admin-token"}}, VOLUMES),
    ("Job", f"{POD}.volumes", TOKEN, VOLUMES),
    ("Job", f"{POD}.automountServiceAccountToken", True, SERVICE_ACCOUNT),
    ("Job", f"{POD}.automountServiceAccountToken", None, SERVICE_ACCOUNT),
    ("Job", f"{POD}.securityContext.runAsNonRoot", False, USER),
    ("Job", f"{POD}.securityContext.runAsUser", 0, USER),
    ("Job", f"{POD}.securityContext.runAsGroup", 0, USER),
    ("Job", f"{POD}.securityContext.fsGroup", 0, USER),
    ("Job", f"{POD}.securityContext.supplementalGroups", [1000, 0], USER),
    ("Job", f"{POD}.securityContext.seccompProfile", {"type": "Unconfined"}, USER),
    ("Job", f"{POD}.securityContext.appArmorProfile", {"type": "Unconfined"}, USER),
    ("Job", f"{POD}.securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}], USER),
    ("Job", f"{CONTAINER}.securityContext", {"privileged": True}, PRIVILEGES),
    ("Job", f"{CONTAINER}.securityContext", None, PRIVILEGES),
    ("Job", f"{CONTAINER}.securityContext.allowPrivilegeEscalation", True, PRIVILEGES),
    ("Job", f"{CONTAINER}.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, PRIVILEGES),
    ("Job", f"{CONTAINER}.securityContext.runAsUser", 0, PRIVILEGES),
    ("Job", f"{POD}.initContainers", [ROOT], PRIVILEGES),
    ("Job", f"{POD}.containers", ROOT, PRIVILEGES),
    ("Job", "metadata.ownerReferences", None, OWNED),
    ("Job", "metadata.ownerReferences", [OWNER | {"kind": "Deployment"}], OWNED),
    ("Job", "metadata.ownerReferences", [OWNER | {"controller": False}], OWNED),
    ("Job", "metadata.labels", {"app.kubernetes.io/managed-by": "Helm"}, LABELLED),
    ("Job", "metadata.namespace", "kube-system", "the system namespaces kube-"),
    ("PyTorchJob", f"{MASTER}.hostPID", True, NODE),
    ("PyTorchJob", f"{WORKER}.hostPID", True, NODE),
    ("PyTorchJob", f"{WORKER}.volumes", HOST_PATH, VOLUMES),
    ("PyTorchJob", f"{WORKER}.volumes", {"name": "x", "emptyDir": {}, "hostPath": {"path": "/"}}, VOLUMES),
    ("PyTorchJob", f"{WORKER}.automountServiceAccountToken", True, SERVICE_ACCOUNT),
    ("PyTorchJob", f"{WORKER}.initContainers", [ROOT], PRIVILEGES),
    ("PyTorchJob", f"{WORKER}.securityContext.runAsUser", 0, USER),
    ("PyTorchJob", "metadata.ownerReferences", None, OWNED),
    (
        "ConfigMap",
        "data",
        {"mapRoles": "- rolearn: mine\n  groups: [system:masters]"},
        "contain only run.json or frozen.json",
    ),
    ("ConfigMap", "immutable", False, "must be immutable"),
    ("ConfigMap", "metadata.labels", None, LABELLED),
    ("Service", "spec", {"type": "NodePort", "ports": [{"port": 443}]}, "Services must be headless"),
    ("Service", "spec", {"type": "ExternalName", "externalName": "evil.example"}, "Services must be headless"),
    ("Service", "spec.externalIPs", ["203.0.113.1"], "Services must be headless"),
    ("Service", "metadata.ownerReferences", None, OWNED),
]


@pytest.mark.parametrize("kind", ["Job", "PyTorchJob", "ConfigMap", "Service"])
def test_children_of_a_model_are_let_through(guarded: ControlPlane, kind: str) -> None:
    done = create(guarded, child(kind))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("kind", "path", "value", "rule"), ESCALATIONS)
def test_every_way_to_more_is_refused(guarded: ControlPlane, kind: str, path: str, value: Any, rule: str) -> None:
    escalation = changed(child(kind), path, value)
    if path == f"{POD}.hostPID":
        # The two exclude each other, which the API server itself would say first.
        escalation = changed(escalation, f"{POD}.shareProcessNamespace", False)
    done = create(guarded, escalation)
    assert done.returncode != 0
    assert f"ValidatingAdmissionPolicy '{POLICY}'" in done.stderr and rule in done.stderr


def test_a_pod_that_owns_its_node_is_refused_whatever_it_pretends(guarded: ControlPlane) -> None:
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": "clusterrole-aggregation-controller",
        "hostPID": True,
        "containers": [ROOT | {"volumeMounts": [{"name": "h", "mountPath": "/h"}]}],
        "volumes": [HOST_PATH],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "pwn", "namespace": "kube-system"},
        "spec": {"template": {"spec": pod}},
    }
    done = create(guarded, job)
    assert done.returncode != 0 and POLICY in done.stderr
    pretends = {key: child("Job")["metadata"][key] for key in ("labels", "ownerReferences")}
    done = create(guarded, job | {"metadata": {"name": "pwn", "namespace": NAMESPACE} | pretends})
    assert done.returncode != 0 and POLICY in done.stderr


def test_objects_of_others_cannot_be_deleted(guarded: ControlPlane) -> None:
    # No model owns them: the garbage collector would take what a missing one does.
    ours = changed(child("ConfigMap"), "metadata.ownerReferences", None)
    others = child("ConfigMap")
    others["metadata"] = {"name": "coredns", "namespace": NAMESPACE}
    guarded.apply([ours, others])
    refused = guarded.kubectl_as_operator("delete", "configmap", "coredns", f"--namespace={NAMESPACE}")
    assert refused.returncode != 0 and LABELLED in refused.stderr
    done = guarded.kubectl_as_operator("delete", "configmap", ours["metadata"]["name"], f"--namespace={NAMESPACE}")
    assert done.returncode == 0, done.stderr


def test_objects_of_others_cannot_be_deleted_among_many_either(guarded: ControlPlane) -> None:
    ours = changed(child("ConfigMap"), "metadata.ownerReferences", None)
    others = child("ConfigMap")
    others["metadata"] = {"name": "coredns", "namespace": NAMESPACE, "labels": {"many": "yes"}}
    ours["metadata"]["labels"]["many"] = "yes"
    guarded.apply([ours, others])
    # kubectl lists and deletes one by one; this is one request.
    token = f"/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector=many"
    refused = guarded.kubectl_as_operator("delete", "--raw", token)
    assert refused.returncode != 0 and LABELLED in refused.stderr
    assert guarded.kubectl("get", "configmap", "coredns", f"--namespace={NAMESPACE}").returncode == 0
    done = guarded.kubectl_as_operator("delete", "--raw", f"{token},{LABELLED.replace('=', '%3D')}")
    assert done.returncode == 0, done.stderr
    assert guarded.kubectl("get", "configmap", ours["metadata"]["name"], f"--namespace={NAMESPACE}").returncode != 0


def test_the_token_reads_no_secret_and_makes_no_pod_token_or_right(guarded: ControlPlane) -> None:
    for verb, resource in (
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("update", "pods/ephemeralcontainers"),
        ("create", "serviceaccounts/token"),
        ("create", "deployments.apps"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("impersonate", "serviceaccounts"),
        ("update", "jobs.batch"),
        ("update", "configmaps"),
        ("deletecollection", "pods"),
        ("deletecollection", "kronosmodels.kronos.io"),
        ("update", "kronosmodels.kronos.io"),
        ("delete", "validatingadmissionpolicies.admissionregistration.k8s.io"),
    ):
        done = guarded.kubectl_as_operator("auth", "can-i", verb, resource, f"--namespace={NAMESPACE}")
        assert done.stdout.strip() == "no", f"{verb} {resource}: {done.stdout}{done.stderr}"


def test_limits_on_names_bind_the_token_too(guarded: ControlPlane) -> None:
    helm = [guarded.binaries["helm"], "template", RELEASE, REPOSITORY / "charts" / RELEASE]
    values = {
        "fullnameOverride": "strict",
        "serviceAccount.name": RELEASE,
        "policy.allowedServiceAccounts": "{trainer}",
        "policy.allowedClaims": "{bars,models}",
        "policy.allowedSecrets": "{hub}",
    }
    settings = [f"--set={name}={value}" for name, value in values.items()]
    where = [
        f"--namespace={OPERATOR_NAMESPACE}",
        "--kube-version=1.37.0",
        "--show-only=templates/admission-policy.yaml",
    ]
    done = subprocess.run([*helm, *settings, *where], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = list(yaml.safe_load_all(done.stdout))
    guarded.apply(documents)
    secret = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}
    hub = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "p"}}}
    claim = {"name": "c", "persistentVolumeClaim": {"claimName": "payroll"}}
    job = child("Job")
    try:
        other = changed(job, f"{POD}.serviceAccountName", "clusterrole-aggregation-controller")
        eventually(lambda: "policy.allowedServiceAccounts" in create(guarded, other).stderr, "the stricter policy")
        for path, value, rule in (
            (f"{POD}.serviceAccount", "admin", "policy.allowedServiceAccounts"),
            (f"{POD}.volumes", claim, "policy.allowedClaims"),
            (f"{CONTAINER}.env", secret, "policy.allowedSecrets"),
            (f"{CONTAINER}.envFrom", [{"secretRef": {"name": "hub"}}], "policy.allowedSecrets"),
            (f"{POD}.imagePullSecrets", [{"name": "db"}], "policy.allowedSecrets"),
        ):
            assert rule in create(guarded, changed(job, path, value)).stderr, path
        for path, value in ((f"{POD}.serviceAccountName", "trainer"), (f"{CONTAINER}.env", hub)):
            allowed = create(guarded, changed(job, path, value))
            assert allowed.returncode == 0, allowed.stderr
    finally:
        for body in documents:
            guarded.kubectl("delete", body["kind"], body["metadata"]["name"])


def test_the_policys_expressions_are_well_typed(guarded: ControlPlane) -> None:
    path = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{POLICY}"

    def checked() -> Object | None:
        status: Object = guarded.request("GET", path).get("status") or {}
        return status if status.get("observedGeneration") else None

    assert not eventually(checked, "the type check").get("typeChecking", {}).get("expressionWarnings")
