"""What the API server makes of good and bad KronosModels: the messages are those that a user of kubectl reads."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import REPOSITORY, ControlPlane
from pydantic import ValidationError

from kronos_operator.api import KronosModel

Model = Callable[..., dict[str, Any]]

MODELS = "/apis/kronos.io/v1alpha1/namespaces/{}/kronosmodels"
EXAMPLES = sorted(
    set((REPOSITORY / "manifests/examples").glob("*.yaml")) - {REPOSITORY / "manifests/examples/claims.yaml"}
)

COLUMNS = ["NAME", "PHASE", "STAGE", "PROGRESS", "ETA", "READY", "VERDICT", "REASON", "ATTEMPT"]
SAMPLES = Path(__file__).parent / "samples"
GOOD: dict[str, dict[str, Any]] = yaml.safe_load((SAMPLES / "good.yaml").read_text())
BAD: dict[str, dict[str, Any]] = yaml.safe_load((SAMPLES / "bad.yaml").read_text())
# Locally results need no place of their own; and the command line reads YAML 1.1, where 1e-4 is a text and yes a truth.
TAKEN_BY_THE_COMMAND_LINE = {"storage-missing", "lookback-text", "learning-rate-text", "suspend-text"}


def spoiled(good: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    body = copy.deepcopy(good)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = body["spec"]
        for part in parents:
            place = place.setdefault(part, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    return body


def told_about(cluster: ControlPlane, folder: Path, samples: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What kubectl says of each sample, by its name; the empty text where it is content."""
    for name, body in samples.items():
        (folder / f"{name}.json").write_text(json.dumps(body))
    applied = cluster.kubectl("apply", "--dry-run=server", "-f", folder)
    words = dict.fromkeys(samples, "")
    for paragraph in re.split(r"\n(?=Error from server|error:)", applied.stderr.strip()):
        for name in samples:
            if f"/{name}.json" in paragraph:
                words[name] = paragraph
    return words


@pytest.fixture(scope="module")
def words(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory, good: dict[str, Any]) -> dict[str, str]:
    samples = {name: named(spoiled(good, sample["set"]), name) for name, sample in BAD.items()}
    return told_about(cluster, tmp_path_factory.mktemp("bad"), samples)


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    parts = {"timeframe": "1d", "data": {"source": {"claim": {"name": "bars"}}}, "storage": {"claim": {"name": "m"}}}
    return {"apiVersion": "kronos.io/v1alpha1", "kind": "KronosModel", "metadata": {"name": "good"}, "spec": parts}


def named(body: dict[str, Any], name: str) -> dict[str, Any]:
    return body | {"metadata": {"name": name, "namespace": "default"}}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_model_is_refused_with_the_reason(words: dict[str, str], name: str) -> None:
    assert BAD[name]["told"] in words[name]


@pytest.mark.parametrize("name", sorted(BAD.keys() - TAKEN_BY_THE_COMMAND_LINE))
def test_what_the_server_refuses_the_command_line_refuses_too(good: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError):
        KronosModel.model_validate(spoiled(good, BAD[name]["set"]))


def test_good_models_are_accepted(cluster: ControlPlane, tmp_path: Path, good: dict[str, Any]) -> None:
    samples = {name: named(spoiled(good, changes), name) for name, changes in GOOD.items()}
    assert told_about(cluster, tmp_path, samples) == dict.fromkeys(samples, "")
    for body in samples.values():
        KronosModel.model_validate(body)


@pytest.mark.parametrize("name", ["Model", "1d-model", "model-", "model.b", "m" * 35])
def test_a_bad_name_is_refused(cluster: ControlPlane, good: dict[str, Any], name: str) -> None:
    applied = cluster.kubectl("apply", "--dry-run=server", "-f", "-", input=json.dumps(named(good, name)))
    assert applied.returncode != 0
    assert re.search("the name must be at most 34 lower-case letters|a lowercase RFC 1123 subdomain", applied.stderr)


def test_the_examples_are_stored_as_they_are_written(cluster: ControlPlane, namespace: str) -> None:
    for path in EXAMPLES:
        applied = cluster.kubectl("apply", "--namespace", namespace, "-f", path)
        assert applied.returncode == 0 and "Warning" not in applied.stderr, applied.stderr
        written = yaml.safe_load(path.read_text())
        stored = cluster.request("GET", f"{MODELS.format(namespace)}/{written['metadata']['name']}")
        assert KronosModel.from_server(stored).spec == KronosModel.model_validate(written).spec
        again = cluster.kubectl("apply", "--namespace", namespace, "-f", path)
        assert "unchanged" in again.stdout, "the server's defaults are no drift"
    assert len(EXAMPLES) >= 2


