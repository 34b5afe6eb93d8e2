"""A real API server for every test of this folder, started once a session and only when a test needs it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# The support modules beside and above this file; pytest's importlib mode leaves them out of the path.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))

from control_plane import ControlPlane
from shell import Shell


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("cluster"))
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


_numbers = itertools.count()


@pytest.fixture
def namespace(cluster: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own. It goes with the control plane, so no test waits for its removal."""
    name = f"test-{next(_numbers)}"
    cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name


@pytest.fixture
def shell(cluster: ControlPlane, namespace: str, tmp_path: Path) -> Shell:
    """A user's shell, with the test's namespace."""
    return Shell.of(cluster.kubeconfig, cluster.places, tmp_path / "kubeconfig", namespace=namespace)


@pytest.fixture
def model() -> Callable[..., dict[str, Any]]:
    """Makes a KronosModel that the API server accepts; keywords replace parts of its spec, None removes one."""

    def make(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "timeframe": "1d",
            "data": {"source": {"claim": {"name": "bars"}}},
            "storage": {"claim": {"name": "models"}},
            "evaluation": {"enabled": False},
        }
        return {
            "apiVersion": "kronos.io/v1alpha1",
            "kind": "KronosModel",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {key: value for key, value in (parts | spec).items() if value is not None},
        }

    return make
