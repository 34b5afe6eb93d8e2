"""Promotions and rollbacks by the operator's process, its token and its admission policy, with real Jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from control_plane import ControlPlane
from operator_process import Kubelet, eventually, operator
from shell import Shell

from kronos_operator.api import Status

Make = Callable[..., dict[str, Any]]
NAME, OLD = "model-b-1d", "3c0ffee3"
HASHES = {"tokenizer": "1" * 16, "predictor": "2" * 16}


def report(run: str) -> str:
    said = {"run": run, "hashes": HASHES, "bytes": {"predictor": 2**62}, "dataThrough": {"predictor": "2026-02-27"}}
    return json.dumps({"kronos": 1, "event": "pointer", "message": "it is published now"} | said)


def started(kubelet: Kubelet, verb: str) -> str:
    """The name of the Job of a request, once it has its pod."""

    def look() -> str | None:
        return next((job for job in kubelet.jobs() if f"-{verb}-" in job and kubelet.pods(job)), None)

    return eventually(look, f"the Job of a {verb}")


def answered(kubelet: Kubelet, verb: str) -> dict[str, Any]:
    """The status once it answers the newest request."""
    text = kubelet.model(NAME)["metadata"]["annotations"][f"kronos.io/{verb}"]

    def look() -> dict[str, Any] | None:
        status = kubelet.status(NAME)
        return status if (status.get("promotion") or {}).get("request") == text else None

    return eventually(look, f"the answer to {text}")


def test_requests_are_carried_out_with_no_more_rights_than_training_needs(
    cluster: ControlPlane, namespace: str, shell: Shell, model: Make, tmp_path: Path
) -> None:
    kubelet, log = Kubelet(cluster, namespace), tmp_path / "operator.log"
    cluster.apply([model(NAME, namespace, evaluation={"enabled": False})])
    with operator(cluster, namespace, log):
        kubelet.train("tok", 0)
        kubelet.train("pred", 1)
        trained = eventually(lambda: kubelet.status(NAME).get("artifacts"), "the published run")["run"]

        shell('kubectl annotate --overwrite kronosmodel/model-b-1d kronos.io/promote="3c0ffee3"')
        job = started(kubelet, "promote")
        kubelet.run(job)
        kubelet.end(job, 0, report(OLD))
        status = answered(kubelet, "promote")
        assert status["promotion"]["outcome"] == "Succeeded" and status["artifacts"]["run"] == OLD
        artifact = status["artifacts"]["predictor"]
        assert (artifact["hash"], artifact["bytes"]) == (HASHES["predictor"], 2**62)
        assert artifact["dataThrough"] == "2026-02-27" and "bytes" not in status["artifacts"]["tokenizer"]
        Status.model_validate(status)
        eventually(lambda: job not in kubelet.jobs(), "the deletion of its Job")

        shell('kubectl annotate --overwrite kronosmodel/model-b-1d kronos.io/rollback="$(date --utc +%FT%TZ)"')
        job = started(kubelet, "rollback")
        kubelet.run(job)
    # The operator is killed, and the pod ends meanwhile.
    kubelet.end(job, 66, json.dumps({"kronos": 1, "event": "error", "exitCode": 66, "message": "no other run"}))
    with operator(cluster, namespace, log):
        status = answered(kubelet, "rollback")
        promotion = status["promotion"]
        assert (promotion["outcome"], promotion["reason"]) == ("Failed", "PodFailed")
        assert promotion["message"] == "no other run" and status["artifacts"]["run"] == OLD

        shell("kronos promote --cluster model-b-1d")
        job = started(kubelet, "promote")
        cluster.kubectl("delete", "kronosmodel", NAME, f"--namespace={namespace}", "--wait=false")
        eventually(lambda: job not in kubelet.jobs(), "its Job goes with its model")
    assert trained != OLD
