"""A backend is a seam: a new one is a module, a row of a table, a member of an enum, and its rights in the chart."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OPERATOR = ROOT / "operator" / "kronos_operator"
NEW = Path(__file__).parent / "fixtures" / "new_backend"

# What the newcomer writes into files that exist: after which line, and what.
EDITS = {
    "api/spec.py": {'    PYTORCH_JOB = "PyTorchJob"\n': '    JOB_SET = "JobSet"\n'},
    "backends/__init__.py": {
        "from kronos_operator.backends.job import JOB\n": "from kronos_operator.backends.jobset import JOB_SET\n",
        "    BackendName.PYTORCH_JOB: PYTORCH_JOB,\n": "    BackendName.JOB_SET: JOB_SET,\n",
    },
}


def test_a_new_backend_is_one_module_one_row_and_one_enum_member(tmp_path: Path) -> None:
    package = tmp_path / "kronos_operator"
    shutil.copytree(OPERATOR, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(NEW / "jobset.py", package / "backends")
    for file, edits in EDITS.items():
        text = (package / file).read_text()
        for line, added in edits.items():
            assert text.count(line) == 1, f"{file}: {line}"
            text = text.replace(line, line + added)
        (package / file).write_text(text)
    places = (tmp_path, ROOT / "trainer", Path(__file__).parent)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))}
    life = subprocess.run(
        [sys.executable, NEW / "life.py"], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert life.returncode == 0, life.stderr


def test_no_other_module_names_a_backend() -> None:
    # The labels of pods that users may not set are the API's matter.
    names = re.compile(
        r"PyTorchJob|PYTORCH_?JOB|\bpytorch\b|kubeflow|BackendName\.|\"Job\"|'Job'|\bJOB\b|batch/v1"
        r"|job-completion-index|job-name|FailureTarget|SuccessCriteriaMet|\bDeadlineExceeded"
    )
    allowed = {OPERATOR / "api" / "spec.py", *(OPERATOR / "backends").iterdir()}
    found = [
        f"{file.relative_to(OPERATOR)}: {line.strip()}"
        for file in sorted(set(OPERATOR.rglob("*.py")) - allowed)
        for line in file.read_text().splitlines()
        if names.search(line)
    ]
    assert found == []
