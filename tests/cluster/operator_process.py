"""The operator as its image runs it, with its own ServiceAccount's rights, and somebody to play the kubelet."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from control_plane import ControlPlane

T = TypeVar("T")

PATIENCE = 120.0  # seconds
MODELS = "/apis/kronos.io/v1alpha1/namespaces/{}/kronosmodels"
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
PODS = "/api/v1/namespaces/{}/pods"


def eventually(look: Callable[[], T | None], what: str) -> T:
    """The first result that is not None or False. Fails after PATIENCE, saying what was waited for."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}")


@contextmanager
def operator(cluster: ControlPlane, namespace: str, log: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """The operator's process, watching one namespace; killed, as by a crash, when the block ends."""
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),  # so that the code beside this test runs
        "KUBECONFIG": str(cluster.operator_kubeconfig),
        "KRONOS_DEFAULT_IMAGE": "example.org/trainer:1",
        "KRONOS_NAMESPACES": namespace,
        "KRONOS_METRICS_PORT": "0",  # any that is free
        "KRONOS_HEALTH_PORT": "0",
        "KRONOS_PROGRESS_SECONDS": "1",
        "KRONOS_LOG_FORMAT": "text",
    }
    with log.open("ab") as stream:
        command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "kronos_operator"]
        process = subprocess.Popen(
            command, env=variables | environ, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Kubelet:
    """Plays the pods of a namespace."""

    def __init__(self, cluster: ControlPlane, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def model(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._cluster.request("GET", f"{MODELS.format(self.namespace)}/{name}")
        return found

    def status(self, name: str) -> dict[str, Any]:
        return self.model(name).get("status") or {}

    def change(self, name: str, **parts: Any) -> None:
        self._cluster.patch(f"{MODELS.format(self.namespace)}/{name}", parts)

    def jobs(self) -> list[str]:
        items = self._cluster.request("GET", JOBS.format(self.namespace))["items"]
        return sorted(item["metadata"]["name"] for item in items if not item["metadata"].get("deletionTimestamp"))

    def pods(self, job: str) -> list[dict[str, Any]]:
        selector = f"?labelSelector=batch.kubernetes.io/job-name={job}"
        found: list[dict[str, Any]] = self._cluster.request("GET", PODS.format(self.namespace) + selector)["items"]
        return found

    def job_of(self, stage: str, attempt: int) -> str:
        """The Job of an attempt, once its pods are there."""

        def look() -> str | None:
            for job in self.jobs():
                if f"-{stage}-" in job and job.endswith(f"-{attempt}") and self.pods(job):
                    return job
            return None

        return eventually(look, f"the Job of attempt {attempt}, {stage}")

    def run(self, job: str) -> None:
        """Its pods run."""
        for pod in self.pods(job):
            running = {"running": {"startedAt": _now()}}
            self._say(pod, {"phase": "Running", "startTime": _now(), "containerStatuses": [_container(running)]})

    def end(self, job: str, code: int, message: str = "", conditions: list[dict[str, Any]] | None = None) -> None:
        """Its pods end with an exit code."""
        for pod in self.pods(job):
            ended = {"exitCode": code, "message": message, "startedAt": _now(), "finishedAt": _now()}
            status = {
                "phase": "Failed" if code else "Succeeded",
                "containerStatuses": [_container({"terminated": ended})],
                "conditions": conditions or [],
            }
            self._say(pod, status)

    def train(self, stage: str, attempt: int) -> str:
        """An attempt runs and succeeds."""
        job = self.job_of(stage, attempt)
        self.run(job)
        self.end(job, 0)
        return job

    def _say(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        path = f"{PODS.format(self.namespace)}/{pod['metadata']['name']}/status"
        try:
            self._cluster.patch(path, {"status": status})
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise


def _container(state: dict[str, Any]) -> dict[str, Any]:
    return {"name": "trainer", "image": "i", "imageID": "i", "ready": True, "restartCount": 0, "state": state}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
