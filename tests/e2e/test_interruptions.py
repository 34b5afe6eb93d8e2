"""What happens to a gang at night: ranks die, pods are evicted, the operator is away, somebody suspends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from live import Live, Manifest, wait_until
from story import Story, exit_codes

SYSTEM = "kronos-system"
LONG = 40  # epochs: more than any test waits for
KILL_RANKS = "kill -9 $(grep -lz '^-u$' /proc/[0-9]*/cmdline | cut -d / -f 3)"  # only ranks are started with -u


def restarted_from_checkpoint(story: Story, *, cause: str) -> None:
    """Waits until attempt 1 goes on from where attempt 0 saved, and checks what was counted."""
    status = story.wait_for_step("tokenizer", attempt=1)
    assert {name for name, count in status["restarts"].items() if count} == {cause}
    assert [len(pods) for pods in story.gangs().values()] == [2, 2]
    lines = [json.loads(line) for line in story.log(pods_of(story, 1)[0]).splitlines() if line.startswith("{")]
    assert next(line["step"] for line in lines if line.get("phase") == "training") > 0


def start(live: Live, story: Story, manifest: Manifest) -> None:
    """Applies a model and waits until it says that it has saved some steps."""
    live.apply(manifest)
    wait_until("a checkpoint", lambda: story.status.get("checkpoint", {}).get("step", 0) > 0)


def pods_of(story: Story, attempt: int) -> list[str]:
    """Names of the pods of the attempt's gang."""
    return [pod["metadata"]["name"] for pod in list(story.gangs().values())[attempt]]


def test_a_killed_rank_restarts_the_whole_gang_from_the_checkpoint(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    with Story(operator, namespace, "model-b-1d") as story:
        start(operator, story, model(epochs=LONG))
        operator.kubectl("exec", pods_of(story, 0)[1], "-n", namespace, "--", "sh", "-c", KILL_RANKS)
        restarted_from_checkpoint(story, cause="crashes")
        assert 1 in exit_codes(next(iter(story.gangs().values())))


def test_an_evicted_pod_is_no_crash(operator: Live, namespace: str, model: Callable[..., Manifest]) -> None:
    with Story(operator, namespace, "model-b-1d") as story:
        start(operator, story, model(epochs=LONG))
        pod = pods_of(story, 0)[0]
        eviction: dict[str, Any] = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        }
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
        operator.kubectl("create", "--raw", path, "-f", "-", manifest=eviction)
        restarted_from_checkpoint(story, cause="disruptions")


def test_suspending_saves_and_frees_the_pods_and_resuming_goes_on(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    def patch(suspend: bool) -> None:
        body = json.dumps({"spec": {"suspend": suspend}})
        operator.kubectl("patch", "kronosmodel", "model-b-1d", "-n", namespace, "--type=merge", "-p", body)

    with Story(operator, namespace, "model-b-1d") as story:
        start(operator, story, model(epochs=LONG))
        patch(True)
        wait_until("Suspended", lambda: story.status["phase"] == "Suspended", seconds=60)
        wait_until("no pods", lambda: not operator.list("pods", namespace), seconds=60)
        run = story.status["run"]["id"]
        patch(False)
        restarted = story.wait_for_step("tokenizer", 1, attempt=1)
        assert restarted["run"]["id"] == run
        assert not any(restarted.get("restarts", {}).values())


def test_an_operator_that_was_away_takes_up_what_happened_meanwhile(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    def scale(replicas: int) -> None:
        operator.kubectl("scale", "deployment", "--all", f"--replicas={replicas}", "-n", SYSTEM)

    with Story(operator, namespace, "model-b-1d") as story:
        start(operator, story, model(epochs=2))
        scale(0)
        try:
            job = next(iter(story.gangs()))
            place = [f"job/{job}", "-n", namespace, "--timeout=300s"]
            operator.kubectl("wait", "--for=condition=Complete", *place)
        finally:
            scale(1)
        assert story.wait_for_end() == ("True", "Succeeded"), story.status
        assert [len(pods) for pods in story.gangs().values()] == [2, 2]  # nothing was trained twice
