"""What becomes of a training while an administrator upgrades, removes and installs the operator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import release
from live import Live, Manifest
from story import Story, exit_codes

COMPILE = "{.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.training.properties.compile.type}"


@pytest.fixture
def older(operator: Live) -> Iterator[Live]:
    """The cluster with an older release in it, whose definition of a KronosModel lacks spec.training.compile."""
    release.uninstall(operator)
    try:
        release.install(operator, release.OLDER)
        yield operator
    finally:
        release.install(operator)


def test_upgrade_removal_and_reinstallation_leave_a_training_alone(
    older: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    def compile_field() -> str:
        return older.kubectl("get", "crd", "kronosmodels.kronos.io", "-o", f"jsonpath={COMPILE}")

    def jobs() -> dict[str, str]:
        return {job["metadata"]["name"]: job["metadata"]["uid"] for job in older.list("jobs", namespace)}

    manifest = model(epochs=25)
    manifest["spec"]["predictor"] = manifest["spec"]["predictor"] | {"epochs": 1}
    assert compile_field() == ""
    with Story(older, namespace, "model-b-1d") as story:
        older.apply(manifest)
        before = story.wait_for_step("tokenizer")
        gang = jobs()

        release.install(older)
        assert compile_field() == "boolean"
        # The new operator has taken over, for later steps are told; it is the same attempt of the same run.
        after = story.wait_for_step("tokenizer", story.status["progress"]["step"] + 1)
        assert (after["run"]["id"], after["run"]["attempt"]) == (before["run"]["id"], 0)
        assert jobs() == gang

        release.uninstall(older)
        place = [f"job/{next(iter(gang))}", "-n", namespace]
        assert older.get("job", next(iter(gang)), namespace)["status"].get("active") == 2
        older.kubectl("wait", "--for=condition=Complete", *place, "--timeout=300s")
        # Nobody is there to take note of it.
        assert story.status["progress"]["stage"] == "tokenizer" and jobs() == gang

        release.install(older)
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
