"""A real Kubernetes with the operator in it, as `helm install` leaves it. Shared by all tests of this folder."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

# The support modules beside and above this file; pytest's importlib mode leaves them out of the path.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))

import release
from live import Live, Manifest
from release import REPOSITORY, RESTRICTED
from shell import Shell

# The shortest training that still has steps to be interrupted in.
TINY = {"init": {"scratch": {"size": "tiny"}}, "batchSize": 32, "microBatchSize": 16, "learningRate": 1.0e-3}


@pytest.fixture(scope="session")
def live() -> Live:
    """The cluster, started if it is not running, with the images of this repository."""
    up = subprocess.run([REPOSITORY / "hack/cluster/up"], stdout=subprocess.PIPE, text=True, check=True)
    subprocess.run([REPOSITORY / "hack/cluster/images", "operator", "trainer"], check=True)
    cache = Path(os.environ.get("KRONOS_CACHE", Path.home() / ".cache/kronos-operator"))
    return Live(kubeconfig=Path(up.stdout.strip()), binaries=cache / "bin", volumes=cache / "cluster/volumes")


@pytest.fixture(scope="session")
def operator(live: Live) -> Live:
    """The cluster with the chart installed and the operator ready."""
    release.install(live)
    # An image that was built anew has the same tag.
    live.kubectl("rollout", "restart", f"deployment/{release.NAME}", "-n", release.SYSTEM)
    live.kubectl("rollout", "status", f"deployment/{release.NAME}", "-n", release.SYSTEM, "--timeout=120s")
    return live


@pytest.fixture(scope="session")
def training_operator(operator: Live) -> Live:
    """The cluster with Kubeflow's training operator in it too."""
    subprocess.run([REPOSITORY / "hack/cluster/training-operator"], check=True)
    return operator


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample bars, as `kronos data sample` writes them."""
    directory = tmp_path_factory.mktemp("data")
    kronos = Path(sys.executable).parent / "kronos"
    subprocess.run([kronos, "data", "sample", "--out", directory], check=True, capture_output=True)
    return directory / "bars"


@pytest.fixture
def namespace(live: Live, bars: Path) -> Iterator[str]:
    """A namespace that enforces Pod Security's restricted profile, with claims `bars` and `models`."""
    name = next(f"e2e-{number}" for number in itertools.count() if not (live.volumes / f"e2e-{number}").exists())
    live.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
    subprocess.run(["cp", "-r", f"{bars}/.", live.volume("bars", name)], check=True)
    live.volume("models", name)
    yield name
    live.kubectl("delete", "namespace", name, "--wait=false")
    live.kubectl("delete", "pv", f"{name}-bars", f"{name}-models", "--wait=false")


@pytest.fixture
def shell(live: Live, namespace: str, tmp_path: Path) -> Shell:
    """A user's shell, with the test's namespace."""
    return Shell.of(live.kubeconfig, [live.binaries], tmp_path / "kubeconfig", namespace=namespace)


@pytest.fixture
def model(namespace: str) -> Callable[..., Manifest]:
    """Makes model_b_1d.yaml, tiny, with two nodes and no GPU; keywords replace parts of its spec."""

    def make(*, epochs: int = 2, **spec: Any) -> Manifest:
        manifest: Manifest = yaml.safe_load((REPOSITORY / "manifests/examples/model_b_1d.yaml").read_text())
        manifest["metadata"]["namespace"] = namespace
        stage = TINY | {"epochs": epochs}
        manifest["spec"] |= {
            "tokenizer": stage,
            "predictor": stage,
            "evaluation": {"enabled": False},  # each costs the start of a pod; test_quickstart.py has one
            "training": {"windowsPerEpoch": 320},
            "checkpoint": {"everySeconds": 4},  # most tests wait for one
            "resources": {"nodes": 2, "gpusPerNode": 0, "memory": "1Gi", "sharedMemory": "64Mi"},
            "retry": {"backoffSeconds": 1},
            "podTemplate": {"env": [{"name": "OMP_NUM_THREADS", "value": "1"}]},  # the node may have two cores
        } | spec
        return manifest

    return make
