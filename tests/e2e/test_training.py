"""`kubectl apply -f model_b_1d.yaml` on a real Kubernetes: both stages, two pods each, until Finished, and again."""

from __future__ import annotations

import json
from collections.abc import Callable

from kronos_finance._vendor.kronos_model.kronos import Kronos, KronosTokenizer
from live import Live, Manifest, wait_until
from shell import Shell
from story import Story, exit_codes, last_words


def test_a_model_is_trained_from_kubectl_apply_to_finished(
    operator: Live, namespace: str, shell: Shell, model: Callable[..., Manifest]
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

    # What the runbook looks at first.
    every = shell("kronos status --cluster")
    one = shell("kronos status --cluster model-b-1d")
    assert "model-b-1d" in every and "Succeeded" in every and status["run"]["id"] in one
    said = shell("kronos logs --cluster --follow model-b-1d")  # it ends, for nothing follows
    assert "[rank 0] model-b-1d predictor complete" in said
    conditions, _, events = shell("kubectl describe kronosmodel model-b-1d").partition("Events:")
    assert "PredictorTrained" in conditions and "TrainingTokenizer" in events
    listed = shell("kubectl get pods -l kronos.io/model=model-b-1d")
    assert all(pod["metadata"]["name"] in listed for pod in story.pods)
    shell("kubectl -n kronos-system logs deployment/kronos-operator")

    # The files outlive the object, and recreating it retrains nothing.
    operator.kubectl("delete", "kronosmodel", "model-b-1d", "-n", namespace)
    with Story(operator, namespace, "model-b-1d") as recreated:
        operator.apply(model())
        assert recreated.wait_for_end() == ("True", "Succeeded"), recreated.status
    assert exit_codes(recreated.pods) == {0}
    assert json.loads((directory / "current.json").read_text())["publishedAt"] == current["publishedAt"]

    # A retrain request trains both stages once more, in a run of its own, and publishes that.
    with Story(operator, namespace, "model-b-1d") as retrained:
        shell(
            'kubectl annotate --overwrite kronosmodel/model-b-1d kronos.io/retrain-requested-at="$(date --utc +%FT%TZ)"'
        )
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
    for verb, line, expected, reason in (
        ("rollback", "kronos rollback --cluster model-b-1d", older, "RolledBack"),
        ("promote", "kronos promote --cluster model-b-1d 3c0ffee3", newer, "Promoted"),
    ):
        with Story(operator, namespace, "model-b-1d") as moved:
            shell(line.replace("3c0ffee3", newer))
            wait_until(reason, lambda story=moved, run=expected: story.status["artifacts"]["run"] == run)
            assert moved.condition("Ready") == ("True", reason), moved.status
            status = moved.status
            wait_until("no pod of it", lambda verb=verb: not pods_of(operator, namespace, verb))
        pointer = json.loads((directory / "current.json").read_text())
        assert pointer["run"] == expected
        for stage in ("tokenizer", "predictor"):
            assert status["artifacts"][stage]["digest"] == pointer[stage]["digest"]

    # What cannot be published says so, and changes nothing.
    shell('kubectl annotate --overwrite kronosmodel/model-b-1d kronos.io/promote="3c0ffee3"')
    wait_until("the failure", lambda: (moved.status.get("promotion") or {}).get("outcome") == "Failed")
    assert "3c0ffee3" in moved.status["promotion"]["message"] and older in moved.status["promotion"]["message"]
    assert moved.status["artifacts"]["run"] == newer and moved.status["phase"] == "Succeeded"


def pods_of(live: Live, namespace: str, command: str) -> list[Manifest]:
    """The pods that carry out a command."""
    return live.list("pods", namespace, f"kronos.io/command={command}")
