"""Gangs in a real Kueue's queue: they wait for its quota, tell their place, and outlive its evictions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live import Live, Manifest, wait_until
from release import REPOSITORY
from story import LONG, Story

QUEUE = "team-a"


@pytest.fixture(scope="module")
def kueue(training_operator: Live) -> Live:
    """The cluster with Kueue in it too."""
    subprocess.run([REPOSITORY / "hack/cluster/kueue"], check=True)
    return training_operator


@pytest.fixture
def cluster_queue(kueue: Live, namespace: str) -> Iterator[str]:
    """Makes the namespace Kueue's, with a LocalQueue `team-a` whose ClusterQueue has room for one gang of two pods."""
    kueue.kubectl("label", "namespace", namespace, "kueue=enabled")
    quotas = [{"name": "cpu", "nominalQuota": 100}, {"name": "memory", "nominalQuota": "3Gi"}]
    flavors = [{"name": namespace, "resources": quotas}]
    spec: Manifest = {
        "namespaceSelector": {},
        "resourceGroups": [{"coveredResources": ["cpu", "memory"], "flavors": flavors}],
    }
    api = {"apiVersion": "kueue.x-k8s.io/v1beta2"}
    kueue.apply(
        api | {"kind": "ResourceFlavor", "metadata": {"name": namespace}},
        api | {"kind": "ClusterQueue", "metadata": {"name": namespace}, "spec": spec},
        api
        | {"kind": "LocalQueue", "metadata": {"name": QUEUE, "namespace": namespace}}
        | {"spec": {"clusterQueue": namespace}},
    )
    yield namespace
    kueue.kubectl("delete", "clusterqueue,resourceflavor", namespace, "--wait=false")


def queued(manifest: Manifest, name: str) -> Manifest:
    """The model under another name, in the queue."""
    manifest["metadata"] |= {"name": name, "labels": {"kueue.x-k8s.io/queue-name": QUEUE}}
    return manifest


def told(story: Story, *words: str) -> dict[str, Any]:
    """Waits until the model is Queued with these words in its story; returns its status then."""

    def found() -> dict[str, Any] | None:
        status = story.status
        message = next((one["message"] for one in status.get("conditions", []) if one["type"] == "Ready"), "")
        return status if status.get("phase") == "Queued" and all(word in message for word in words) else None

    return wait_until(f"Queued: {', '.join(words)}", found)


def test_a_gang_waits_for_quota_tells_its_place_and_trains_when_another_makes_room(
    kueue: Live, cluster_queue: str, model: Callable[..., Manifest]
) -> None:
    with Story(kueue, cluster_queue, "first") as first, Story(kueue, cluster_queue, "second") as second:
        kueue.apply(queued(model(epochs=LONG), "first"))
        wait_until("the first trains", lambda: first.status.get("phase") == "Training")
        assert "queuePosition" not in first.status

        kueue.apply(queued(model(), "second"))
        status = told(second, "place 1 in queue team-a", "insufficient unused quota for memory")
        assert status["queuePosition"] == 1
        assert second.condition("Ready") == ("True", "NotAdmitted")
        assert {pod["metadata"]["labels"]["kronos.io/model"] for pod in second.pods} == {"first"}

        kueue.kubectl("patch", "km/first", "-n", cluster_queue, "--type=merge", "-p", '{"spec": {"suspend": true}}')
        assert second.wait_for_end() == ("True", "Succeeded"), second.status
        assert "queuePosition" not in second.status
        assert not any(second.status["run"]["restarts"].values())
        assert first.status["phase"] == "Suspended"
        assert not any(first.status["run"]["restarts"].values())


@pytest.mark.parametrize("backend", ["Job", "PyTorchJob"])
def test_a_gang_that_kueue_evicts_waits_again_and_goes_on_from_its_checkpoint(
    kueue: Live, cluster_queue: str, model: Callable[..., Manifest], backend: str
) -> None:
    def policy(stop: str) -> None:
        body = json.dumps({"spec": {"stopPolicy": stop}})
        kueue.kubectl("patch", "clusterqueue", cluster_queue, "--type=merge", "-p", body)

    def trained() -> list[int]:
        """The steps that are told of by the gang that runs; there are no other pods."""
        pods = kueue.list("pods", cluster_queue)
        return [step for pod in pods for step in story.steps(pod["metadata"]["name"])]

    with Story(kueue, cluster_queue, "evicted") as story:
        kueue.apply(queued(model(epochs=LONG, backend=backend), "evicted"))
        wait_until("a checkpoint", lambda: story.status.get("checkpoint", {}).get("step", 0) > 0)
        policy("HoldAndDrain")
        assert "queuePosition" not in told(story, f"ClusterQueue {cluster_queue} is")
        wait_until("no pods", lambda: not kueue.list("pods", cluster_queue))
        policy("None")
        wait_until("trained on", lambda: len(story.pods) == 4 and story.status["phase"] == "Training")
        restarts = story.status["run"]["restarts"]
        assert restarts.pop("last")["reason"]
        assert {cause: count for cause, count in restarts.items() if count} == {"disruptions": 1}
        assert wait_until("a step", trained)[0] > 0
