"""What a KronosModel and its pods did, recorded while it happens."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from typing import IO, Self

from live import Live, Manifest, wait_until

KILL_RANKS = "kill -9 $(grep -lz '^-u$' /proc/[0-9]*/cmdline | cut -d / -f 3)"  # only ranks are started with -u
LONG = 1000  # epochs, more than any test waits for: of a training that is to be interrupted


class Story:
    """Watches one model of a namespace and all of its pods, from entering the context until leaving it."""

    def __init__(self, live: Live, namespace: str, name: str) -> None:
        self.lines: list[str] = []  # what `kubectl get km -w` printed
        self.said: list[str] = []  # what `kronos logs -f` printed
        self._pods: dict[str, Manifest] = {}  # by uid, for a PyTorchJob makes them again by the same name
        self._live = live
        self._namespace = namespace
        self._name = name
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        self._watch(["kronosmodels"], self._read_lines)
        self._watch(["pods", "-o", "json"], self._read_pods)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    @property
    def pods(self) -> list[Manifest]:
        """Every pod that there was, as it was seen last, in the order in which they were made."""
        return sorted(self._pods.values(), key=lambda pod: pod["metadata"]["creationTimestamp"])

    @property
    def model(self) -> Manifest:
        """The model as it is now."""
        found = self._live.get("kronosmodel", self._name, self._namespace)
        assert found is not None
        return found

    @property
    def status(self) -> Manifest:
        """Its status."""
        return self.model.get("status", {})

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition; empty while it is absent."""
        for condition in self.status.get("conditions", []):
            if condition["type"] == kind:
                return condition["status"], condition["reason"]
        return "", ""

    def steps(self, pod: str) -> list[int]:
        """The steps that a pod has reported from training; only rank 0's speaks of them."""
        log = self._live.kubectl("logs", pod, "-n", self._namespace)
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        return [line["step"] for line in lines if line.get("phase") == "training"]

    def follow_logs(self) -> subprocess.Popen[str]:
        """Starts `kronos logs -f`, which fills `said` and ends when the run has ended."""
        command = self._live.kronos("logs", self._name, self._namespace, "--follow")
        return self._start(command, lambda stream: self.said.extend(line.rstrip() for line in stream))

    def wait_for_step(self, stage: str, step: int = 1, attempt: int | None = None) -> Manifest:
        """The status once it reports a step of a stage (and attempt)."""

        def reached() -> Manifest | None:
            status = self.status
            progress = status.get("progress", {})
            fits = attempt is None or progress.get("attempt") == attempt
            return status if fits and progress.get("stage") == stage and progress.get("step", 0) >= step else None

        return wait_until(f"step {step} of {stage}", reached, seconds=240)

    def wait_for_end(self, seconds: int = 400) -> tuple[str, str]:
        """Waits as a user would, with kubectl wait; returns the condition Finished."""
        kind = ["--for=condition=Finished", f"kronosmodel/{self._name}", "-n", self._namespace]
        self._live.kubectl("wait", *kind, f"--timeout={seconds}s", check=False)
        return self.condition("Finished")

    def gangs(self) -> dict[str, list[Manifest]]:
        """Pods by the Job or PyTorchJob that owned them, in the order in which they were made."""
        gangs: dict[str, list[Manifest]] = {}
        for pod in self.pods:
            gangs.setdefault(pod["metadata"]["ownerReferences"][0]["name"], []).append(pod)
        return gangs

    def _watch(self, arguments: list[str], read: Callable[[IO[str]], None]) -> None:
        command = [str(self._live.binaries / "kubectl"), "--kubeconfig", str(self._live.kubeconfig)]
        self._start([*command, "get", *arguments, "-n", self._namespace, "--watch"], read)

    def _start(self, command: list[str], read: Callable[[IO[str]], None]) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)

        def drain() -> None:
            assert process.stdout is not None
            with process.stdout as stream:
                read(stream)

        threading.Thread(target=drain, daemon=True).start()
        return process

    def _read_lines(self, stream: IO[str]) -> None:
        self.lines += (line.rstrip() for line in stream)

    def _read_pods(self, stream: IO[str]) -> None:
        text = ""
        for line in stream:
            text += line
            if line == "}\n":  # the end of an object
                pod = json.loads(text)
                self._pods[pod["metadata"]["uid"]] = pod
                text = ""


def last_words(pod: Manifest) -> Manifest | None:
    """The termination message of a pod's training container; None if it left none."""
    statuses = pod["status"].get("containerStatuses", [])
    texts = [status["state"].get("terminated", {}).get("message") for status in statuses]
    return next((json.loads(text) for text in texts if text), None)


def exit_codes(pods: list[Manifest]) -> set[int]:
    """Exit codes of the training containers that have ended."""
    return {
        status["state"]["terminated"]["exitCode"]
        for pod in pods
        for status in pod["status"].get("containerStatuses", [])
        if "terminated" in status["state"]
    }
