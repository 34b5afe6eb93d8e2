"""`kubectl apply -f model_b_1d.yaml` on a real Kubernetes: both stages, two pods each, until Finished, and again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from kronos_finance._vendor.kronos_model.kronos import Kronos, KronosTokenizer
from live import Live, Manifest, wait_until
from story import Story, exit_codes, last_words


def test_a_model_is_trained_from_kubectl_apply_to_finished(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(model())
        logs = story.follow_logs()
        assert story.wait_for_end() == ("True", "Succeeded"), story.status
        status = story.status
        assert logs.wait(timeout=60) == 0

    # Two gangs of two pods, one after the other, that passed the restricted profile and ended well.
    assert [len(pods) for pods in story.gangs().values()] == [2, 2]
    assert [name.split("-")[3] for name in story.gangs()] == ["tok", "pred"]
    assert exit_codes(story.pods) == {0}

    # The result of a stage is what the container of rank 0 leaves, which outlives its log.
    for stage, pods in zip(("tokenizer", "predictor"), story.gangs().values(), strict=True):
        words = [left for pod in pods if (left := last_words(pod))]
        assert [left["result"]["digest"] for left in words] == [status["artifacts"][stage]["digest"]]

    # The story, as `kubectl get km` told it.
    told = "\n".join(story.lines)
    assert all(word in told for word in ("Training", "tokenizer", "predictor", "Succeeded", "100%")), told
    assert "Restarting" not in told, told
    assert status["phase"] == "Succeeded"
    for condition in ("Ready", "TokenizerTrained", "PredictorTrained", "Available"):
        assert story.condition(condition)[0] == "True"

    # What lies on the volume is what the status names, was trained by two processes, and loads in upstream's code.
    directory = operator.volumes / namespace / "models/models" / namespace / "model-b-1d"
    current = json.loads((directory / "current.json").read_text())
    assert current["run"] == status["run"]["id"] == status["artifacts"]["run"]
    for stage, upstream in (("tokenizer", KronosTokenizer), ("predictor", Kronos)):
        stage_directory = directory / "runs" / current["run"] / stage
        result = json.loads((stage_directory / "result.json").read_text())
        assert result["worldSize"] == 2 and result["digest"] == status["artifacts"][stage]["digest"]
        assert json.loads((stage_directory / "checkpoint.json").read_text())["latest"]
        upstream.from_pretrained(str(stage_directory / "best"))

    # `kronos logs -f` went on from stage to stage. Only rank 0 speaks while all goes well.
    for stage in ("tokenizer", "predictor"):
        assert any(line.startswith(f"[rank 0] model-b-1d {stage} complete") for line in story.said), story.said

    # The files outlive the object, and recreating it retrains nothing.
    operator.kubectl("delete", "kronosmodel", "model-b-1d", "-n", namespace)
    with Story(operator, namespace, "model-b-1d") as recreated:
        operator.apply(model())
        assert recreated.wait_for_end() == ("True", "Succeeded"), recreated.status
    assert exit_codes(recreated.pods) == {0}
    assert json.loads((directory / "current.json").read_text())["publishedAt"] == current["publishedAt"]

    # A retrain request trains both stages once more, in a run of its own, and publishes that.
    with Story(operator, namespace, "model-b-1d") as retrained:
        command = operator.kronos("retrain", "model-b-1d", namespace)
        subprocess.run(command, check=True, capture_output=True)
        wait_until("the new run", lambda: retrained.condition("Finished")[0] == "False")
        assert retrained.condition("Available")[0] == "True"  # the earlier one, meanwhile
        assert retrained.wait_for_end() == ("True", "Succeeded"), retrained.status
        status = retrained.status
    fresh = [pods for name, pods in retrained.gangs().items() if name not in recreated.gangs()]
    assert [len(pods) for pods in fresh] == [2, 2]
    published = json.loads((directory / "current.json").read_text())
    assert published["run"] == status["artifacts"]["run"] != current["run"]
    assert [entry["run"] for entry in status["history"]] == [published["run"], current["run"]]
    for run in (current["run"], published["run"]):
        assert (directory / "runs" / run / "predictor/best/model.safetensors").exists()

    # Which run is published moves by request, in a pod that the operator makes and removes.
    older, newer = current["run"], published["run"]
    for arguments, expected, reason in (
        (("rollback",), older, "RolledBack"),
        (("promote", newer), newer, "Promoted"),
    ):
        with Story(operator, namespace, "model-b-1d") as moved:
            move(operator, namespace, *arguments)
            wait_until(reason, lambda story=moved, run=expected: story.status["artifacts"]["run"] == run)
            assert moved.condition("Ready") == ("True", reason), moved.status
            status = moved.status
            wait_until("no pod of it", lambda verb=arguments[0]: not pods_of(operator, namespace, verb))
        pointer = json.loads((directory / "current.json").read_text())
        assert pointer["run"] == expected
        for stage in ("tokenizer", "predictor"):
            assert status["artifacts"][stage]["digest"] == pointer[stage]["digest"]

    # What cannot be published says so, and changes nothing.
    move(operator, namespace, "promote", "0ddba115")
    wait_until("the failure", lambda: (moved.status.get("promotion") or {}).get("outcome") == "Failed")
    assert "0ddba115" in moved.status["promotion"]["message"] and older in moved.status["promotion"]["message"]
    assert moved.status["artifacts"]["run"] == newer and moved.status["phase"] == "Succeeded"


def move(live: Live, namespace: str, command: str, *run: str) -> None:
    """Starts `kronos promote` or `kronos rollback`."""
    kronos, verb, name, *options = live.kronos(command, "model-b-1d", namespace)
    subprocess.run([kronos, verb, name, *run, *options], check=True, capture_output=True)


def pods_of(live: Live, namespace: str, command: str) -> list[Manifest]:
    """The pods that carry out a command."""
    return live.list("pods", namespace, f"kronos.io/command={command}")
