"""What happens to a gang at night: ranks die, pods are evicted, somebody suspends or deletes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from live import Live, Manifest, wait_until
from shell import Shell
from story import KILL_RANKS, LONG, Story, exit_codes


def restarted_from_checkpoint(story: Story, *, cause: str) -> None:
    """Waits until attempt 1 goes on from where attempt 0 saved, and checks what was counted."""
    status = story.wait_for_step("tokenizer", attempt=1)
    restarts = status["run"]["restarts"]
    assert restarts.pop("last")["message"]
    assert {name for name, count in restarts.items() if count} == {cause}
    assert [len(pods) for pods in story.gangs().values()] == [2, 2]
    assert story.steps(pods_of(story, 1)[0])[0] > 0


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
        story.follow_logs()

        def trained(attempt: int) -> list[str]:
            """What `kronos logs -f` printed of the training of an attempt's rank 0; each attempt begins by loading."""
            own = [line for line in story.said if line.startswith("[rank 0] model-b-1d tokenizer")]
            loading = ["loading" in line for line in own]
            starts = [
                number for number, now in enumerate(loading) if now and not any(loading[max(0, number - 1) : number])
            ]
            return [line for line in own[starts[attempt] :] if "training" in line] if attempt < len(starts) else []

        first = wait_until("its log", lambda: trained(0))[0]
        operator.kubectl("exec", pods_of(story, 0)[1], "-n", namespace, "--", "sh", "-c", KILL_RANKS)
        restarted_from_checkpoint(story, cause="crashes")
        assert 1 in exit_codes(next(iter(story.gangs().values())))
        # `kronos logs -f` heard both pods and went over to the next attempt.
        assert any(line.startswith("[rank 1] ") and "killed by SIGKILL" in line for line in story.said), story.said
        again = wait_until("the log of the next attempt", lambda: trained(1))[0]
        assert "step 0/" in first and "step 0/" not in again


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


def test_a_stop_in_the_first_moment_of_a_pod_is_not_lost(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    """Python takes a while to start, and more to import torch; a lost SIGTERM would cost the grace period of 120 s."""
    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(model(epochs=LONG))

        def runs() -> bool:
            return any(pod["status"]["phase"] == "Running" for pod in operator.list("pods", namespace))

        wait_until("a running pod", runs, every=0.1)
        # `kronos suspend` would take a second to start, and the moment be over.
        suspended = json.dumps({"spec": {"suspend": True}})
        operator.kubectl("patch", "kronosmodel", "model-b-1d", "-n", namespace, "--type=merge", "-p", suspended)
        wait_until("no pods", lambda: not operator.list("pods", namespace), seconds=60)
        wait_until("Suspended", lambda: story.status["phase"] == "Suspended")
        assert not any(story.status.get("run", {}).get("restarts", {}).values())
    assert exit_codes(story.pods) <= {75, 143}


def test_suspending_saves_and_frees_the_pods_resuming_goes_on_and_cancelling_ends_the_run(
    operator: Live, namespace: str, shell: Shell, model: Callable[..., Manifest]
) -> None:
    with Story(operator, namespace, "model-b-1d") as story:
        start(operator, story, model(epochs=LONG))
        shell("kronos suspend --cluster model-b-1d")
        wait_until("Suspended", lambda: story.status["phase"] == "Suspended")
        wait_until("no pods", lambda: not operator.list("pods", namespace))
        run = story.status["run"]["id"]
        shell("kronos resume --cluster model-b-1d")
        restarted = story.wait_for_step("tokenizer", 1, attempt=1)
        assert restarted["run"]["id"] == run
        assert not any(restarted.get("run", {}).get("restarts", {}).values())

        shell("kronos cancel --cluster model-b-1d")
        assert story.wait_for_end() == ("True", "Cancelled")
        # Another run begins when somebody asks for it, and is cancelled by kubectl alike.
        shell("kronos retrain --cluster model-b-1d")
        wait_until("another run", lambda: story.status["run"]["id"] != run)
        shell(
            'kubectl annotate --overwrite kronosmodel/model-b-1d kronos.io/cancel-requested-at="$(date --utc +%FT%TZ)"'
        )
        assert story.wait_for_end() == ("True", "Cancelled")


def test_deleting_a_model_ends_its_pods_and_applying_it_again_goes_on_from_its_checkpoint(
    operator: Live, namespace: str, model: Callable[..., Manifest]
) -> None:
    manifest = model(epochs=LONG)
    directory = operator.volumes / namespace / "models/models" / namespace / "model-b-1d"
    with Story(operator, namespace, "model-b-1d") as story:
        start(operator, story, manifest)
        # An attempt that is not the first: the object that follows begins to count anew.
        operator.kubectl("delete", "pod", pods_of(story, 0)[0], "-n", namespace, "--wait=false")
        run = story.wait_for_step("tokenizer", 1, attempt=1)["run"]["id"]
        operator.kubectl("delete", "kronosmodel", "model-b-1d", "-n", namespace)
        wait_until("nothing of it", lambda: not operator.list("pods,jobs,services", namespace))
    kept = json.loads((directory / "runs" / run / "tokenizer/checkpoint.json").read_text())["latest"]["step"]
    assert kept > 0

    with Story(operator, namespace, "model-b-1d") as again:
        operator.apply(manifest)
        status = again.wait_for_step("tokenizer", kept)
        assert status["run"]["id"] == run
        assert not any(status["run"]["restarts"].values())
        assert again.steps(pods_of(again, 0)[0])[0] >= kept
