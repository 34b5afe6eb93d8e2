"""The chart before a real API server: valid, installed, upgraded from an older release, removed and installed again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import OPERATOR_NAMESPACE, RELEASE, REPOSITORY, ControlPlane
from operator_process import eventually, operator
from shell import Shell

CHART = REPOSITORY / "charts" / RELEASE
OLDER = REPOSITORY / "tests" / "chart" / "old" / RELEASE
INSTALL = REPOSITORY / "manifests" / "install.yaml"
ADDED = "spec.training.gradientCheckpointing"  # what the older release's schema lacks
EVERY_PART = (
    "imagePullSecrets[0].name=pull",
    "podAnnotations.a=b",
    "nodeSelector.disk=ssd",
    "tolerations[0].operator=Exists",
    "priorityClassName=system-cluster-critical",
    "metrics.dashboard.enabled=true",
)
CLUSTER_WIDE = (
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"  # beside the CRD
)
# Of the Prometheus operator: its schemas are not the API server's.
FOREIGN = ("metrics.serviceMonitor.enabled=true", "metrics.rules.enabled=true")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane that the tests of other modules do not know."""
    plane = ControlPlane(tmp_path_factory.mktemp("own"))
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="module")
def bare(own: ControlPlane) -> ControlPlane:
    """It, without what those find installed."""
    kubectl(own, "delete", "crd/kronosmodels.kronos.io", "--ignore-not-found")
    ours = f"--selector=app.kubernetes.io/instance={RELEASE}"
    kubectl(own, "delete", f"serviceaccounts,{CLUSTER_WIDE}", "--all-namespaces", ours)
    return own


