"""Promotions and rollbacks by the operator's process, its token and its admission policy, with real Jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from control_plane import ControlPlane
from operator_process import Kubelet, eventually, operator

from kronos_operator import names
from kronos_operator.api import Status

Make = Callable[..., dict[str, Any]]
OLD = "0ddba115"
HASHES = {"tokenizer": "1" * 16, "predictor": "2" * 16}


def report(run: str) -> str:
    said = {"run": run, "hashes": HASHES, "bytes": {"predictor": 2**62}, "dataThrough": {"predictor": "2026-02-27"}}
    return json.dumps({"kronos": 1, "event": "pointer", "message": "it is published now"} | said)


def ask(kubelet: Kubelet, annotation: str, text: str) -> str:
    """Asks, and returns the name of the Job that is made, once it has its pod."""
    kubelet.change("m", metadata={"annotations": {annotation: text}})
    command = annotation.partition("/")[2]

    def look() -> str | None:
        return next((job for job in kubelet.jobs() if f"-{command}-" in job and kubelet.pods(job)), None)

    return eventually(look, f"the Job of a {command}")


def answered(kubelet: Kubelet, text: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        status = kubelet.status("m")
        return status if (status.get("promotion") or {}).get("request") == text else None

    return eventually(look, f"the answer to {text}")


def test_requests_are_carried_out_with_no_more_rights_than_training_needs(
    cluster: ControlPlane, namespace: str, model: Make, tmp_path: Path
) -> None:
    kubelet, log = Kubelet(cluster, namespace), tmp_path / "operator.log"
    cluster.apply([model("m", namespace, evaluation={"enabled": False})])
    with operator(cluster, namespace, log):
        kubelet.train("tok", 0)
        kubelet.train("pred", 1)
        trained = eventually(lambda: kubelet.status("m").get("artifacts"), "the published run")["run"]

        job = ask(kubelet, names.PROMOTE_ANNOTATION, OLD)
        kubelet.run(job)
        kubelet.end(job, 0, report(OLD))
        status = answered(kubelet, OLD)
        assert status["promotion"]["outcome"] == "Succeeded" and status["artifacts"]["run"] == OLD
        artifact = status["artifacts"]["predictor"]
        assert (artifact["hash"], artifact["bytes"]) == (HASHES["predictor"], 2**62)
        assert artifact["dataThrough"] == "2026-02-27" and "bytes" not in status["artifacts"]["tokenizer"]
        Status.model_validate(status)
        eventually(lambda: job not in kubelet.jobs(), "the deletion of its Job")

        job = ask(kubelet, names.ROLLBACK_ANNOTATION, "1")
        kubelet.run(job)
    # The operator is killed, and the pod ends meanwhile.
    kubelet.end(job, 66, json.dumps({"kronos": 1, "event": "error", "exitCode": 66, "message": "no other run"}))
    with operator(cluster, namespace, log):
        status = answered(kubelet, "1")
        promotion = status["promotion"]
        assert (promotion["outcome"], promotion["reason"]) == ("Failed", "PodFailed")
        assert promotion["message"] == "no other run" and status["artifacts"]["run"] == OLD

        job = ask(kubelet, names.ROLLBACK_ANNOTATION, "2")
        cluster.kubectl("delete", "kronosmodel", "m", f"--namespace={namespace}", "--wait=false")
        eventually(lambda: job not in kubelet.jobs(), "its Job goes with its model")
    assert trained != OLD
