"""docs/tutorial.md as a reader follows it: every command is run, and so is the program that checks its p-values."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from docs_blocks import ROOT, blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"
# The page trains for minutes; the test for seconds, with the same stages. It changes nothing else.
QUICK = "".join(
    f" --set {field}"
    for field in (
        "tokenizer.epochs=1",
        "predictor.epochs=1",
        "training.windowsPerEpoch=64",
        "training.validationWindows=64",
        "evaluation.samples=4",
        "evaluation.maxSeconds=10",
    )
)


@pytest.mark.timeout(1200)  # a minute or two; the many processes that import torch take longer on a busy machine
def test_the_tutorial_leads_from_bars_to_a_report_and_a_forecast(tmp_path: Path) -> None:
    (tmp_path / "manifests").symlink_to(ROOT / "manifests")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KRONOS_")}
    bin_first = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    environment = kept | {"PATH": bin_first, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    said: dict[str, str] = {}
    for block in blocks(TUTORIAL):
        assert block.mark is None, "nothing here needs more than this machine"
        if block.language == "sh":
            code = block.code.replace("\nkronos run ", f"\nkronos run{QUICK} ")
            if code.startswith("kronos run "):
                code = code.replace("kronos run ", f"kronos run{QUICK} ", 1)
            command = ["bash", "-euo", "pipefail", "-c", code]
        elif block.language == "python":
            command = [sys.executable, "-c", block.code]
        else:
            continue
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{block}: {done.stderr}"
        said[block.code.split(" #")[0].splitlines()[-1]] = done.stdout

    model = tmp_path / "outputs" / "models" / "default" / "try-me"
    (run,) = (model / "runs").iterdir()
    assert (run / "report.html").is_file() and (model / "current.json").is_file()
    assert {"check.png", "ibm.csv", "ibm.png", "my_model.yaml"} <= {one.name for one in tmp_path.iterdir()}
    assert "close_q50" in said['print(forecast[["close_q10", "close_q50", "close_q90"]])']
    differs = said["kronos diff -f manifests/examples/try_me.yaml --set predictor.learningRate=5e-4"]
    assert "predictor" in differs

    (program,) = (block.code for block in blocks(ROOT / "docs" / "evaluation.md") if block.language == "python")
    done = subprocess.run([sys.executable, "-c", program], cwd=run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} >= {"start", "naive"}
