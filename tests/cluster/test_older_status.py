"""What an older release has stored, under today's CRD on a real API server: its run goes on, nothing starts twice."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from control_plane import ControlPlane
from operator_process import MODELS, Kubelet, eventually, operator

from kronos_trainer.config import Comparison, EvaluationSummary, PromotionResult, StageResult

Make = Callable[..., dict[str, Any]]
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/kronosmodels.kronos.io"


def with_old_names(versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A CRD's versions that also know the status fields of the older release."""
    older = copy.deepcopy(versions)
    status = older[0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    run, tracking = status["run"]["properties"], status["tracking"]["properties"]
    status["restarts"], run["steps"] = run["restarts"], run["stages"]
    tracking["settings"], tracking["stepped"] = run["templateHash"], run["hasProgress"]
    return older


def as_older(run: dict[str, Any]) -> dict[str, Any]:
    """A patch that makes of a status what the older release would have written of the same run."""
    gone = ("stages", "restarts", "templateHash", "hasProgress", "begun", "disrupted", "disruptedAt", "cancel")
    return {
        "run": dict.fromkeys(gone) | {"steps": run["stages"]},
        "restarts": run["restarts"],
        "tracking": {"settings": run["templateHash"], "stepped": run["hasProgress"]},
    }


def test_the_run_of_an_older_operator_goes_on_with_its_attempt_and_trained_stages(
    cluster: ControlPlane, namespace: str, model: Make, tmp_path: Path
) -> None:
    kubelet, path = Kubelet(cluster, namespace), f"{MODELS.format(namespace)}/m/status"

    def trains() -> dict[str, Any] | None:
        status = kubelet.status("m")
        return status if status.get("phase") == "Training" and status["run"].get("stages") else None

    cluster.apply([model("m", namespace)])
    with operator(cluster, namespace, tmp_path / "before.log"):
        kubelet.train("tok", 0)
        job = kubelet.job_of("pred", 1)
        kubelet.run(job)
        before = eventually(
            lambda: (found := trains()) and found["stage"] == "predictor" and found, "the predictor runs"
        )
    assert before

    versions = cluster.request("GET", CRD)["spec"]["versions"]
    cluster.patch(CRD, {"spec": {"versions": with_old_names(versions)}})
    try:
        older = {"status": as_older(before["run"])}
        eventually(lambda: "steps" in cluster.patch(path, older)["status"]["run"], "a status of the older release")
    finally:
        cluster.patch(CRD, {"spec": {"versions": versions}})
    # The API server prunes what today's CRD does not know as it reads the object.
    eventually(lambda: "steps" not in kubelet.status("m")["run"], "today's CRD")
    assert not kubelet.status("m")["run"].get("stages")

    with operator(cluster, namespace, tmp_path / "after.log"):
        after = eventually(trains, "a status written anew")
        assert (after["run"]["id"], after["run"]["attempt"]) == (before["run"]["id"], 1)
        assert after["run"]["stages"] == before["run"]["stages"]
        assert after["tracking"]["trained"] == before["tracking"]["trained"]
        kubelet.end(job, 0)
        published = eventually(lambda: kubelet.status("m").get("artifacts"), "the published model")
        assert published["run"] == before["run"]["id"]
        assert len(kubelet.jobs()) == 2


def test_a_finished_model_that_nobody_has_judged_is_judged_once_in_its_run(
    cluster: ControlPlane, namespace: str, model: Make, tmp_path: Path
) -> None:
    """As those of a release without evaluations: nothing is trained again, and what is published stays."""
    kubelet = Kubelet(cluster, namespace)
    cluster.apply([model("m", namespace, resources={"nodes": 2, "gpusPerNode": 0})])
    with operator(cluster, namespace, tmp_path / "before.log"):
        kubelet.train("tok", 0)
        kubelet.train("pred", 1)
        before = eventually(
            lambda: (found := kubelet.status("m")).get("phase") == "Succeeded" and found, "the finished model"
        )
    assert before
    kubelet.change("m", spec={"evaluation": {"enabled": True}})

    comparison = Comparison(rival="naive", verdict="Worse", dates=40, improvement=-0.2, low=-0.3, high=-0.1)
    summary = EvaluationSummary(verdict="Worse", dates=40, comparisons=(comparison,), coverage80=0.61)
    decided = PromotionResult(decision="Held", message="CRPS 20 % higher than the naive forecast's")
    result = StageResult(stage="evaluation", evaluation=summary, promotion=decided, scores={"crps": 1.5})
    said = json.dumps({"kronos": 1, "event": "result", "result": result.short})
    with operator(cluster, namespace, tmp_path / "after.log"):
        job = kubelet.job_of("eval", 2)
        assert len(kubelet.pods(job)) == 1
        kubelet.run(job)
        kubelet.end(job, 0, said)
        after = eventually(lambda: (found := kubelet.status("m")).get("evaluation") and found, "the verdict")
        assert after
    assert after["run"]["id"] == before["run"]["id"] == after["evaluation"]["run"]
    assert after["artifacts"] == before["artifacts"] and len(kubelet.jobs()) == 3
    conditions = {one["type"]: (one["status"], one["reason"]) for one in after["conditions"]}
    assert conditions["Finished"] == ("True", "PromotionHeld")
    assert conditions["Available"] == ("True", "Published")
    assert (after["evaluation"]["against"], after["evaluation"]["improvement"]) == ("naive", -0.2)
    shown = cluster.kubectl("get", "km", "m", "-n", namespace).stdout
    assert "Worse" in shown.splitlines()[1].split()
