"""manifests/gitops on a real Kubernetes: new bars by its CronJob, a commit that trains on them, and no drift."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from live import Live, Manifest, wait_until
from release import REPOSITORY
from story import Story

ENVIRONMENT = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {namespace}
resources: [../production]
images:
  - {{name: example.org/ml/kronos-trainer, newName: localhost/kronos-trainer, newTag: dev}}
  - {{name: example.org/desk/fetch-bars, newName: localhost/kronos-trainer, newTag: dev}}
patches:
  - {{path: without.yaml}}
  - target: {{kind: CronJob}}
    path: fetch.yaml
  - target: {{kind: KronosModel}}
    path: tiny.yaml
"""
# The claims are there, and one model is enough.
WITHOUT = "\n---\n".join(
    f"{{apiVersion: {version}, kind: {kind}, metadata: {{name: {name}}}, $patch: delete}}"
    for version, kind, name in (
        ("v1", "PersistentVolumeClaim", "bars"),
        ("v1", "PersistentVolumeClaim", "models"),
        ("kronos.io/v1alpha1", "KronosModel", "fx-4h"),
    )
)
FETCH = """
import numpy, os, pandas
rows = 400 + len(os.listdir("/bars/us/daily")) * 20 if os.path.isdir("/bars/us/daily") else 400
close = 100 * numpy.exp(numpy.random.default_rng(1).normal(0, 0.01, rows).cumsum())
prices = dict(open=close, high=close * 1.01, low=close * 0.99, close=close, volume=1e6)
days = pandas.bdate_range("2020-01-01", periods=rows)
pandas.DataFrame(dict(timestamps=days, **prices)).to_csv("/fresh/IBM.csv", index=False)
"""
REMOVED = ("/metadata/labels", "/spec/promotion")  # a queue of Kueue, and a gate that needs an evaluation
FIRST, SECOND = "2026-11-20", "2026-11-27"
ARGO_CD, DESK = "argocd-controller", "desk"


def commit(folder: Path, namespace: str, revision: str) -> Path:
    """The environment as Git would have it with the bars of this day; returns what kustomize makes of it."""
    environment = folder / "overlays" / "e2e"
    shutil.copytree(REPOSITORY / "manifests/gitops", folder, dirs_exist_ok=True)
    environment.mkdir(exist_ok=True)
    (environment / "kustomization.yaml").write_text(ENVIRONMENT.format(namespace=namespace))
    (environment / "without.yaml").write_text(WITHOUT)
    fetch = "/spec/jobTemplate/spec/template/spec/initContainers/0"
    mounts = [{"name": "fresh", "mountPath": "/fresh"}, {"name": "bars", "mountPath": "/bars", "readOnly": True}]
    added = {"command": ["python", "-c", FETCH], "volumeMounts": mounts, "env": [{"name": "HOME", "value": "/fresh"}]}
    patches(environment / "fetch.yaml", {f"{fetch}/{field}": value for field, value in added.items()})
    stage = {"init": {"scratch": {"size": "tiny"}}, "epochs": 1, "batchSize": 32, "microBatchSize": 16}
    spec = {
        "tokenizer": stage,
        "predictor": stage,
        "evaluation": {"enabled": False},
        "training": {"windowsPerEpoch": 64},
        "window": {"lookback": 20, "horizon": 5},
        "resources": {"nodes": 1, "gpusPerNode": 0, "memory": "1Gi", "sharedMemory": "64Mi"},
        "data/revision": revision,
    }
    patches(environment / "tiny.yaml", {f"/spec/{field}": value for field, value in spec.items()}, *REMOVED)
    return environment


def patches(file: Path, values: dict[str, Any], *removed: str) -> None:
    added = [{"op": "add", "path": path, "value": value} for path, value in values.items()]
    file.write_text(yaml.safe_dump([*added, *({"op": "remove", "path": path} for path in removed)]))


def test_new_bars_are_trained_on_by_a_commit_and_two_managers_do_not_drift(
    operator: Live, namespace: str, tmp_path: Path
) -> None:
    bars = operator.volumes / namespace / "bars/us/daily"
    shutil.rmtree(bars)

    def sync(revision: str, kinds: tuple[str, ...] = ("CronJob", "KronosModel")) -> Path:
        environment = commit(tmp_path / "repository", namespace, revision)
        objects = yaml.safe_load_all(operator.kubectl("kustomize", str(environment)))
        file = tmp_path / f"{revision}.yaml"
        file.write_text(yaml.safe_dump_all(body for body in objects if body["kind"] in kinds))
        operator.kubectl("apply", "--server-side", f"--field-manager={ARGO_CD}", "-f", str(file))
        return file

    def refresh(name: str) -> None:
        operator.kubectl("create", "job", name, "--from=cronjob/refresh-bars", "-n", namespace)
        operator.kubectl("wait", f"job/{name}", "-n", namespace, "--for=condition=Complete", "--timeout=120s")

    def trained() -> str:
        result = models / "runs" / model()["status"]["run"]["id"] / "tokenizer" / "result.json"
        return str(json.loads(result.read_text())["data"]["digest"])

    def model() -> Manifest:
        found = operator.get("kronosmodel", "stocks-1d", namespace)
        assert found is not None
        return found

    models = operator.volumes / namespace / f"models/models/{namespace}/stocks-1d"
    sync(FIRST, kinds=("CronJob",))
    refresh("first")
    sync(FIRST)
    with Story(operator, namespace, "stocks-1d") as story:
        mine = {"apiVersion": "kronos.io/v1alpha1", "kind": "KronosModel", "metadata": {"name": "stocks-1d"}}
        mine["metadata"] |= {"namespace": namespace, "annotations": {"desk.example.org/owner": "macro"}}
        note = tmp_path / "mine.yaml"
        note.write_text(yaml.safe_dump(mine | {"spec": {"retry": {"backoffSeconds": 2}}}))
        operator.kubectl("apply", "--server-side", f"--field-manager={DESK}", "-f", str(note))
        assert story.wait_for_end() == ("True", "Succeeded"), story.status
        before = trained()

        refresh("second")  # which trains nothing
        generation = model()["metadata"]["generation"]
        assert trained() == before
        file = sync(SECOND)
        wait_until("the new run", lambda: story.condition("Finished")[0] == "False")
        assert story.wait_for_end() == ("True", "Succeeded"), story.status
    after = model()
    assert trained() != before and after["spec"]["data"]["revision"] == SECOND
    assert after["metadata"]["generation"] == generation + 1

    # Both apply once more: nothing changes, each sees its own fields, and neither takes the other's.
    assert after["spec"]["retry"]["backoffSeconds"] == 2
    for manager, applied in ((ARGO_CD, file), (DESK, note)):
        operator.kubectl("diff", "--server-side", f"--field-manager={manager}", "-f", str(applied))
        operator.kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", str(applied))
    assert model()["metadata"]["generation"] == generation + 1 and model()["spec"] == after["spec"]
