"""Files that are generated from others are current, and versions agree."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rendering import FOLDER, KUBERNETES, REPOSITORY, Chart, binary

STALE = "is stale: make generate"
MANIFESTS = REPOSITORY / "manifests"


def test_lint() -> None:
    command = [binary("helm"), "lint", "--strict", f"--kube-version={KUBERNETES}", str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_crd_is_the_repositorys() -> None:
    assert (FOLDER / "files" / "crd.yaml").read_text() == (MANIFESTS / "crd.yaml").read_text(), (
        f"files/crd.yaml {STALE}"
    )


def test_crd_is_installed_unchanged_and_kept_by_uninstalling(chart: Chart) -> None:
    installed = chart.render()["CustomResourceDefinition", "kronosmodels.kronos.io"]
    expected = yaml.safe_load((FOLDER / "files" / "crd.yaml").read_text())
    assert installed["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert installed | {"metadata": expected["metadata"]} == expected


def test_install_manifest_is_current() -> None:
    script = [REPOSITORY / "charts" / "install-manifest"]
    environment = {**os.environ, "HELM": binary("helm")}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (MANIFESTS / "install.yaml").read_text() == done.stdout, f"manifests/install.yaml {STALE}"


def test_table_of_values_is_current(tmp_path: Path) -> None:
    copy = tmp_path / "kronos-operator"
    shutil.copytree(FOLDER, copy)
    (copy / "README.md").unlink()
    command = [binary("helm-docs"), "--chart-search-root", str(tmp_path), "--sort-values-order", "file"]
    subprocess.run(command, check=True, capture_output=True)
    assert (FOLDER / "README.md").read_text() == (copy / "README.md").read_text(), f"the chart's README.md {STALE}"
    assert "|  |" not in (FOLDER / "README.md").read_text(), "a value without a description"


def test_chart_is_of_the_packages_version(chart: Chart) -> None:
    package = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert chart.about["version"] == chart.about["appVersion"] == package["version"]


def test_older_release_lacks_one_field_of_the_spec_alone() -> None:
    """What today's operator writes into a status, the older definition must take too."""
    older = REPOSITORY / "tests" / "chart" / "old" / "kronos-operator" / "templates" / "crd.yaml"
    paths = [set(_fields(yaml.safe_load(path.read_text()))) for path in (FOLDER / "files" / "crd.yaml", older)]
    assert paths[0] ^ paths[1] == {"spec.training.gradientCheckpointing"}


def _fields(crd: dict[str, Any]) -> Iterator[str]:
    def walk(schema: dict[str, Any], place: str) -> Iterator[str]:
        for name, one in schema.get("properties", {}).items():
            yield f"{place}{name}"
            yield from walk(one, f"{place}{name}.")
        for part in ("items", "additionalProperties"):
            if isinstance(schema.get(part), dict):
                yield from walk(schema[part], place)

    (version,) = crd["spec"]["versions"]
    yield from walk(version["schema"]["openAPIV3Schema"], "")
