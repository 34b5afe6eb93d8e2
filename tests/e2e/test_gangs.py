"""Gangs that do not all fit, runs that write much, and pods that need more memory than they may have."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from live import Live, Manifest, wait_until
from story import Story, last_words

TINY = {"init": {"scratch": {"size": "tiny"}}, "learningRate": 1.0e-3}
ALONE = {"nodes": 1, "gpusPerNode": 0, "memory": "1Gi", "sharedMemory": "64Mi"}


def test_two_gangs_of_which_one_fits_are_trained_one_after_the_other(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    """Without turns each may get one of the two pods that the quota allows, and wait for the other for ever."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods", "namespace": namespace}}
    operator.apply(quota | {"spec": {"hard": {"pods": "2"}}})
    place = ["resourcequota/pods", "-n", namespace, "--timeout=180s"]
    operator.kubectl("wait", "--for=jsonpath={.status.hard.pods}=2", *place)
    gangs = [model(epochs=1), model(epochs=1)]
    for gang, name in zip(gangs, ("first", "second"), strict=True):
        gang["metadata"]["name"] = name
    with Story(operator, namespace, "first") as first, Story(operator, namespace, "second") as second:
        operator.apply(*gangs)

        def place() -> int | None:
            return first.status.get("queuePosition") or second.status.get("queuePosition")

        assert wait_until("one that waits for its turn", place) == 1
        for story in (first, second):
            assert story.wait_for_end() == ("True", "Succeeded"), story.status
            assert not story.status["run"]["restarts"]["disruptions"] and not story.status["run"]["restarts"]["crashes"]


def test_a_thousand_lines_of_progress_are_followed_to_the_last_one(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    manifest = model(
        resources=ALONE,
        progress={"everySeconds": 0.01},
        training={"windowsPerEpoch": 1000},
        tokenizer=TINY | {"epochs": 1, "batchSize": 32, "microBatchSize": 32},
        predictor=TINY | {"epochs": 2, "batchSize": 2, "microBatchSize": 2},
    )
    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(manifest)
        story.wait_for_step("predictor", 200)
        log = operator.kubectl("logs", story.pods[-1]["metadata"]["name"], "-n", namespace, "--tail=1")
        assert json.loads(log)["step"] - story.status["progress"]["step"] < 150  # a second or two behind
        assert story.wait_for_end() == ("True", "Succeeded"), story.status
        status = story.status
        lines = operator.kubectl("logs", story.pods[-1]["metadata"]["name"], "-n", namespace).splitlines()
    assert len(lines) >= 1000
    assert status["artifacts"]["predictor"]["digest"] == last_words(story.pods[-1])["result"]["digest"]
    assert status["artifacts"]["tokenizer"]["digest"]
    assert status["metrics"]["predictorBestValidationLoss"] > 0


def test_a_pod_with_too_little_memory_fails_with_the_limit_and_what_to_raise(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(model(resources=ALONE | {"memory": "160Mi"}))
        assert story.wait_for_end() == ("True", "Failed"), story.status
        status: dict[str, Any] = story.status
    assert status["failure"]["reason"] == "MemoryLimitExceeded"
    assert "160" in status["failure"]["message"] and "resources.memory" in status["failure"]["message"]
    assert status["run"]["restarts"]["memoryKills"] == 1
    assert len(story.pods) == 2
