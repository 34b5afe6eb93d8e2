"""What the operator reads of a workload and of its pods, by the kind of the workload."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from kronos_operator import names
from kronos_operator.api import BackendName
from kronos_operator.backends import BACKENDS, backend_of, backend_of_pod, node_rank
from kronos_operator.kube.kinds import CONFIGMAP, SERVICE

JOB, PYTORCH_JOB = BACKENDS[BackendName.JOB], BACKENDS[BackendName.PYTORCH_JOB]
INDEX = "batch.kubernetes.io/job-completion-index"
REPLICA = "training.kubeflow.org/replica-"
NAME = "m-tok-0123abcd-4"
LABELS = {names.MODEL_LABEL: "m", names.STAGE_LABEL: "tokenizer", names.ATTEMPT_LABEL: "4"}


def pod(kind: str, labels: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    owner = {"kind": kind, "name": NAME, "uid": "u", "controller": True}
    return {"metadata": {"labels": LABELS | (labels or {}), "ownerReferences": [owner]} | metadata}


def workload(kind: str, *conditions: str, **spec: Any) -> dict[str, Any]:
    found = [{"type": name, "status": "True"} for name in conditions]
    return {"kind": kind, "metadata": {"uid": "u"}, "spec": spec, "status": {"conditions": found}}


@pytest.mark.parametrize(
    ("backend", "spec", "kept", "size", "suspended"),
    [
        (JOB, {"suspend": True, "parallelism": 4, "completions": 9}, {"suspend": True, "parallelism": 4}, 4, True),
        (JOB, {"parallelism": 1, "template": {}}, {"parallelism": 1}, 1, False),
        (JOB, {}, {}, 0, False),
        (
            PYTORCH_JOB,
            {
                "runPolicy": {"suspend": True},
                "nprocPerNode": "2",
                "pytorchReplicaSpecs": {"Master": {"replicas": 1, "template": {}}, "Worker": {"replicas": 3}},
            },
            {
                "runPolicy": {"suspend": True},
                "pytorchReplicaSpecs": {"Master": {"replicas": 1}, "Worker": {"replicas": 3}},
            },
            4,
            True,
        ),
        # The training operator's default.
        (
            PYTORCH_JOB,
            {"pytorchReplicaSpecs": {"Master": {}}},
            {"pytorchReplicaSpecs": {"Master": {}}},
            1,
            False,
        ),
        (PYTORCH_JOB, {}, {}, 0, False),
    ],
)
def test_of_a_spec_the_size_and_the_suspension_are_kept_and_nothing_else(
    backend: Any, spec: dict[str, Any], kept: dict[str, Any], size: int, suspended: bool
) -> None:
    assert TypeAdapter(backend.kept).validate_python(spec) == kept
    for known in (kept, spec):
        assert (backend.size(known), backend.suspended(known)) == (size, suspended)


@pytest.mark.parametrize(
    ("kind", "labels", "annotations", "rank"),
    [
        ("Job", {INDEX: "3"}, None, 3),
        ("Job", {}, {INDEX: "2"}, 2),  # Kubernetes before 1.28
        ("Job", {INDEX: "3"}, {INDEX: "2"}, 3),
        ("Job", {}, None, 0),
        ("PyTorchJob", {f"{REPLICA}type": "master", f"{REPLICA}index": "0"}, None, 0),
        ("PyTorchJob", {f"{REPLICA}type": "worker", f"{REPLICA}index": "0"}, None, 1),
        ("PyTorchJob", {f"{REPLICA}type": "worker", f"{REPLICA}index": "2"}, None, 3),
        ("PyTorchJob", {f"{REPLICA}type": "worker"}, None, 1),
    ],
)
def test_the_rank_of_a_pod_in_its_gang(
    kind: str, labels: dict[str, str], annotations: dict[str, str] | None, rank: int
) -> None:
    assert node_rank(pod(kind, labels, annotations=annotations)) == rank


def test_a_pod_is_of_the_backend_whose_workload_controls_it_and_has_the_name_of_its_attempt() -> None:
    assert backend_of_pod(pod("Job")) is JOB
    assert backend_of_pod(pod("PyTorchJob")) is PYTORCH_JOB
    others = [pod("ReplicaSet"), pod("Job", ownerReferences=[]), pod("Job", {names.ATTEMPT_LABEL: "5"})]
    others.append({"metadata": {"ownerReferences": pod("Job")["metadata"]["ownerReferences"]}})
    for other in others:
        assert backend_of_pod(other) is None and node_rank(other) is None
    assert [backend_of({"kind": kind}) for kind in ("Job", "PyTorchJob")] == [JOB, PYTORCH_JOB]


@pytest.mark.parametrize(("backend", "kind"), [(JOB, "Job"), (PYTORCH_JOB, "PyTorchJob")])
def test_a_workload_owns_the_pods_that_it_controls(backend: Any, kind: str) -> None:
    assert backend.owns(workload(kind), pod(kind))
    assert not backend.owns(workload(kind) | {"metadata": {"uid": "another"}}, pod(kind))
    assert not backend.owns(workload(kind), pod("ReplicaSet"))


@pytest.mark.parametrize(
    ("backend", "conditions", "end", "failure"),
    [
        (JOB, [], None, None),
        (JOB, ["Complete"], "Complete", None),
        (JOB, ["Failed"], "Failed", "Failed"),
        (JOB, ["SuccessCriteriaMet"], None, None),
        (JOB, ["FailureTarget"], None, "FailureTarget"),  # it is about to fail
        (JOB, ["FailureTarget", "Failed"], "Failed", "Failed"),
        (PYTORCH_JOB, ["Running"], None, None),
        (PYTORCH_JOB, ["Succeeded"], "Succeeded", None),
        (PYTORCH_JOB, ["Failed"], "Failed", "Failed"),
    ],
)
def test_how_a_workload_has_ended_or_is_about_to_fail(
    backend: Any, conditions: list[str], end: str | None, failure: str | None
) -> None:
    seen = workload(backend.kind.kind, *conditions)
    found = (backend.end(seen) or {}).get("type"), (backend.failure(seen) or {}).get("type")
    assert found == (end, failure)


def test_only_the_message_of_a_job_has_exit_codes() -> None:
    message = "Container trainer for pod a/b failed with exit code 71 matching FailJob rule at index 0"
    assert (JOB.exit_codes(message), PYTORCH_JOB.exit_codes(message)) == ([71], [])
    assert JOB.exit_codes("Job has reached the specified backoff limit") == []


def test_a_job_of_several_nodes_needs_its_service_and_any_its_configuration() -> None:
    assert JOB.needs(workload("Job", parallelism=1)) == [CONFIGMAP]
    assert JOB.needs(workload("Job", parallelism=2)) == [CONFIGMAP, SERVICE]
    two = {"Master": {"replicas": 1}, "Worker": {"replicas": 1}}
    assert PYTORCH_JOB.needs(workload("PyTorchJob", pytorchReplicaSpecs=two)) == [CONFIGMAP]
