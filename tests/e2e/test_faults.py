"""What fails beside a training: its numbers, the objects that its pods need, its node."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live import Live, Manifest, wait_until
from release import REPOSITORY
from story import LONG, Story, exit_codes

ALONE = {"nodes": 1, "gpusPerNode": 0, "memory": "1Gi", "sharedMemory": "64Mi"}
LATE = "kronos.io/e2e-late"


@pytest.fixture
def late(operator: Live) -> Iterator[Callable[[], None]]:
    """Gives the node the label that pods of LATE wait for."""
    node = f"node/{operator.node}"
    yield lambda: operator.kubectl("label", node, f"{LATE}=yes") and None
    operator.kubectl("label", node, f"{LATE}-")


def test_a_training_that_diverges_ends_with_its_last_words_and_is_not_tried_again(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    manifest = model(epochs=4, resources=ALONE)
    # Each step multiplies the weights by 1 - 1 * 10.
    manifest["spec"]["tokenizer"] |= {"learningRate": 1.0, "weightDecay": 10.0, "gradientClip": 1000}
    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(manifest)
        assert story.wait_for_end() == ("True", "Failed"), story.status
        status = story.status
    assert status["failure"]["reason"] == "TrainingDiverged"
    assert "NaN" in status["failure"]["message"] and "Lower tokenizer.learningRate" in status["failure"]["message"]
    assert '"exitCode":70' in status["failure"]["logTail"]
    assert not any(status["run"]["restarts"].values()) and len(story.pods) == 1
    assert exit_codes(story.pods) == {70}


def test_a_gang_gets_back_what_it_needs_to_start_and_trains_without_comet(
    operator: Live, namespace: str, model: Callable[..., Manifest], late: Callable[[], None]
) -> None:
    comet = {"project": "kronos", "apiKeySecret": {"name": "absent", "key": "key"}}
    manifest = model(epochs=LONG, comet=comet)
    manifest["spec"]["podTemplate"]["nodeSelector"] = {LATE: "yes"}
    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(manifest)
        wait_until("two pods", lambda: len(story.pods) == 2)
        (gang,) = story.gangs()
        operator.kubectl("delete", f"configmap/{gang}", f"service/{gang}", "-n", namespace)
        late()
        status = story.wait_for_step("tokenizer", attempt=0)
        about = ["--field-selector=regarding.name=model-b-1d,reason=ChildRestored", "-n", namespace]
        events = operator.kubectl("get", "events.v1.events.k8s.io", "-o", "wide", *about)
        assert f"ConfigMap {gang} was gone" in events and f"Service {gang} was gone" in events
        assert not any(status["run"]["restarts"].values())

        # A gang that has met does without its Service, which is not made again.
        operator.kubectl("delete", f"service/{gang}", "-n", namespace)
        step = status["progress"]["step"]
        status = story.wait_for_step("tokenizer", step + 20, attempt=0)
        assert not any(status["run"]["restarts"].values())
        first = next(iter(story.gangs().values()))[0]["metadata"]["name"]
        notes = [line for line in operator.kubectl("logs", first, "-n", namespace).splitlines() if '"note"' in line]
        assert len([note for note in notes if "COMET_API_KEY is not set" in note]) == 1, notes


@pytest.fixture
def kubelet(operator: Live) -> Iterator[Callable[[str], None]]:
    """Stops and starts the node's kubelet; it runs afterwards whatever happens, and the node is ready."""
    node = operator.node

    def run(action: str) -> None:
        done = subprocess.run([REPOSITORY / "hack/cluster/kubelet", action], check=False)
        if done.returncode == 69:
            pytest.skip("the kubelet is not a process of this machine")
        assert done.returncode == 0

    yield run
    if not operator.kubectl("get", "node", node, "--ignore-not-found"):
        run("stop")  # it makes its node known when it starts
    run("start")
    wait_until("the node", lambda: operator.kubectl("get", "node", node, "--ignore-not-found"))
    operator.kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=120s")


def test_a_node_that_goes_silent_and_one_that_is_deleted_cost_a_gang_a_restart(
    operator: Live, namespace: str, model: Callable[..., Manifest], kubelet: Callable[[str], None]
) -> None:
    manifest = model(epochs=LONG, resources=ALONE)
    manifest["spec"]["podTemplate"]["tolerations"] = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        for key in ("unreachable", "not-ready")
    ]
    node = operator.node

    def ready() -> str:
        return next(one["message"] for one in story.status["conditions"] if one["type"] == "Ready")

    def last(count: int) -> dict[str, Any]:
        def restarted() -> dict[str, Any] | None:
            restarts = story.status.get("run", {}).get("restarts", {})
            return restarts.get("last") if restarts.get("disruptions") == count else None

        found: dict[str, Any] = wait_until(f"disruption {count}", restarted, seconds=300)
        return found

    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(manifest)
        wait_until("a checkpoint", lambda: story.status.get("checkpoint", {}).get("step", 0) > 0)
        kubelet("stop")
        wait_until("the silent node", lambda: f"not ready: node {node}" in ready())
        # Where other nodes are left the node controller does so; it spares the pods of an only node.
        operator.kubectl("taint", "node", node, "node.kubernetes.io/unreachable:NoExecute", "--overwrite")
        wait_until("its eviction", lambda: "deletionTimestamp" in story.pods[0]["metadata"])
        kubelet("start")  # and hears that its pod was to go long ago
        restart = last(1)
        assert restart["reason"] == "DeletionByTaintManager"
        assert node in restart["message"] and "node.kubernetes.io/unreachable" in restart["message"], restart
        story.wait_for_step("tokenizer", attempt=1)
        assert story.steps(story.pods[-1]["metadata"]["name"])[0] > 0

        # A kubelet makes itself known once, when it starts.
        operator.kubectl("delete", "node", node)
        wait_until("no pod", lambda: not operator.list("pods", namespace))
        kubelet("stop")
        kubelet("start")
        last(2)  # in what words depends on whether the operator, which was on the same node, was still there
        story.wait_for_step("tokenizer", attempt=2)
        assert story.steps(story.pods[-1]["metadata"]["name"])[0] > 0
        assert not story.status["run"]["restarts"]["crashes"]
