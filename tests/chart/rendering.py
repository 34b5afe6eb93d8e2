"""Renders the chart for the tests of this folder and finds its way in what comes out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "charts" / "kronos-operator"
NAMESPACE = "kronos-system"
KUBERNETES = "1.37.0"

Object = dict[str, Any]


def binary(name: str) -> str:
    """Path of a program of hack/cluster/binaries; the test fails with the command that builds it."""
    cache = Path(os.environ.get("KRONOS_CACHE", "~/.cache/kronos-operator")).expanduser() / "bin"
    found = shutil.which(name, path=os.pathsep.join([str(cache), os.environ.get("PATH", "")]))
    if found is None:
        pytest.fail(f"{name} is absent: hack/cluster/binaries {name}")
    return found


class Chart:
    """The chart of this repository."""

    def __init__(self) -> None:
        self.values: Object = yaml.safe_load((FOLDER / "values.yaml").read_text())
        self.schema: Object = json.loads((FOLDER / "values.schema.json").read_text())
        self.about: Object = yaml.safe_load((FOLDER / "Chart.yaml").read_text())
        self._rendered: dict[str, dict[tuple[str, str], Object]] = {}

    def run(self, *arguments: str, release: str = "kronos-operator") -> subprocess.CompletedProcess[str]:
        """Renders with more arguments for helm."""
        command = [binary("helm"), "template", release, str(FOLDER)]
        fixed = [f"--namespace={NAMESPACE}", f"--kube-version={KUBERNETES}"]
        return subprocess.run([*command, *fixed, *arguments], capture_output=True, text=True, check=False)

    def render(self, values: Object | None = None) -> dict[tuple[str, str], Object]:
        """What is installed with these values, each given by its dotted name: objects by kind and name."""
        key = json.dumps(values or {})
        if key not in self._rendered:
            settings = [f"--set-json={name}={json.dumps(value)}" for name, value in (values or {}).items()]
            done = self.run(*settings)
            assert done.returncode == 0, done.stderr
            objects = [one for one in yaml.load_all(done.stdout, yaml.CSafeLoader) if one]
            self._rendered[key] = {(one["kind"], _name(one)): one for one in objects}
        return self._rendered[key]


def at(value: Any, path: str) -> Any:
    """What is at a path with slashes, in which numbers count in lists; None where it ends."""
    for step in path.split("/"):
        if isinstance(value, list):
            value = value[int(step)]
        elif step in value:
            value = value[step]
        else:
            return None
    return value


def leaves(values: Object, prefix: str = "") -> list[str]:
    """Dotted names of all values; an empty map is one."""
    found: list[str] = []
    for key, value in values.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]
    return found


def _name(one: Object) -> str:
    """The name; that of a Role comes with its namespace, since there is one in each."""
    metadata = one["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if one["kind"].startswith("Role") else str(metadata["name"])
