"""What becomes of a training while an administrator upgrades, removes and installs the operator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import release
from live import Live, Manifest
from shell import Shell
from story import Story, exit_codes

TRAINING = "{.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.training"
ADDED = TRAINING + ".properties.gradientCheckpointing.type}"


# Lines of docs/install.md.
INSTALL = """
kubectl create namespace quant
helm install kronos-operator charts/kronos-operator --namespace kronos-system --create-namespace \
    --set image.repository=example.org/ml/kronos-operator --set trainer.image.repository=example.org/ml/kronos-trainer \
    --set 'namespaces={quant}'
kubectl -n kronos-system rollout status deployment/kronos-operator
kubectl -n quant apply -f manifests/examples/model_b_1d.yaml
"""
WATCH = "kubectl -n quant get kronosmodels --watch"
UPGRADE = """
helm upgrade kronos-operator charts/kronos-operator --namespace kronos-system --reset-then-reuse-values
kubectl -n kronos-system rollout status deployment/kronos-operator
"""


@pytest.fixture
def older(operator: Live) -> Iterator[Live]:
    """The cluster with an older release in it, whose definition lacks spec.training.gradientCheckpointing."""
    release.uninstall(operator)
    try:
        release.install(operator, release.OLDER)
        yield operator
    finally:
        release.install(operator)


@pytest.fixture
def quant(live: Live, namespace: str) -> Iterator[str]:
    """The name of another namespace, which the test makes."""
    name = f"{namespace}-quant"
    yield name
    live.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


def install_for_two(shell: Shell, quant: str, namespace: str) -> None:
    """Installs the chart as the page does, also for a namespace that is there, until the page's model has a phase."""
    values = "".join(f" --set {name}={value}" for name, value in release.VALUES.items() if "repository" not in name)
    script = INSTALL.replace("example.org/ml/", "localhost/").replace("{quant}'", f"{{quant,{namespace}}}'{values}")
    shell(script.replace("quant", quant))
    with shell.start(WATCH.replace("quant", quant)) as watch:
        assert watch.stdout is not None
        # More than a name and an age: the operator has seen it.
        told = any(line.startswith("model-b-1d ") and len(line.split()) > 2 for line in watch.stdout)
        watch.kill()
    assert told


def test_upgrade_removal_and_reinstallation_leave_a_training_alone(
    older: Live, namespace: str, quant: str, shell: Shell, model: Callable[..., Manifest]
) -> None:
    def added_field() -> str:
        return older.kubectl("get", "crd", "kronosmodels.kronos.io", "-o", f"jsonpath={ADDED}")

    def jobs() -> dict[str, str]:
        return {job["metadata"]["name"]: job["metadata"]["uid"] for job in older.list("jobs", namespace)}

    manifest = model(epochs=25)
    manifest["spec"]["predictor"] = manifest["spec"]["predictor"] | {"epochs": 1}
    assert added_field() == ""
    with Story(older, namespace, "model-b-1d") as story:
        older.apply(manifest)
        before = story.wait_for_step("tokenizer")
        gang = jobs()

        shell(UPGRADE)
        assert added_field() == "boolean"
        # The new operator has taken over, for later steps are told; it is the same attempt of the same run.
        after = story.wait_for_step("tokenizer", story.status["progress"]["step"] + 1)
        assert (after["run"]["id"], after["run"]["attempt"]) == (before["run"]["id"], 0)
        assert jobs() == gang

        shell("helm uninstall kronos-operator --namespace kronos-system")
        release.wait_until_gone(older)
        place = [f"job/{next(iter(gang))}", "-n", namespace]
        assert older.get("job", next(iter(gang)), namespace)["status"].get("active") == 2
        older.kubectl("wait", "--for=condition=Complete", *place, "--timeout=300s")
        # Nobody is there to take note of it.
        assert story.status["progress"]["stage"] == "tokenizer" and jobs() == gang

        install_for_two(shell, quant, namespace)
        older.kubectl("delete", "kronosmodel", "model-b-1d", "-n", quant)  # it asks for a GPU that is not there
        assert story.wait_for_end() == ("True", "Succeeded"), story.status
        status = story.status

    # Two gangs of two pods, as if nothing had happened: nothing was restarted or trained twice.
    assert [len(pods) for pods in story.gangs().values()] == [2, 2]
    assert exit_codes(story.pods) == {0}
    assert not any(status["run"]["restarts"].values())
    assert status["run"]["id"] == before["run"]["id"]
    assert {fact["stage"] for fact in status["tracking"]["trained"]} == {"tokenizer", "predictor"}
    directory = older.volumes / namespace / "models/models" / namespace / "model-b-1d/runs"
    assert [path.name for path in directory.iterdir()] == [status["run"]["id"]]
    attempts = {
        stage: json.loads((directory / status["run"]["id"] / stage / "result.json").read_text())["attempt"]
        for stage in ("tokenizer", "predictor")
    }
    assert attempts == {"tokenizer": 0, "predictor": 1}
