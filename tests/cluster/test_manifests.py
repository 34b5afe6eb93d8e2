"""The golden objects of every backend before a real API server, in a namespace that enforces `restricted`.

The operator's own token creates them, held to its children by the chart's admission policy.
"""

import copy
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import ControlPlane

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "operator" / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())
NAMESPACE = "quant"
TRAINING_OPERATOR = "github.com/kubeflow/training-operator@v1.8.1"


POINTERS = sorted(path.parent.name for path in GOLDEN.glob("*/pointer.yaml"))


def objects(case: str, file: str = "children.yaml") -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((GOLDEN / case / file).read_text()))


def pods(workload: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods that a controller would make of a workload, one of each role."""
    spec = copy.deepcopy(workload["spec"])
    templates = [role["template"] for role in spec.get("pytorchReplicaSpecs", {"": spec}).values()]
    for number, template in enumerate(templates):
        template["metadata"] |= {"name": f"{workload['metadata']['name']}-{number}", "namespace": NAMESPACE}
    return [{"apiVersion": "v1", "kind": "Pod", **template} for template in templates]


@pytest.fixture(scope="module")
def restricted(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The cluster with all that the golden objects refer to and admission asks for."""
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": levels}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named("bucket-reader")},
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": "training"},
                "value": 1,
            },
            {
                "apiVersion": "node.k8s.io/v1",
                "kind": "RuntimeClass",
                "metadata": {"name": "nvidia"},
                "handler": "nvidia",
            },
            _pytorchjob_crd(tmp_path_factory.mktemp("module")),
        ]
    )
    for wait in (
        ("wait", "--for=condition=Established", "crd/pytorchjobs.kubeflow.org", "--timeout=30s"),
        ("wait", "--for=create", "serviceaccount/default", f"--namespace={NAMESPACE}", "--timeout=30s"),
    ):
        done = cluster.kubectl(*wait)
        assert done.returncode == 0, done.stderr
    yield cluster
    # Other tests decide for themselves whether the cluster knows PyTorchJobs.
    cluster.kubectl("delete", "crd", "pytorchjobs.kubeflow.org")


def _named(name: str) -> dict[str, str]:
    return {"name": name, "namespace": NAMESPACE}


def _pytorchjob_crd(directory: Path) -> dict[str, Any]:
    """The training operator's own CRD, out of the Go module that hack/cluster/binaries builds it from."""
    go = shutil.which("go")
    assert go is not None, "this test reads a CRD out of a Go module: install Go"
    command = [go, "mod", "download", "-json", TRAINING_OPERATOR]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    module = Path(json.loads(done.stdout)["Dir"])
    definition = yaml.safe_load((module / "manifests" / "base" / "crds" / "kubeflow.org_pytorchjobs.yaml").read_text())
    assert isinstance(definition, dict)
    definition.pop("status", None)  # its generator left an empty one
    return definition


def create(cluster: ControlPlane, documents: Iterable[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """kubectl refuses fields that the API server does not know, and repeats its warnings."""
    return cluster.kubectl("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(documents))


@pytest.mark.parametrize("case", CASES)
def test_objects_are_accepted_without_a_warning_from_the_operators_token(restricted: ControlPlane, case: str) -> None:
    documents = objects(case)
    text = yaml.safe_dump_all(documents)
    done = restricted.kubectl_as_operator("create", "--dry-run=server", "-f", "-", input=text)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("created (server dry run)") == len(documents)


@pytest.mark.parametrize("case", CASES)
def test_pods_are_admitted(restricted: ControlPlane, case: str) -> None:
    """A workload is warned about, its pods are refused."""
    done = create(restricted, pods(objects(case)[-1]))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("case", POINTERS)
def test_the_pod_of_a_promotion_is_made_by_the_operators_token_and_admitted(
    restricted: ControlPlane, case: str
) -> None:
    (job,) = objects(case, "pointer.yaml")
    done = restricted.kubectl_as_operator("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(job))
    assert (done.returncode, done.stderr) == (0, "")
    done = create(restricted, pods(job))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_namespace_would_refuse_less(restricted: ControlPlane) -> None:
    (pod,) = pods(objects("job-2-nodes-cpu")[-1])
    del pod["spec"]["securityContext"]["seccompProfile"]
    done = create(restricted, [pod])
    assert done.returncode != 0 and "violates PodSecurity" in done.stderr


def test_workers_are_admitted_with_the_training_operators_init_container(restricted: ControlPlane) -> None:
    shipped = yaml.safe_load((REPOSITORY / "manifests" / "pytorchjob-init-container.yaml").read_text())
    template = shipped["data"]["initContainer.yaml"]
    values = {"{{.InitContainerImage}}": "alpine:3.10", "{{.MaxTries}}": "100", "{{.MasterAddr}}": "model-master-0"}
    for name, value in values.items():
        assert name in template
        template = template.replace(name, value)
    _, worker = pods(objects("pytorchjob-2-nodes-cpu")[-1])
    worker["spec"]["initContainers"] = yaml.safe_load(template)
    done = create(restricted, [worker])
    assert (done.returncode, done.stderr) == (0, "")
