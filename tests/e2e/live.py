"""The cluster of hack/cluster/up as tests see it: kubectl, volumes on the node's disk, and what they wait for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Manifest = dict[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Live:
    """A running cluster."""

    kubeconfig: Path
    binaries: Path
    volumes: Path  # a directory of the node that this machine sees at the same place

    def kubectl(
        self, *arguments: str, manifest: Manifest | Iterable[Manifest] | None = None, check: bool = True
    ) -> str:
        """Output of a kubectl command; `manifest` is its standard input."""
        documents = [manifest] if isinstance(manifest, dict) else list(manifest or [])
        result = subprocess.run(
            [self.binaries / "kubectl", "--kubeconfig", self.kubeconfig, *arguments],
            input="\n---\n".join(json.dumps(document) for document in documents),
            capture_output=True,
            text=True,
            timeout=600,
        )
        if check and result.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {result.stderr}")
        return result.stdout

    def helm(self, *arguments: str) -> str:
        """Output of a helm command."""
        command = [self.binaries / "helm", "--kubeconfig", self.kubeconfig, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if result.returncode != 0:
            raise AssertionError(f"helm {' '.join(arguments)}: {result.stderr}")
        return result.stdout

    def kronos(self, command: str, model: str, namespace: str, *options: str) -> list[str]:
        """The kronos command for a model of this cluster, to be started."""
        kronos = str(Path(sys.executable).parent / "kronos")
        return [kronos, command, model, f"--kubeconfig={self.kubeconfig}", f"--namespace={namespace}", *options]

    def apply(self, *manifests: Manifest) -> None:
        """Applies manifests."""
        self.kubectl("apply", "-f", "-", manifest=manifests)

    def get(self, kind: str, name: str, namespace: str) -> Manifest | None:
        """An object, or None."""
        text = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text else None

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        """Objects of a kind."""
        return json.loads(self.kubectl("get", kind, "-n", namespace, "-l", selector, "-o", "json"))["items"]

    @property
    def node(self) -> str:
        """Name of the only node."""
        return str(json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"])

    def persistent_volume(self, name: str, namespace: str, size: str = "10Gi") -> Path:
        """A new `local` PersistentVolume for a claim of that name, which need not exist yet; returns its directory.

        It says ReadWriteMany, which is true of a directory on the only node.
        """
        directory = self.volumes / namespace / name
        directory.mkdir(parents=True)
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.node]}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{namespace}-{name}"},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "local": {"path": str(directory)},
                "claimRef": {"namespace": namespace, "name": name},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }
        self.apply(volume)
        return directory

    def volume(self, name: str, namespace: str) -> Path:
        """Such a PersistentVolume bound to a new claim; returns its directory."""
        directory = self.persistent_volume(name, namespace)
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": f"{namespace}-{name}",
                "resources": {"requests": {"storage": "10Gi"}},
            },
        }
        self.apply(claim)
        return directory


def wait_until(what: str, probe: Callable[[], Value | None], *, seconds: float = 180, every: float = 1.0) -> Value:
    """The first truthy value that `probe` returns. Fails naming what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(every)
