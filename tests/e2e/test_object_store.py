"""Bars and results in an object store, with the keys from a Secret: no volume at all."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from live import Live, Manifest, wait_until
from story import KILL_RANKS, LONG, Story, exit_codes

# The server is that of the trainer's tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "trainer"))

from s3_server import ACCESS_KEY, SECRET_KEY, S3Server


@pytest.fixture
def server(live: Live, bars: Path, tmp_path: Path) -> Iterator[S3Server]:
    """An S3 server that pods can reach, with the buckets `market-data` and `models`."""
    shutil.copytree(bars / "us" / "daily", tmp_path / "buckets" / "market-data" / "us" / "daily")
    (tmp_path / "buckets" / "models").mkdir()
    with S3Server(tmp_path / "buckets", address=address_for_pods(live)) as server:
        yield server


def address_for_pods(live: Live) -> str:
    """Where pods find this machine: as the nodes find the API server, unless that is the loopback."""
    config = yaml.safe_load(live.kubeconfig.read_text())
    host = urlsplit(config["clusters"][0]["cluster"]["server"]).hostname or ""
    if not host.startswith("127."):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; it asks which address would
        return str(probe.getsockname()[0])


@pytest.fixture
def stored(live: Live, namespace: str, server: S3Server, model: Callable[..., Manifest]) -> Callable[..., Manifest]:
    """Makes the model with bars and results in the store; `secret_key` is what its Secret holds."""

    def make(*, secret_key: str = SECRET_KEY, epochs: int = 2) -> Manifest:
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": secret_key}
        metadata = {"name": "object-store", "namespace": namespace}
        live.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys})
        variables = [{"name": key, "valueFrom": {"secretKeyRef": {"name": "object-store", "key": key}}} for key in keys]
        endpoint = server.environment()["AWS_ENDPOINT_URL"]
        variables += [{"name": "AWS_ENDPOINT_URL", "value": endpoint}, {"name": "OMP_NUM_THREADS", "value": "1"}]
        manifest = model(
            epochs=epochs,
            storage={"uri": "s3://models/kronos"},
            podTemplate={"env": variables},
            retry={"backoffSeconds": 1, "maxRestarts": 1},
        )
        manifest["spec"]["predictor"] = manifest["spec"]["predictor"] | {"epochs": 1}
        manifest["spec"]["data"]["source"] = {"uri": "s3://market-data/us/daily"}
        return manifest

    return make


def test_a_model_lives_in_an_object_store_and_goes_on_from_there_after_kill_9(
    operator: Live, namespace: str, server: S3Server, stored: Callable[..., Manifest]
) -> None:
    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(stored(epochs=10))
        wait_until("a checkpoint", lambda: story.status.get("checkpoint", {}).get("step", 0) > 0)
        story.follow_logs()
        first = next(iter(story.gangs().values()))
        operator.kubectl("exec", first[1]["metadata"]["name"], "-n", namespace, "--", "sh", "-c", KILL_RANKS)
        story.wait_for_step("tokenizer", attempt=1)
        assert story.steps(list(story.gangs().values())[1][0]["metadata"]["name"])[0] > 0
        assert story.wait_for_end() == ("True", "Succeeded"), story.status
        status = story.status
    assert status["run"]["restarts"]["crashes"] == 1
    models = server.root / "models" / "kronos" / "models" / namespace / "model-b-1d"
    current = json.loads((models / "current.json").read_text())
    for stage in ("tokenizer", "predictor"):
        result = json.loads((models / "runs" / current["run"] / stage / "result.json").read_text())
        assert result["digest"] == status["artifacts"][stage]["digest"] and result["worldSize"] == 2
    written = [json.dumps(story.model), *story.lines, *story.said, *map(json.dumps, story.pods)]
    assert not any(key in text for key in (SECRET_KEY, ACCESS_KEY) for text in written)


def test_a_wrong_key_fails_the_run_at_once_and_says_so(
    operator: Live, namespace: str, stored: Callable[..., Manifest]
) -> None:
    with Story(operator, namespace, "model-b-1d") as story:
        operator.apply(stored(secret_key="not-the-key", epochs=LONG))
        assert story.wait_for_end(240) == ("True", "Failed"), story.status
    assert exit_codes(story.pods) == {66}
    told = json.dumps(story.status)
    assert "s3://models/kronos: permission denied to" in told and "not-the-key" not in told and ACCESS_KEY not in told
