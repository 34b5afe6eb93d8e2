"""docs/quickstart-cluster.md as a newcomer follows it, and what its commands do when they are interrupted."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import quickstart
import release
import yaml
from live import Live, wait_until
from release import REPOSITORY, VALUES
from shell import Shell

from kronos_trainer.config import Decision, StageResult, Verdict

COMMAND_PODS = "app.kubernetes.io/managed-by=kronos"
KRONOS = str(Path(sys.executable).parent / "kronos")


@pytest.fixture
def newcomer(operator: Live, tmp_path: Path) -> Iterator[Shell]:
    """A shell in a fresh checkout."""
    (tmp_path / "charts").symlink_to(REPOSITORY / "charts")
    shutil.copytree(REPOSITORY / "manifests", tmp_path / "manifests")
    # As a user of a cluster whose class is not the default one edits it: these volumes have no class.
    claims = tmp_path / "manifests/examples/claims.yaml"
    claims.write_text(claims.read_text().replace("spec:\n", 'spec:\n  storageClassName: ""\n'))
    yield Shell.of(operator.kubeconfig, [operator.binaries], tmp_path / "kubeconfig", directory=tmp_path)
    release.install(operator)  # as the other tests know it


@pytest.fixture
def fresh(operator: Live) -> Iterator[str]:
    """Name of a namespace that does not exist yet, for whose claims there are volumes."""
    name = next(
        f"quick-{number}" for number in itertools.count() if not (operator.volumes / f"quick-{number}").exists()
    )
    for claim, size in (("bars", "10Gi"), ("models", "20Gi")):
        operator.persistent_volume(claim, name, size)
    yield name
    operator.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
    operator.kubectl("delete", "pv", f"{name}-bars", f"{name}-models", "--wait=false")


def test_the_page_leads_from_helm_install_to_a_forecast(
    operator: Live, newcomer: Shell, fresh: str, tmp_path: Path
) -> None:
    values = {
        "REGISTRY": VALUES["image.repository"].rpartition("/")[0],
        "TAG": VALUES["image.tag"],
        "NAMESPACE": fresh,
    }
    begun = time.monotonic()
    print(newcomer(quickstart.script(values), seconds=1100))
    print(f"{time.monotonic() - begun:.0f} s")

    there, here = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("ibm.csv", "ibm-here.csv")
    )
    assert len(there) == len(here) == 15
    # The pod's build of torch and this machine's may draw other samples.
    assert [row["timestamps"] for row in there] == [row["timestamps"] for row in here]
    assert all(float(row["close"]) > 0 for row in [*there, *here])
    model = operator.get("kronosmodel", "try-me", fresh)
    assert model is not None and model["status"]["phase"] == "Succeeded"
    run = tmp_path / "out/models" / fresh / "try-me/runs" / model["status"]["artifacts"]["run"]
    # Its verdict, whichever it is, is in the status, in `kubectl get km`, and in what was pulled.
    status = model["status"]
    found = status["evaluation"]
    assert found["verdict"] in list(Verdict) and found["run"] == status["artifacts"]["run"] == status["run"]["id"]
    assert found["promotion"] == Decision.PUBLISHED and found["dates"] > 0 and found["comparisons"]
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    assert conditions["EvaluationCompleted"] == conditions["Available"] == "True"
    header, row = operator.kubectl("get", "km", "try-me", "-n", fresh).splitlines()
    assert "VERDICT" in header and found["verdict"] in row.split()
    assert (run / "report.html").exists() and (run / "tokenizer/result.json").exists()
    pulled = StageResult.load((run / "evaluation/result.json").read_text())
    assert pulled.evaluation is not None and pulled.evaluation.verdict == found["verdict"]
    for name in ("report.json", "calibration.json", "evaluation/evaluation.json"):
        assert json.loads((run / name).read_text())
    assert status["report"] == found["report"] == str(run.relative_to(tmp_path / "out") / "report.html")
    wait_until("no pods of commands", lambda: not operator.list("pods", fresh, COMMAND_PODS))


@pytest.fixture
def editor(operator: Live, namespace: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has the role `edit` in the namespace and no other right."""
    operator.kubectl("create", "serviceaccount", "ada", "-n", namespace)
    operator.kubectl(
        "create", "rolebinding", "ada", "--clusterrole=edit", f"--serviceaccount={namespace}:ada", "-n", namespace
    )
    token = operator.kubectl("create", "token", "ada", "-n", namespace).strip()
    config = yaml.safe_load(operator.kubeconfig.read_text())
    config["users"] = [{"name": "ada", "user": {"token": token}}]
    (context,) = config["contexts"]
    context["context"] |= {"user": "ada", "namespace": namespace}
    (tmp_path / "ada").write_text(json.dumps(config))
    return os.environ | {"KUBECONFIG": str(tmp_path / "ada")}


def test_a_push_that_is_interrupted_leaves_no_pod_and_no_bars_and_goes_on(
    operator: Live, namespace: str, editor: dict[str, str], tmp_path: Path
) -> None:
    volume = operator.volumes / namespace / "bars"
    source = tmp_path / "large"
    source.mkdir()
    for name, size in (("a.csv", 20), ("b.csv", 500)):  # MiB: the second takes seconds
        with (source / name).open("wb") as stream:
            for _ in range(size):
                stream.write(os.urandom(2**20))
    push = [KRONOS, "data", "push", str(source), "--claim", "bars", "--path", "large"]

    process = subprocess.Popen(push, env=editor)
    staged = ".transfer-*/a.csv"  # the first file has arrived whole, the second is on its way
    wait_until("a file that has arrived", lambda: list(volume.glob(staged)), every=0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    wait_until("the pod is gone", lambda: not operator.list("pods", namespace, COMMAND_PODS))
    assert not (volume / "large").exists()

    done = subprocess.run(push, env=editor, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 added" in done.stdout
    for name in ("a.csv", "b.csv"):
        assert (volume / "large" / name).read_bytes() == (source / name).read_bytes()
    assert not list(volume.glob(".transfer-*"))
    wait_until("the second pod is gone", lambda: not operator.list("pods", namespace, COMMAND_PODS))


def test_a_command_whose_pod_is_killed_is_an_error_that_says_so(
    operator: Live, namespace: str, editor: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "large"
    source.mkdir()
    with (source / "a.csv").open("wb") as stream:
        stream.truncate(4 * 2**30)  # more than is sent before the pod is gone
    push = [KRONOS, "data", "push", str(source), "--claim", "bars", "--path", "large"]
    process = subprocess.Popen(push, env=editor, stderr=subprocess.PIPE, text=True)
    volume = operator.volumes / namespace / "bars"
    wait_until("bytes that have arrived", lambda: list(volume.glob(".transfer-*/.aside-a.csv")), every=0.05)
    (pod,) = operator.list("pods", namespace, COMMAND_PODS)
    operator.kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace, "--grace-period=0", "--force")
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0 and "Traceback" not in err
    assert pod["metadata"]["name"] in err, err
    assert not (volume / "large").exists()
