"""Rules of the tree that no import contract can state."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_operator_folder_is_no_package_because_it_would_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_trainer_and_test_folders_are_no_packages_so_that_equal_file_names_do_not_clash() -> None:
    assert not (ROOT / "trainer" / "__init__.py").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize(
    "module",
    [
        "kronos_operator.api",
        "kronos_operator.crd",
        "kronos_operator.loading",
        "kronos_operator.cli",
        "kronos_trainer.config",
    ],
)
def test_imports_without_the_libraries_of_training(module: str) -> None:
    absent = ["torch", "pandas", "numpy", "matplotlib", "kopf", "kubernetes"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {module}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_operator_names_no_hyper_parameter() -> None:
    named = re.compile(r"batch_?size|learning_?rate|weight_?decay|warmup|betas|gradient_?clip", re.IGNORECASE)
    found = [str(file) for file in (ROOT / "operator").rglob("*.py") if named.search(file.read_text())]
    assert found == []


def test_the_api_group_is_spelled_in_one_module() -> None:
    found = [file.name for file in (ROOT / "operator").rglob("*.py") if "kronos.io" in file.read_text()]
    assert found == ["names.py"]


def test_every_promise_of_the_security_page_names_a_test_that_there_is() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", page)
    absent = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / "tests" / file).read_text()]
    assert absent == [] and len(named) > 25
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))]
    assert [row for row in rows if "::test_" not in row] == []
