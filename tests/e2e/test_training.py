"""`kubectl apply -f model_b_1d.yaml` on a real Kubernetes: both stages, two pods each, until Finished."""

from __future__ import annotations

import json
from collections.abc import Callable

from kronos_finance._vendor.kronos_model.kronos import Kronos, KronosTokenizer
from live import Live, Manifest
from story import Story, exit_codes


def test_a_model_is_trained_from_kubectl_apply_to_finished(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(model())
        assert story.wait_for_end() == ("True", "Succeeded"), story.status
        status = story.status

    # Two gangs of two pods, one after the other, that passed the restricted profile and ended well.
    assert [len(pods) for pods in story.gangs().values()] == [2, 2]
    assert [name.split("-")[3] for name in story.gangs()] == ["tok", "pred"]
    assert exit_codes(list(story.pods.values())) == {0}

    # The story, as `kubectl get km` told it.
    told = "\n".join(story.lines)
    assert all(word in told for word in ("Training", "tokenizer", "predictor", "Succeeded", "100%")), told
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

    # Children are removed by their time to live, not by us; recreating the object retrains nothing.
    operator.kubectl("delete", "kronosmodel", "model-b-1d", "-n", namespace)
    with Story(operator, namespace, "model-b-1d") as again:
        operator.apply(model())
        assert again.wait_for_end() == ("True", "Succeeded"), again.status
    assert exit_codes(list(again.pods.values())) == {0}
    assert json.loads((directory / "current.json").read_text())["publishedAt"] == current["publishedAt"]
