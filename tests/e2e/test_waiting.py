"""A model that cannot run says why, in words that a scheduler, a kubelet or a controller has for it, until it can."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import release
from live import Live, Manifest, wait_until

ALONE = {"nodes": 1, "gpusPerNode": 0, "memory": "1Gi", "sharedMemory": "64Mi"}


def claim(name: str, namespace: str) -> Manifest:
    """A claim that one node at a time can mount, and that nothing will ever be bound to."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def conditions(live: Live, name: str, namespace: str) -> dict[str, Manifest]:
    """The model's conditions by type."""
    body = live.get("kronosmodel", name, namespace) or {}
    return {condition["type"]: condition for condition in body.get("status", {}).get("conditions", [])}


def test_why_nothing_runs_is_told_and_what_is_mended_runs(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    def apply(name: str, **spec: Any) -> None:
        body = model(**{"resources": ALONE} | spec)
        body["metadata"]["name"] = name
        operator.apply(body)

    def told(name: str, reason: str, *words: str) -> None:
        def ready() -> Manifest | None:
            condition = conditions(operator, name, namespace).get("Ready", {})
            return condition if condition.get("reason") == reason else None

        condition = wait_until(f"{name}: {reason}", ready)
        # The cluster may help itself, so that nothing is wrong with the model.
        assert condition["status"] == "True"
        assert all(word in condition["message"] for word in words), condition["message"]

    def quota(pods: int) -> None:
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods", "namespace": namespace}}
        operator.apply(body | {"spec": {"hard": {"pods": str(pods)}}})
        place = ["resourcequota/pods", "-n", namespace, "--timeout=180s"]
        operator.kubectl("wait", f"--for=jsonpath={{.status.hard.pods}}={pods}", *place)

    operator.apply(claim("private", namespace))
    apply("gpu", resources=ALONE | {"gpusPerNode": 1})
    apply("image", image="localhost/absent:1")
    apply("bars", data={"source": {"claim": {"name": "absent"}}})
    apply("storage", storage={"claim": {"name": "private"}}, resources=ALONE | {"nodes": 2})

    # A claim for one node is told of at once, not when the second pod hangs.
    shared = wait_until("StorageShared", lambda: conditions(operator, "storage", namespace).get("StorageShared"))
    assert (shared["status"], shared["reason"]) == ("False", "StorageNotShared")
    assert "claim private is ReadWriteOnce" in shared["message"]
    told("storage", "VolumeNotBound", "unbound")
    told("bars", "VolumeNotBound", '"absent" not found')
    told("gpu", "Unschedulable", "Insufficient nvidia.com/gpu")
    told("image", "ImageNotPulled", "localhost/absent:1")
    about = ["--field-selector=regarding.name=image,reason=ImageNotPulled", "-n", namespace]
    events = ["get", "events.v1.events.k8s.io", "-o", "wide", *about]
    wait_until("an Event", lambda: "localhost/absent:1" in operator.kubectl(*events))

    # What a scrape of the chart's metrics Service counts.
    pending = f'kronos_models{{namespace="{namespace}",phase="Pending"}} 4.0'
    scrape = f"/api/v1/namespaces/{release.SYSTEM}/services/{release.NAME}-metrics:metrics/proxy/metrics"
    wait_until(pending, lambda: pending in operator.kubectl("get", "--raw", scrape))

    taken = len(operator.list("pods", namespace))
    quota(taken)
    apply("quota")
    told("quota", "QuotaExceeded", f"used: pods={taken}, limited: pods={taken}")
    quota(taken + 1)
    operator.kubectl("wait", "--for=jsonpath={.status.phase}=Training", "km/quota", "-n", namespace, "--timeout=180s")

    mended = json.dumps({"spec": {"image": None}})
    operator.kubectl("patch", "kronosmodel", "image", "-n", namespace, "--type=merge", "-p", mended)
    operator.kubectl("wait", "--for=jsonpath={.status.phase}=Training", "km/image", "-n", namespace, "--timeout=180s")
