"""The operator's process against a real API server, Job controller and garbage collector; pods are played."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from control_plane import ControlPlane
from fault_proxy import FaultProxy, Request
from operator_process import MODELS, Kubelet, eventually, operator

from kronos_operator.api import Status

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def kubelet(cluster: ControlPlane, namespace: str) -> Kubelet:
    return Kubelet(cluster, namespace)


@pytest.fixture
def running(cluster: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[None]:
    log = tmp_path / "operator.log"
    with operator(cluster, namespace, log):
        yield
    print(log.read_text()[-6000:])


def finished(kubelet: Kubelet, name: str, reason: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        status = kubelet.status(name)
        done = [c for c in status.get("conditions", []) if c["type"] == "Finished" and c["status"] == "True"]
        return status if done and done[0]["reason"] == reason else None

    return eventually(look, f"Finished, {reason}")


def test_it_is_ready_when_it_sees_everything_and_counts_what_it_sees(
    cluster: ControlPlane, kubelet: Kubelet, model: Make, tmp_path: Path
) -> None:
    health, metrics = free_port(), free_port()
    everywhere = {"KRONOS_NAMESPACES": ""}
    ports = {"KRONOS_HEALTH_PORT": str(health), "KRONOS_METRICS_PORT": str(metrics)}
    cluster.apply([model("m", kubelet.namespace)])
    with operator(cluster, kubelet.namespace, tmp_path / "operator.log", **ports, **everywhere):
        eventually(lambda: answer(health, "/readyz") == "ok\n", "/readyz")
        assert answer(health, "/healthz") == "ok\n"
        kubelet.job_of("tok", 0)
        counted = f'kronos_models{{namespace="{kubelet.namespace}",phase="Pending"}} 1.0'
        eventually(lambda: counted in answer(metrics, "/metrics"), counted)


def answer(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.usefixtures("running")
def test_a_model_is_trained_stage_by_stage(cluster: ControlPlane, kubelet: Kubelet, model: Make) -> None:
    cluster.apply([model("m", kubelet.namespace, resources={"nodes": 2})])
    tokenizer = kubelet.train("tok", 0)
    predictor = kubelet.train("pred", 1)
    status = finished(kubelet, "m", "Succeeded")
    assert status["phase"] == "Succeeded"
    assert status["observedGeneration"] == 1
    assert [fact["stage"] for fact in status["tracking"]["trained"]] == ["predictor", "tokenizer"]
    assert status["history"][0]["outcome"] == "Succeeded"
    assert status["artifacts"]["predictor"]["path"].endswith(f"runs/{status['run']['id']}/predictor/best")
    assert kubelet.jobs() == sorted([tokenizer, predictor])
    Status.model_validate(status)


def test_progress_reaches_the_printer_columns(
    cluster: ControlPlane, kubelet: Kubelet, model: Make, tmp_path: Path
) -> None:
    line = {"kronos": 1, "event": "progress", "phase": "training", "step": 43, "steps": 100, "percent": 43.0}
    line |= {"etaSeconds": 7980, "loss": 0.25, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}

    def play() -> list[str]:
        kubelet.run(kubelet.job_of("tok", 0))
        eventually(lambda: kubelet.status("m").get("progress"), "progress")
        return cluster.kubectl("get", "km", "m", "-n", kubelet.namespace, "--no-headers").stdout.split()

    async def main() -> list[str]:
        async with FaultProxy(cluster) as proxy:
            proxy.answer(200, times=100, matches=lambda request: request.path.endswith("/log"), text=json.dumps(line))
            log = tmp_path / "operator.log"
            with operator(cluster, kubelet.namespace, log, KUBECONFIG=str(proxy.kubeconfig)):
                cluster.apply([model("m", kubelet.namespace)])
                return await asyncio.to_thread(play)

    columns = asyncio.run(main())
    assert columns[:8] == ["m", "Training", "tokenizer", "43%", "2h13m", "True", "TrainingTokenizer", "0"]


def test_a_bad_network_changes_nothing(cluster: ControlPlane, kubelet: Kubelet, model: Make, tmp_path: Path) -> None:
    def of(method: str, kind: str) -> Callable[[Request], bool]:
        return lambda request: request.method == method and f"/{kind}" in request.path

    async def main() -> dict[str, Any]:
        async with FaultProxy(cluster) as proxy:
            # Some is done though the answer says otherwise, some is not, and the server is busy.
            proxy.answer(500, times=2, matches=of("POST", "jobs"), after_forwarding=True)
            proxy.answer(409, times=2, matches=of("PATCH", "kronosmodels"))
            proxy.answer(500, times=1, matches=of("PATCH", "kronosmodels"), after_forwarding=True)
            proxy.answer(429, times=2, matches=of("POST", "configmaps"), headers={"Retry-After": "1"})
            proxy.answer(410, times=2, matches=lambda request: request.watches)
            log = tmp_path / "operator.log"
            with operator(cluster, kubelet.namespace, log, KUBECONFIG=str(proxy.kubeconfig)):
                cluster.apply([model("m", kubelet.namespace)])
                await asyncio.to_thread(kubelet.train, "tok", 0)
                proxy.cut()
                await asyncio.to_thread(kubelet.train, "pred", 1)
                return await asyncio.to_thread(finished, kubelet, "m", "Succeeded")

    status = asyncio.run(main())
    assert status["run"]["attempt"] == 2
    assert not any(status["run"]["restarts"].values())
    assert len(kubelet.jobs()) == 2


def test_what_a_network_swallows_of_the_models_is_repaired_at_the_next_resync(
    cluster: ControlPlane, kubelet: Kubelet, model: Make, tmp_path: Path
) -> None:
    health, metrics = free_port(), free_port()
    environ = {
        "KRONOS_RESYNC_SECONDS": "2",
        "KRONOS_HEALTH_PORT": str(health),
        "KRONOS_METRICS_PORT": str(metrics),
    }

    def play() -> None:
        eventually(lambda: answer(health, "/readyz") == "ok\n", "/readyz")
        cluster.apply([model("m", kubelet.namespace)])
        kubelet.run(kubelet.job_of("tok", 0))
        kubelet.change("m", spec={"suspend": True})
        eventually(lambda: kubelet.status("m").get("phase") == "Suspended" and not kubelet.jobs(), "Suspended")
        counted = f'kronos_models{{namespace="{kubelet.namespace}",phase="Suspended"}} 1.0'
        eventually(lambda: counted in answer(metrics, "/metrics"), counted)
        assert answer(health, "/healthz") == "ok\n"
        cluster.request("DELETE", f"{MODELS.format(kubelet.namespace)}/m")
        eventually(lambda: counted not in answer(metrics, "/metrics"), "the model's end")

    async def main() -> None:
        async with FaultProxy(cluster) as proxy:
            # Bookmarks, which have no name, get through: the connection looks well.
            proxy.lose(
                lambda event: event["object"].get("kind") == "KronosModel" and "name" in event["object"]["metadata"]
            )
            log = tmp_path / "operator.log"
            with operator(cluster, kubelet.namespace, log, KUBECONFIG=str(proxy.kubeconfig), **environ):
                await asyncio.to_thread(play)

    asyncio.run(main())


@pytest.mark.usefixtures("running")
def test_exit_codes_mean_what_the_contract_says(cluster: ControlPlane, kubelet: Kubelet, model: Make) -> None:
    cluster.apply([model("m", kubelet.namespace, retry={"backoffSeconds": 0})])
    for attempt, code in enumerate((75, 71, 1, 65)):
        job = kubelet.job_of("tok", attempt)
        kubelet.run(job)
        kubelet.end(job, code, '{"kronos":1,"event":"error","message":"bars.csv, row 7: no number"}')
    status = finished(kubelet, "m", "Failed")
    restarts = status["run"]["restarts"]
    assert (restarts["disruptions"], restarts["outOfMemory"], restarts["crashes"]) == (1, 1, 1)
    assert status["failure"]["reason"] == "DataInvalid"
    assert status["failure"]["message"] == "bars.csv, row 7: no number"
    eventually(lambda: kubelet.jobs() == [job], "the end of the earlier attempts")  # the last stays, for its log
    config = cluster.request("GET", f"/api/v1/namespaces/{kubelet.namespace}/configmaps/{job}")
    assert '"outOfMemoryRestarts": 1' in config["data"]["run.json"]


@pytest.mark.usefixtures("running")
def test_suspend_resume_cancel_and_retrain(cluster: ControlPlane, kubelet: Kubelet, model: Make) -> None:
    cluster.apply([model("m", kubelet.namespace)])
    kubelet.run(kubelet.job_of("tok", 0))
    kubelet.change("m", spec={"suspend": True})
    eventually(lambda: kubelet.status("m").get("phase") == "Suspended" and not kubelet.jobs(), "Suspended")
    kubelet.change("m", spec={"suspend": False})
    kubelet.train("tok", 1)
    kubelet.run(kubelet.job_of("pred", 2))
    kubelet.change("m", metadata={"annotations": {"kronos.io/cancel-requested-at": "now"}})
    finished(kubelet, "m", "Cancelled")
    kubelet.change("m", metadata={"annotations": {"kronos.io/retrain-requested-at": "now"}})
    kubelet.train("tok", 3)
    kubelet.train("pred", 4)
    assert finished(kubelet, "m", "Succeeded")["tracking"]["lastTrigger"] == "now"


def test_a_killed_operator_goes_on_where_it_was(
    cluster: ControlPlane, kubelet: Kubelet, model: Make, tmp_path: Path
) -> None:
    log = tmp_path / "operator.log"
    with operator(cluster, kubelet.namespace, log):
        cluster.apply([model("m", kubelet.namespace)])
        job = kubelet.job_of("tok", 0)
        kubelet.run(job)
    kubelet.end(job, 0)
    uid = cluster.request("GET", f"/apis/batch/v1/namespaces/{kubelet.namespace}/jobs/{job}")["metadata"]["uid"]
    with operator(cluster, kubelet.namespace, log):
        kubelet.train("pred", 1)
        status = finished(kubelet, "m", "Succeeded")
    assert status["run"]["restarts"]["crashes"] == status["run"]["restarts"]["disruptions"] == 0
    again = cluster.request("GET", f"/apis/batch/v1/namespaces/{kubelet.namespace}/jobs/{job}")["metadata"]["uid"]
    assert again == uid
    port = free_port()
    with operator(cluster, kubelet.namespace, log, KRONOS_METRICS_PORT=str(port)):
        counted = f'kronos_models{{namespace="{kubelet.namespace}",phase="Succeeded"}} 1.0'
        eventually(lambda: counted in answer(port, "/metrics"), counted)
        time.sleep(1)
        assert "kronos_reconcile_duration_seconds_count 0.0" in answer(port, "/metrics")  # nothing is left to do
        kubelet.change("m", metadata={"annotations": {"kronos.io/retrain-requested-at": "now"}})
        kubelet.job_of("tok", 2)


@pytest.mark.usefixtures("running")
def test_a_model_that_is_deleted_takes_its_children_along(cluster: ControlPlane, kubelet: Kubelet, model: Make) -> None:
    cluster.apply([model("m", kubelet.namespace)])
    job = kubelet.job_of("tok", 0)
    body = kubelet.model("m")
    assert not body["metadata"].get("finalizers")
    assert not body["metadata"].get("annotations")
    cluster.request("DELETE", f"{MODELS.format(kubelet.namespace)}/m")
    eventually(lambda: not kubelet.jobs() and not kubelet.pods(job), "the end of its Job")


@pytest.mark.usefixtures("running")
def test_what_stands_in_the_way_is_told(cluster: ControlPlane, kubelet: Kubelet, model: Make) -> None:
    def reason(name: str) -> str:
        conditions = kubelet.status(name).get("conditions", [])
        return str(next((item["reason"] for item in conditions if item["type"] == "Ready"), ""))

    cluster.apply(
        [
            model("local", kubelet.namespace, data={"source": {"path": "bars"}}),
            model("rejected", kubelet.namespace, podTemplate={"nodeSelector": {"bad key": "x"}}),
            model("zone", kubelet.namespace, schedule={"cron": "0 6 * * *", "timeZone": "Mars/Olympus"}),
        ]
    )
    eventually(lambda: reason("local") == "LocalPathInCluster", "LocalPathInCluster")
    eventually(lambda: reason("rejected") == "ChildRejected", "ChildRejected")
    eventually(lambda: reason("zone") == "SpecInvalid", "SpecInvalid")

    def events() -> set[tuple[str, str, str]]:
        told = cluster.request("GET", f"/apis/events.k8s.io/v1/namespaces/{kubelet.namespace}/events")["items"]
        return {(event["regarding"]["name"], event["reason"], event["type"]) for event in told}

    eventually(lambda: ("local", "LocalPathInCluster", "Warning") in events(), "an Event")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": kubelet.namespace}}
    cluster.apply([quota | {"spec": {"hard": {"pods": "0"}}}])
    # The controller that would do this is not running.
    used = {"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}
    cluster.patch(f"/api/v1/namespaces/{kubelet.namespace}/resourcequotas/none/status", used)
    cluster.apply([model("queued", kubelet.namespace)])
    eventually(lambda: reason("queued") == "QuotaExceeded", "QuotaExceeded")


@pytest.mark.parametrize("collections", [True, False], ids=["today's role", "an older role"])
def test_what_a_run_leaves_behind_is_deleted_once_it_has_ended(
    cluster: ControlPlane, kubelet: Kubelet, model: Make, tmp_path: Path, collections: bool
) -> None:
    deletions: list[Request] = []

    def deletes(request: Request) -> bool:
        collection = request.path.endswith(("/jobs", "/configmaps"))
        if request.method == "DELETE" and (collections or not collection):
            deletions.append(request)
        return request.method == "DELETE" and collection and not collections

    def play() -> None:
        jobs = [kubelet.train("tok", 0), kubelet.train("pred", 1)]
        finished(kubelet, "m", "Succeeded")
        copied = cluster.request("GET", f"/apis/batch/v1/namespaces/{kubelet.namespace}/jobs/{jobs[0]}")
        copied["metadata"] = {key: copied["metadata"][key] for key in ("namespace", "ownerReferences")}
        labels = {"app.kubernetes.io/managed-by": "kronos-operator", "kronos.io/model": "m"}
        copied["metadata"] |= {"name": "debug", "labels": labels}
        copied["spec"] = {"template": {"spec": copied["spec"]["template"]["spec"]}, "suspend": True}
        cluster.apply([copied])
        assert kubelet.jobs() == sorted([*jobs, "debug"])
        kubelet.change("m", spec={"childTTLSecondsAfterFinished": 0})
        eventually(lambda: kubelet.jobs() == ["debug"] and not kubelet.pods(jobs[0]), "the end of the run's Jobs")
        found = cluster.request("GET", f"/api/v1/namespaces/{kubelet.namespace}/configmaps")["items"]
        names = [one["metadata"]["name"] for one in found if one["metadata"]["name"].startswith("m-")]
        assert names == [f"m-{kubelet.status('m')['run']['id']}"]

    async def main() -> None:
        async with FaultProxy(cluster) as proxy:
            proxy.answer(403, times=100, matches=deletes)
            log = tmp_path / "operator.log"
            with operator(cluster, kubelet.namespace, log, KUBECONFIG=str(proxy.kubeconfig)):
                cluster.apply([model("m", kubelet.namespace)])
                await asyncio.to_thread(play)

    asyncio.run(main())
    assert len(deletions) == (2 if collections else 4)
