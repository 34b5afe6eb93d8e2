"""The `kronos` command against a real API server: what it sends is accepted, refused and merged as a user expects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import ControlPlane

from kronos_operator.cli import main

Make = Callable[..., dict[str, Any]]
Kronos = Callable[..., int]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def kronos(cluster: ControlPlane, namespace: str) -> Kronos:
    """The command, for the test's namespace."""

    def run(*arguments: str) -> int:
        return main([*arguments, f"--kubeconfig={cluster.kubeconfig}", f"--namespace={namespace}"])

    return run


@pytest.fixture
def file(model: Make) -> str:
    """A file of one model, which names no namespace."""
    body = model("model-a", predictor={"learningRate": 2.0e-5})
    del body["metadata"]["namespace"]
    Path("model.yaml").write_text(yaml.safe_dump(body))
    return "model.yaml"


def stored(cluster: ControlPlane, namespace: str, name: str = "model-a") -> dict[str, Any]:
    body: dict[str, Any] = cluster.request(
        "GET", f"/apis/kronos.io/v1alpha1/namespaces/{namespace}/kronosmodels/{name}"
    )
    return body


def test_submit_applies_with_its_own_manager_and_a_rehearsal_leaves_nothing(
    cluster: ControlPlane, namespace: str, kronos: Kronos, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kronos("submit", "-f", file, "--dry-run") == 0
    trained = "; to be trained: tokenizer, predictor\n"
    assert capsys.readouterr().out == f"{namespace}/model-a created (dry run){trained}"
    assert kronos("status", "--json") == 0 and json.loads(capsys.readouterr().out) == []

    assert kronos("submit", "-f", file) == 0
    assert capsys.readouterr().out == f"{namespace}/model-a created{trained}"
    (manager,) = stored(cluster, namespace)["metadata"]["managedFields"]
    assert (manager["manager"], manager["operation"]) == ("kronos", "Apply")
    # Defaults are the server's to fill in: what the file leaves open is nobody's.
    assert manager["fieldsV1"]["f:spec"]["f:predictor"] == {"f:learningRate": {}}

    assert kronos("submit", "-f", file) == 0
    assert "model-a unchanged" in capsys.readouterr().out
    assert kronos("submit", "-f", file, "--set", "predictor.epochs=7") == 0
    assert "model-a changed" in capsys.readouterr().out
    assert stored(cluster, namespace)["spec"]["predictor"]["epochs"] == 7


def test_submit_tells_what_the_server_refuses_and_applies_the_rest(
    cluster: ControlPlane, namespace: str, kronos: Kronos, model: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = [model("first", namespace), model("second", namespace)]
    Path("models.yaml").write_text(yaml.safe_dump_all(bodies))
    assert kronos("submit", "-f", "models.yaml") == 0
    # The timeframe never changes.
    bodies[0]["spec"]["timeframe"] = "4h"
    bodies[1]["spec"]["training"] = {"seed": 5}
    Path("models.yaml").write_text(yaml.safe_dump_all(bodies))
    capsys.readouterr()
    assert kronos("submit", "-f", "models.yaml") == 64
    out, err = capsys.readouterr()
    assert err.startswith("error: first: ") and "timeframe" in err and "immutable" in err
    assert out == f"{namespace}/second changed; to be trained: tokenizer, predictor\n"
    assert stored(cluster, namespace, "second")["spec"]["training"]["seed"] == 5


def test_fields_of_another_manager_are_taken_over_on_request_only(
    cluster: ControlPlane, namespace: str, kronos: Kronos, model: Make, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.apply([model("model-a", namespace, predictor={"learningRate": 0.01})])
    assert kronos("submit", "-f", file) == 64
    err = capsys.readouterr().err
    assert "kubectl" in err and ".spec.predictor.learningRate" in err and "--force-conflicts" in err
    assert stored(cluster, namespace)["spec"]["predictor"]["learningRate"] == 0.01
    assert kronos("submit", "-f", file, "--force-conflicts") == 0
    assert stored(cluster, namespace)["spec"]["predictor"]["learningRate"] == 2.0e-5


def test_diff_names_changed_fields_and_the_stages_that_they_retrain(
    cluster: ControlPlane, namespace: str, kronos: Kronos, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kronos("submit", "-f", file) == 0
    trained = finish_run(cluster, namespace)
    capsys.readouterr()
    assert kronos("diff", "-f", file, "--set", "predictor.learningRate=3e-5", "--json") == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["changes"] == [{"field": "spec.predictor.learningRate", "before": 2e-05, "after": 3e-05}]
    tokenizer, predictor = document["stages"]
    assert (tokenizer["action"], predictor["action"]) == ("keep", "train")
    assert tokenizer["reason"] == f"trained by run first (hash {trained['tokenizer'][:8]})"
    assert predictor["reason"].startswith(f"hash {trained['predictor'][:8]} → ")
    assert stored(cluster, namespace)["spec"]["predictor"]["learningRate"] == 2.0e-5

    # What is in no hash retrains nothing, and neither does a default that is written out.
    assert kronos("diff", "-f", file, "--set", "resources.memory=8Gi", "--set", "training.seed=100") == 0
    out = capsys.readouterr().out
    assert "spec.resources.memory" in out and "spec.training.seed" not in out and " train " not in out
    assert kronos("diff", "-f", file) == 0
    assert f"{namespace}/model-a: nothing changes" in capsys.readouterr().out


def finish_run(cluster: ControlPlane, namespace: str) -> dict[str, str]:
    """Plays the operator: both stages were trained and published by run `first`. Returns their hashes."""
    from kronos_operator.api import KronosModel
    from kronos_operator.hashing import stage_hashes

    body = stored(cluster, namespace)
    hashes = {stage.value: value for stage, value in stage_hashes(KronosModel.from_server(body).spec).items()}
    status = {
        "observedGeneration": 1,
        "run": {"id": "first", "stageHashes": hashes, "outcome": "Succeeded"},
        "tracking": {"trained": [{"run": "first", "stage": stage, "hash": value} for stage, value in hashes.items()]},
        "artifacts": {"run": "first"},
    }
    cluster.patch(f"/apis/kronos.io/v1alpha1/namespaces/{namespace}/kronosmodels/model-a/status", {"status": status})
    return hashes


def test_suspend_resume_and_requests_change_the_object_and_nothing_else(
    cluster: ControlPlane, namespace: str, kronos: Kronos, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kronos("submit", "-f", file) == 0
    before = stored(cluster, namespace)["spec"]
    assert kronos("suspend", "model-a") == 0
    assert stored(cluster, namespace)["spec"] == before | {"suspend": True}
    # Applying the file again does not resume: it says nothing of suspend.
    assert kronos("submit", "-f", file) == 0
    assert "kronos resume" in capsys.readouterr().out
    assert stored(cluster, namespace)["spec"]["suspend"] is True
    assert kronos("resume", "model-a") == 0
    assert stored(cluster, namespace)["spec"] == before | {"suspend": False}

    assert kronos("cancel", "model-a") == 66
    assert "no run is in progress" in capsys.readouterr().err
    assert kronos("retrain", "model-a") == 0
    annotations = stored(cluster, namespace)["metadata"]["annotations"]
    assert list(annotations) == ["kronos.io/retrain-requested-at"]
    path = f"/apis/kronos.io/v1alpha1/namespaces/{namespace}/kronosmodels/model-a/status"
    cluster.patch(path, {"status": {"run": {"id": "first"}}})
    assert kronos("cancel", "model-a") == 0
    assert "kronos.io/cancel-requested-at" in stored(cluster, namespace)["metadata"]["annotations"]


def test_what_is_absent_is_named_with_what_is_there(
    cluster: ControlPlane, namespace: str, kronos: Kronos, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kronos("submit", "-f", file) == 0
    for command in ("status", "logs", "suspend"):
        assert kronos(command, "model-b") == 66
        assert f"no KronosModel model-b in namespace {namespace}" in (err := capsys.readouterr().err)
        assert "(found: model-a)" in err
    assert kronos("logs", "model-a") == 66
    assert capsys.readouterr().err == "error: model-a has no pod: the operator has not processed the model yet\n"


def test_who_may_only_look_is_told_so(
    cluster: ControlPlane, namespace: str, kronos: Kronos, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kronos("submit", "-f", file) == 0
    capsys.readouterr()
    assert main(["suspend", "model-a", f"--kubeconfig={cluster.operator_kubeconfig}", "-n", namespace]) == 78
    assert "forbidden" in capsys.readouterr().err
    assert stored(cluster, namespace)["spec"].get("suspend", False) is False