def test_the_server_fills_in_the_same_defaults_as_the_command_line(
    cluster: ControlPlane, namespace: str, model: Model
) -> None:
    written = model("model", namespace, tokenizer={}, training={"earlyStopping": {"patience": 3}}, podTemplate={})
    stored = cluster.request("POST", MODELS.format(namespace), written)
    assert stored["spec"]["tokenizer"]["batchSize"] == 64 and stored["spec"]["resources"]["nodes"] == 1
    assert KronosModel.from_server(stored).spec == KronosModel.model_validate(written).spec
    assert stored["status"] == {"observedGeneration": -1}


def test_kubectl_reads_an_exponent_without_a_dot_as_a_number(cluster: ControlPlane, good: dict[str, Any]) -> None:
    text = yaml.safe_dump(spoiled(good, {"predictor.learningRate": 0.123})).replace("0.123", "1e-4")
    applied = cluster.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", input=text)
    assert json.loads(applied.stdout)["spec"]["predictor"]["learningRate"] == 1e-4


def test_the_timeframe_cannot_change_and_the_rest_can(cluster: ControlPlane, namespace: str, model: Model) -> None:
    cluster.apply([model("model", namespace)])
    changed = cluster.kubectl(
        "apply", "--server-side", "-f", "-", input=json.dumps(model("model", namespace, timeframe="4h"))
    )
    assert "timeframe is immutable: create another KronosModel for another timeframe" in changed.stderr
    cluster.apply([model("model", namespace, suspend=True, predictor={"epochs": 3})])


def test_spec_and_status_are_written_apart(cluster: ControlPlane, namespace: str, model: Model) -> None:
    path = f"{MODELS.format(namespace)}/model"
    cluster.request("POST", MODELS.format(namespace), model("model", namespace) | {"status": {"phase": "Succeeded"}})
    assert cluster.request("GET", path)["status"] == {"observedGeneration": -1}
    status = {"status": {"observedGeneration": 1, "phase": "Training"}, "spec": {"suspend": True}}
    written = cluster.patch(f"{path}/status", status)
    assert written["status"]["phase"] == "Training" and written["spec"]["suspend"] is False
    assert written["metadata"]["generation"] == 1, "a status is no new generation"


def test_columns_tell_the_story(cluster: ControlPlane, namespace: str, model: Model) -> None:
    cluster.request("POST", MODELS.format(namespace), model("model", namespace))
    ready = {"type": "Ready", "status": "True", "reason": "StageRunning", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {
        "observedGeneration": 1,
        "phase": "Training",
        "stage": "predictor",
        "conditions": [ready],
        "progress": {"summary": "43%", "eta": "2h13m", "loss": 1.25},
        "run": {"id": "run-1", "attempt": 2, "gpus": 8},
        "evaluation": {"run": "run-0", "verdict": "Better"},
    }
    cluster.patch(f"{MODELS.format(namespace)}/model/status", {"status": status})
    narrow = cluster.kubectl("get", "km", "--namespace", namespace).stdout.splitlines()
    wide = cluster.kubectl("get", "ml", "--namespace", namespace, "-o", "wide").stdout.splitlines()
    told = ["model", "Training", "predictor", "43%", "2h13m", "True", "Better", "StageRunning", "2"]
    assert narrow[0].split() == [*COLUMNS, "AGE"]
    assert narrow[1].split()[:-1] == told
    assert wide[0].split() == [*COLUMNS, "LOSS", "GPUS", "RUN", "AGE"]
    assert wide[1].split()[:-1] == [*told, "1.25", "8", "run-1"]


def test_fields_are_explained(cluster: ControlPlane) -> None:
    explained = cluster.kubectl("explain", "kronosmodel.spec", "--recursive").stdout
    assert "learningRate\t<number>" in explained and "badRows\t<string>" in explained
    assert "enum: 1m, 3m" in explained
    lookback = cluster.kubectl("explain", "kronosmodel.spec.window.lookback").stdout
    assert "Bars of history. Normalisation uses these only." in lookback
