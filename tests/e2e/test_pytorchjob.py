"""The second backend, on Kubeflow's own training operator: the same model, trained and restarted alike."""

from __future__ import annotations

from collections.abc import Callable

from live import Live, Manifest
from story import LONG, Story, exit_codes


def test_a_pytorchjob_trains_both_stages(
    training_operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    with Story(training_operator, namespace, "model-b-1d") as story:
        training_operator.apply(model(backend="PyTorchJob"))
        logs = story.follow_logs()
        assert story.wait_for_end() == ("True", "Succeeded"), story.status
        assert logs.wait(timeout=60) == 0
    assert {owner["kind"] for pod in story.pods for owner in pod["metadata"]["ownerReferences"]} == {"PyTorchJob"}
    assert [len(pods) for pods in story.gangs().values()] == [2, 2]
    assert exit_codes(story.pods) == {0}
    for stage in ("tokenizer", "predictor"):
        assert any(line.startswith(f"[rank 0] model-b-1d {stage} complete") for line in story.said), story.said


def test_a_deleted_worker_restarts_the_whole_gang(
    training_operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    with Story(training_operator, namespace, "model-b-1d") as story:
        training_operator.apply(model(backend="PyTorchJob", epochs=LONG))
        story.wait_for_step("tokenizer", 2)
        worker = next(pod["metadata"]["name"] for pod in story.pods if "worker" in pod["metadata"]["name"])
        training_operator.kubectl("delete", "pod", worker, "-n", namespace)
        status = story.wait_for_step("tokenizer", 2, attempt=1)
        restarts = status["run"]["restarts"]
        assert restarts.pop("last")["reason"] == "PodDeleted"
        assert {name for name, count in restarts.items() if count} == {"disruptions"}