def kubectl(plane: ControlPlane, *arguments: str | Path, input: str | None = None) -> str:
    done = plane.kubectl(*arguments, input=input)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def helm(plane: ControlPlane, *arguments: str | Path) -> str:
    command = [plane.binaries["helm"], "--kubeconfig", plane.kubeconfig, "--namespace", OPERATOR_NAMESPACE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(plane: ControlPlane, *values: str) -> str:
    settings = [f"--set={value}" for value in values]
    return helm(plane, "template", RELEASE, CHART, "--kube-version=1.37.0", *settings)


def write_schemas(swagger: dict[str, Any], folder: Path) -> str:
    """Writes JSON schemas of all kinds as kubeconform looks for them; returns its pattern of file names."""
    definitions: dict[str, Any] = swagger["definitions"]
    for one in definitions.values():
        if one.get("format") == "int-or-string":
            one.clear()
            one["type"] = ["integer", "string"]
        if "properties" in one:
            one.setdefault("additionalProperties", False)
    (folder / "definitions.json").write_text(json.dumps({"definitions": definitions}))
    for name, one in definitions.items():
        for kind in one.get("x-kubernetes-group-version-kind", []):
            parts = [kind["kind"], kind["group"].split(".")[0], kind["version"]]
            file = folder / f"{'-'.join(part.lower() for part in parts if part)}.json"
            file.write_text(json.dumps({"$ref": f"definitions.json#/definitions/{name}"}))
    return str(folder / "{{ .ResourceKind }}{{ .KindSuffix }}.json")


def test_kubeconform_accepts_every_object(cluster: ControlPlane, tmp_path: Path) -> None:
    program = cluster.binaries["helm"].with_name("kubeconform")
    assert program.exists(), "kubeconform is absent: hack/cluster/binaries kubeconform"
    pattern = write_schemas(cluster.request("GET", "/openapi/v2"), tmp_path)
    command = [program, "-strict", "-summary", "-schema-location", pattern, "-skip=ServiceMonitor,PrometheusRule", "-"]
    for manifest in (INSTALL.read_text(), rendered(cluster, *EVERY_PART, *FOREIGN)):
        done = subprocess.run(command, input=manifest, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert "Invalid: 0, Errors: 0" in done.stdout
    broken = INSTALL.read_text().replace("replicas: 1", "replica: 1")
    assert "'replica'" in subprocess.run(command, input=broken, capture_output=True, text=True, check=False).stdout


def test_server_accepts_every_object_in_a_restricted_namespace(cluster: ControlPlane) -> None:
    kubectl(
        cluster, "label", "--overwrite", f"namespace/{OPERATOR_NAMESPACE}", "pod-security.kubernetes.io/warn=restricted"
    )
    said = kubectl(
        cluster, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename=-",
        input=rendered(cluster, *EVERY_PART),
    )  # fmt: skip
    assert "deployment.apps/kronos-operator serverside-applied (server dry run)" in said
    assert "Warning" not in said


def test_kustomization_of_the_page_puts_both_images_in(cluster: ControlPlane, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "install.md").read_text()
    (block,) = [block for block in page.split("```") if "resources: [install.yaml]" in block]
    (tmp_path / "kustomization.yaml").write_text(block.removeprefix("yaml\n"))
    (tmp_path / INSTALL.name).write_text(INSTALL.read_text())
    user = Shell.of(cluster.kubeconfig, cluster.places, tmp_path / "kubeconfig", directory=tmp_path)
    user("kubectl kustomize . | kubectl apply --server-side -f -")
    deployment = cluster.request("GET", f"/apis/apps/v1/namespaces/{OPERATOR_NAMESPACE}/deployments/{RELEASE}")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    before = next(one for one in yaml.safe_load_all(INSTALL.read_text()) if one["kind"] == "Deployment")
    variables = {one["name"]: one.get("value", "") for one in container["env"]}
    assert container["image"] == "example.org/ml/kronos-operator:0.1.0"
    assert variables["KRONOS_DEFAULT_IMAGE"] == "example.org/ml/kronos-trainer:0.1.0"
    assert len(variables) == len(before["spec"]["template"]["spec"]["containers"][0]["env"])


# Before those of `bare`: of a definition that is new, the garbage collector hears within half a minute only.
def test_the_definition_takes_models_along_and_with_them_their_jobs_and_pods(
    own: ControlPlane, tmp_path: Path, model: Callable[..., dict[str, Any]]
) -> None:
    kubectl(own, "create", "--filename=-", input=yaml.safe_dump(model("model-b-1d")))
    job = running_job(own.request("GET", MODEL)["metadata"]["uid"])
    own.apply([job])
    kubectl(own, "wait", "--for=jsonpath={.status.active}=1", f"job/{job['metadata']['name']}")
    user = Shell.of(own.kubeconfig, own.places, tmp_path / "kubeconfig")
    user("kubectl delete crd kronosmodels.kronos.io")
    eventually(lambda: not kubectl(own, "get", "jobs,pods", "--output=name"), "the end of its Job and pods")


def test_an_operator_that_comes_before_its_definition_waits_for_it(
    bare: ControlPlane, tmp_path: Path, model: Callable[..., dict[str, Any]]
) -> None:
    log = tmp_path / "operator.log"
    # Its resync, which would see the model too, comes much later.
    with operator(bare, "default", log, KUBECONFIG=str(bare.kubeconfig), KRONOS_RESYNC_SECONDS="3600"):
        eventually(lambda: "CustomResourceDefinition" in log.read_text(), "the operator's complaint")
        bare.apply([yaml.safe_load((REPOSITORY / "manifests" / "crd.yaml").read_text())])
        kubectl(bare, "create", "--filename=-", input=yaml.safe_dump(model("early")))
        eventually(
            lambda: bare.request("GET", MODEL.replace("model-b-1d", "early")).get("status", {}).get("phase"),
            "the model's phase",
        )
    kubectl(bare, "delete", "crd/kronosmodels.kronos.io")


def test_upgrade_uninstall_and_reinstall_leave_models_and_their_children_alone(
    bare: ControlPlane, model: Callable[..., dict[str, Any]]
) -> None:
    helm(bare, "install", RELEASE, OLDER)
    kubectl(bare, "wait", "--for=condition=Established", "crd/kronosmodels.kronos.io")
    early = yaml.safe_dump(model("model-b-1d", training={"gradientCheckpointing": True}))
    assert f'unknown field "{ADDED}"' in bare.kubectl("create", "--filename=-", input=early).stderr
    kubectl(bare, "create", "--filename=-", input=yaml.safe_dump(model("model-b-1d")))
    before = state(bare)
    bare.apply([running_job(before["uid"])])
    kubectl(bare, "wait", "--for=jsonpath={.status.active}=1", "job/model-b-1d-tok-0f3b21aa-1")
    write_status(bare, observedGeneration=1, phase="Training", stage="tokenizer")
    before = state(bare)
    assert before["pods"] and before["phase"] == "Training"

    helm(bare, "upgrade", RELEASE, CHART, "--reset-then-reuse-values")
    # The new schema's default shows in the old object, and is no change of its spec.
    kubectl(bare, "wait", f"--for=jsonpath={{.{ADDED}}}=false", "kronosmodel/model-b-1d")
    assert state(bare) == before
    assert "Recreate" in kubectl(bare, "get", "deployments", "--all-namespaces", "--output=yaml")

    helm(bare, "uninstall", RELEASE)
    assert state(bare) == before
    left = kubectl(bare, "get", f"deployments,{CLUSTER_WIDE}", "--all-namespaces", "--output=name")
    assert RELEASE not in left

    helm(bare, "install", RELEASE, CHART)
    assert state(bare) == before
    assert f"deployment.apps/{RELEASE}" in kubectl(bare, "get", "deployments", "--all-namespaces", "--output=name")
    # The older definition has each of its fields owned by itself.
    written = write_status(bare, observedGeneration=1, phase="Suspended")
    assert written["status"] == {"observedGeneration": 1, "phase": "Suspended"}
    (held,) = [one for one in written["metadata"]["managedFields"] if one.get("subresource") == "status"]
    assert held["fieldsV1"] == {"f:status": {}}


def write_status(cluster: ControlPlane, **status: Any) -> dict[str, Any]:
    """Writes a status as the operator does."""
    body = {"apiVersion": "kronos.io/v1alpha1", "kind": "KronosModel", "metadata": {"name": "model-b-1d"}}
    path = f"{MODEL}/status?fieldManager=kronos-operator&force=true"
    answer: dict[str, Any] = cluster.request(
        "PATCH", path, body | {"status": status}, content="application/apply-patch+yaml"
    )
    return answer


def test_namespaced_release_may_act_in_its_namespaces_only(bare: ControlPlane) -> None:
    kubectl(bare, "create", "namespace", "quant")
    values = "--set=namespaces={quant},crds.install=false,userRoles.create=false"
    helm(bare, "install", "team", CHART, values)
    operator = f"--as=system:serviceaccount:{OPERATOR_NAMESPACE}:team-{RELEASE}"
    for resource, namespace, answer in (
        ("jobs", "quant", "yes"),
        ("jobs", "default", "no"),
        ("secrets", "quant", "no"),
    ):
        done = bare.kubectl("auth", "can-i", "create", resource, operator, f"--namespace={namespace}")
        assert done.stdout.strip() == answer


DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/kronosmodels.kronos.io"
MODEL = "/apis/kronos.io/v1alpha1/namespaces/default/kronosmodels/model-b-1d"


def state(plane: ControlPlane) -> dict[str, Any]:
    """What an operator sees of the model and its children."""
    definition = plane.request("GET", DEFINITION)
    one = plane.request("GET", MODEL)
    jobs = plane.request("GET", "/apis/batch/v1/namespaces/default/jobs")["items"]
    pods = plane.request("GET", "/api/v1/namespaces/default/pods")["items"]
    return {
        "uid": one["metadata"]["uid"],
        "generation": one["metadata"]["generation"],
        "deleted": "deletionTimestamp" in definition["metadata"] or "deletionTimestamp" in one["metadata"],
        "phase": one["status"].get("phase"),
        "jobs": {job["metadata"]["uid"]: job["spec"] for job in jobs},
        "pods": [pod["metadata"]["uid"] for pod in pods],
    }


def running_job(owner: str) -> dict[str, Any]:
    """A Job of the model as the operator makes it, in what matters here."""
    reference = {"apiVersion": "kronos.io/v1alpha1", "kind": "KronosModel", "name": "model-b-1d", "uid": owner}
    container = {"name": "trainer", "image": "kronos-trainer"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "model-b-1d-tok-0f3b21aa-1",
            "namespace": "default",
            "ownerReferences": [{**reference, "controller": True}],
        },
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
