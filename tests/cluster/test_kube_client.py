"""The connection to the API server, against a real one, with the rights that the chart gives the operator."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from control_plane import ControlPlane
from fault_proxy import FaultProxy

from kronos_operator.backends.job import JOB
from kronos_operator.kube import (
    Cluster,
    ClusterError,
    Conflict,
    Created,
    Kind,
    NoCluster,
    NotFound,
    Rejected,
    Unavailable,
    execute,
)
from kronos_operator.kube.kinds import CONFIGMAP, KRONOSMODEL, POD, SERVICE

Model = Callable[..., dict[str, Any]]
NAMESPACE = Kind(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)
ABSENT = Kind(group="absent.example.org", version="v1", plural="absences", kind="Absence")
NAMESPACE = Kind(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)


def connected(kubeconfig: Path | None, use: Callable[[Cluster], Awaitable[None]]) -> None:
    async def main() -> None:
        async with await Cluster.connect(kubeconfig=kubeconfig) as connection:
            await use(connection)

    asyncio.run(main())


def create_model(cluster: ControlPlane, body: dict[str, Any]) -> dict[str, Any]:
    created: dict[str, Any] = cluster.request("POST", KRONOSMODEL.path(body["metadata"]["namespace"]), body)
    return created


def config_map(namespace: str, name: str, owner: dict[str, Any]) -> dict[str, Any]:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "ownerReferences": [reference],
            "labels": {"kronos.io/model": owner["metadata"]["name"], "app.kubernetes.io/managed-by": "kronos-operator"},
        },
        # What the operator's token may make is bounded to what the operator makes.
        "immutable": True,
        "data": {"run.json": "{}"},
    }


def test_create_twice_is_once_and_never_adopts(cluster: ControlPlane, namespace: str, model: Model) -> None:
    mine = create_model(cluster, model("mine", namespace))
    other = create_model(cluster, model("other", namespace))

    async def use(connection: Cluster) -> None:
        body = config_map(namespace, "child", mine)
        assert await connection.create(CONFIGMAP, body) is Created.DONE
        assert await connection.create(CONFIGMAP, body) is Created.EXISTS_OURS
        assert await connection.create(CONFIGMAP, config_map(namespace, "child", other)) is Created.EXISTS_OTHER
        cluster.request("POST", CONFIGMAP.path(namespace), {"metadata": {"name": "unowned"}})
        assert await connection.create(CONFIGMAP, config_map(namespace, "unowned", mine)) is Created.EXISTS_OTHER
        cluster.patch(CONFIGMAP.path(namespace, "child"), {"metadata": {"finalizers": ["example.org/held"]}})
        assert await connection.delete(CONFIGMAP, namespace, "child")
        assert await connection.create(CONFIGMAP, body) is Created.EXISTS_OTHER, "it is being deleted"
        cluster.patch(CONFIGMAP.path(namespace, "child"), {"metadata": {"finalizers": None}})
        assert await connection.create(CONFIGMAP, body) is Created.DONE

    connected(cluster.operator_kubeconfig, use)


def test_create_whose_answer_is_lost_counts_as_done_by_the_next(
    cluster: ControlPlane, namespace: str, model: Model
) -> None:
    owner = create_model(cluster, model("model", namespace))

    async def main() -> None:
        async with FaultProxy(cluster) as proxy, await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection:
            for status in (0, 500):
                body = config_map(namespace, f"child-{status}", owner)
                proxy.answer(status, matches=lambda request: request.method == "POST", after_forwarding=True)
                with pytest.raises(Unavailable):
                    await connection.create(CONFIGMAP, body)
                assert await connection.create(CONFIGMAP, body) is Created.EXISTS_OURS

    asyncio.run(main())


def test_delete_spares_a_namesake(cluster: ControlPlane, namespace: str, model: Model) -> None:
    owner = create_model(cluster, model("model", namespace))

    async def use(connection: Cluster) -> None:
        await connection.create(CONFIGMAP, config_map(namespace, "child", owner))
        assert not await connection.delete(CONFIGMAP, namespace, "child", uid="00000000-0000-0000-0000-000000000000")
        there = await connection.get(CONFIGMAP, namespace, "child")
        assert there is not None
        assert await connection.delete(CONFIGMAP, namespace, "child", uid=there["metadata"]["uid"])
        assert await connection.get(CONFIGMAP, namespace, "child") is None
        assert not await connection.delete(CONFIGMAP, namespace, "child")

    connected(cluster.operator_kubeconfig, use)


def test_list_goes_through_all_pages_and_names_the_kind(
    cluster: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos_operator.kube.client._PAGE", 2)
    for number in range(5):
        labels = {"wanted": "yes"} if number else {}
        cluster.request("POST", SERVICE.path(namespace), service(f"service-{number}", labels))

    async def use(connection: Cluster) -> None:
        items, version = await connection.list(SERVICE, namespace)
        assert [item["metadata"]["name"] for item in items] == [f"service-{number}" for number in range(5)]
        assert all(item["kind"] == "Service" and item["apiVersion"] == "v1" for item in items)
        assert int(version) >= max(int(item["metadata"]["resourceVersion"]) for item in items)
        wanted, _ = await connection.list(SERVICE, namespace, selector="wanted=yes")
        assert len(wanted) == 4
        one, _ = await connection.list(SERVICE, namespace, fields="metadata.name=service-3")
        assert len(one) == 1
        everywhere, _ = await connection.list(SERVICE)
        assert len(everywhere) >= 5

    connected(cluster.operator_kubeconfig, use)


def service(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"clusterIP": "None", "ports": [{"name": "rendezvous", "port": 29500}]},
    }


def test_status_is_written_whole_and_only_over_what_was_read(
    cluster: ControlPlane, namespace: str, model: Model
) -> None:
    read = create_model(cluster, model("model", namespace))
    assert read["status"] == {"observedGeneration": -1}

    async def use(connection: Cluster) -> None:
        first = read | {"status": {"observedGeneration": 1, "phase": "Training", "stage": "tokenizer"}}
        written = await connection.apply_status(first)
        assert written["status"] == first["status"]
        with pytest.raises(Conflict):
            await connection.apply_status(first)
        written["status"] = {"observedGeneration": 1, "phase": "Suspended"}
        again = await connection.apply_status(written)
        assert again["status"] == {"observedGeneration": 1, "phase": "Suspended"}, "a field left out is removed"
        assert again["spec"] == read["spec"] and again["metadata"]["generation"] == 1
        (held,) = [one for one in again["metadata"]["managedFields"] if one.get("subresource") == "status"]
        assert held["fieldsV1"] == {"f:status": {}}, "it is one field"
        cluster.patch(KRONOSMODEL.path(namespace, "model", "status"), {"status": {"phase": "Failed"}})
        current = await connection.get(KRONOSMODEL, namespace, "model")
        assert current is not None
        current["status"] = {"observedGeneration": 1, "phase": "Pending"}
        assert (await connection.apply_status(current))["status"]["phase"] == "Pending", "other writers give way"
        cluster.request("DELETE", KRONOSMODEL.path(namespace, "model"))
        with pytest.raises((NotFound, Conflict)):
            await connection.apply_status(current)

    connected(cluster.operator_kubeconfig, use)


def test_refusals_say_what_the_server_said(cluster: ControlPlane, namespace: str, model: Model) -> None:
    owner = create_model(cluster, model("model", namespace))

    async def use(connection: Cluster) -> None:
        broken = config_map(namespace, "Not_A_Name", owner)
        with pytest.raises(Rejected, match=r"metadata\.name: Invalid value") as invalid:
            await connection.create(CONFIGMAP, broken)
        assert invalid.value.status == 422 and invalid.value.final
        with pytest.raises(Rejected, match="cannot list resource") as forbidden:
            await connection.list(NAMESPACE)
        assert forbidden.value.status == 403 and not forbidden.value.final
        with pytest.raises(NotFound, match="nowhere"):
            await connection.create(CONFIGMAP, config_map("nowhere", "child", owner))

    connected(cluster.operator_kubeconfig, use)


def test_a_full_quota_is_a_refusal_that_may_end(cluster: ControlPlane, namespace: str, model: Model) -> None:
    owner = create_model(cluster, model("model", namespace))
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/configmaps": "0"}}}
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
    status = {"status": {"hard": {"count/configmaps": "0"}, "used": {"count/configmaps": "0"}}}
    cluster.patch(f"/api/v1/namespaces/{namespace}/resourcequotas/none/status", status)

    async def use(connection: Cluster) -> None:
        async def refused() -> Rejected:
            while True:  # the quota takes a moment to reach the admission's cache
                try:
                    await connection.create(CONFIGMAP, config_map(namespace, "child", owner))
                except Rejected as rejected:
                    return rejected
                await connection.delete(CONFIGMAP, namespace, "child")

        rejected = await asyncio.wait_for(refused(), 30)
        assert "exceeded quota" in rejected.message and not rejected.final

    connected(cluster.operator_kubeconfig, use)


def test_too_busy_and_unreachable(cluster: ControlPlane, namespace: str) -> None:
    async def main() -> None:
        async with FaultProxy(cluster) as proxy, await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection:
            proxy.answer(429, headers={"Retry-After": "7"})
            with pytest.raises(Unavailable) as busy:
                await connection.list(POD, namespace)
            assert busy.value.status == 429 and busy.value.retry_after == 7
            assert await connection.get(POD, namespace, "absent") is None
            proxy.answer(0, times=100)
            with pytest.raises(Unavailable, match="cannot be reached"):
                await connection.get(POD, namespace, "absent")

    asyncio.run(main())


def test_logs(cluster: ControlPlane, namespace: str) -> None:
    """A kubelet would give the lines; the proxy gives them in its place."""
    text = '{"kronos": 1}\nétape 2\r\n\nlast, without its end'
    since, newest = "2026-11-27T06:00:00.000000001Z", "2026-11-27T06:00:00.000000002Z"
    timed = "2026-11-27T06:00:00.000000000Z read before\n" + "\n".join(f"{newest} {line}" for line in text.split("\n"))

    async def main() -> None:
        async with FaultProxy(cluster) as proxy, await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection:
            proxy.answer(200, text=timed, matches=lambda request: request.path.endswith("/pod/log"))
            read = await connection.pod_log(namespace, "pod", container="trainer", since=since, tail_lines=20)
            assert read == (['{"kronos": 1}', "étape 2", "", "last, without its end"], newest)
            asked = {"container": "trainer", "timestamps": "true", "sinceTime": since, "tailLines": "20"}
            assert proxy.requests[-1].query == asked
            proxy.answer(200, text=text, matches=lambda request: request.path.endswith("/pod/log"))
            lines = [line async for line in connection.follow_log(namespace, "pod", container="trainer")]
            assert lines == ['{"kronos": 1}', "étape 2", "", "last, without its end"]
            assert proxy.requests[-1].query == {"container": "trainer", "follow": "true"}

    asyncio.run(main())


@pytest.mark.parametrize("status", [0, 404, 429, 500])
def test_a_log_that_cannot_be_read_is_none_for_the_operator_and_an_error_for_a_user(
    cluster: ControlPlane, namespace: str, status: int
) -> None:
    async def main() -> None:
        async with FaultProxy(cluster) as proxy, await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection:
            proxy.answer(status, times=9)
            read = await connection.pod_log(namespace, "pod", container="trainer", tail_lines=1)
            assert read is None
            with pytest.raises(ClusterError):
                [line async for line in connection.follow_log(namespace, "pod", container="trainer")]

    asyncio.run(main())


def test_however_many_watches_there_are_others_are_answered(cluster: ControlPlane, namespace: str) -> None:
    async def use(connection: Cluster) -> None:
        async with AsyncExitStack() as watches, asyncio.timeout(60):
            for _ in range(120):
                limit = aiohttp.ClientTimeout(total=None)
                await watches.enter_async_context(
                    connection.stream(POD.path(namespace), {"watch": "true"}, timeout=limit)
                )
            assert await connection.get(NAMESPACE, None, namespace) is not None

    connected(cluster.kubeconfig, use)


def test_expired_credentials_are_read_again(cluster: ControlPlane, namespace: str, tmp_path: Path) -> None:
    valid = cluster.operator_kubeconfig.read_text()
    content = yaml.safe_load(valid)
    content["users"][0]["user"]["token"] = "expired"
    changing = tmp_path / "kubeconfig"
    changing.write_text(yaml.safe_dump(content))

    async def use(connection: Cluster) -> None:
        with pytest.raises(Rejected, match="Unauthorized"):
            await connection.list(JOB.kind, namespace)
        changing.write_text(valid)
        assert (await connection.list(JOB.kind, namespace))[0] == []

    connected(changing, use)


def test_a_command_that_cannot_be_run_is_an_error_of_its_kind(
    cluster: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "waiting", "namespace": namespace},
        "spec": {"containers": [{"name": "kronos", "image": "i"}], "serviceAccountName": "idle"},
    }
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "idle"}})
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)

    async def run(connection: Cluster, name: str) -> None:
        async with execute(connection, namespace, name, ["true"], container="kronos", stdin=True) as command:
            async for _ in command.output():
                pass

    async def use(connection: Cluster) -> None:
        with pytest.raises(NotFound, match="/pods/absent/exec was refused with HTTP status 404"):
            await run(connection, "absent")
        with pytest.raises(Rejected, match="400"):  # no node has it yet
            await run(connection, "waiting")

    async def forbidden(connection: Cluster) -> None:
        with pytest.raises(Rejected, match="403: a role needs create and get on it"):
            await run(connection, "waiting")

    connected(cluster.kubeconfig, use)
    connected(cluster.operator_kubeconfig, forbidden)

    valid = yaml.safe_load(cluster.kubeconfig.read_text())
    expired = copy.deepcopy(valid)
    expired["users"][0]["user"]["token"] = "expired"
    changing = tmp_path / "kubeconfig"
    changing.write_text(yaml.safe_dump(expired))

    async def renewed(connection: Cluster) -> None:
        with pytest.raises(Rejected, match="401"):
            await run(connection, "absent")
        changing.write_text(yaml.safe_dump(valid))
        with pytest.raises(NotFound):
            await run(connection, "absent")

    connected(changing, renewed)


def test_apply_and_patch_for_users(cluster: ControlPlane, namespace: str, model: Model) -> None:
    mine = model("model", namespace, window={"lookback": 60})
    theirs = model("model", namespace, window={"lookback": 70})
    mistaken = model("model", namespace, tokenizer={"learnigRate": 1})

    async def use(connection: Cluster) -> None:
        tried = await connection.apply(KRONOSMODEL, mine, manager="kronos", dry_run=True)
        assert tried["spec"]["window"] == {"lookback": 60, "horizon": 10, "maxContext": 512}
        assert await connection.get(KRONOSMODEL, namespace, "model") is None
        await connection.apply(KRONOSMODEL, mine, manager="kronos")
        with pytest.raises(Conflict, match=r"\.spec\.window\.lookback"):
            await connection.apply(KRONOSMODEL, theirs, manager="another")
        forced = await connection.apply(KRONOSMODEL, theirs, manager="another", force=True)
        assert forced["spec"]["window"]["lookback"] == 70
        with pytest.raises(Rejected, match="learnigRate") as unknown:
            await connection.apply(KRONOSMODEL, mistaken, manager="kronos")
        assert unknown.value.final
        suspended = await connection.patch(
            KRONOSMODEL, namespace, "model", {"spec": {"suspend": True}}, manager="tests"
        )
        assert suspended["spec"]["suspend"] is True and suspended["metadata"]["generation"] == 3
        with pytest.raises(NotFound, match="knows no such kind"):
            await connection.list(ABSENT)
        with pytest.raises(NotFound):
            await connection.patch(KRONOSMODEL, namespace, "absent", {"spec": {"suspend": True}}, manager="tests")

    connected(cluster.kubeconfig, use)


def test_where_the_configuration_comes_from(
    cluster: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(NoCluster, match="absent; give --kubeconfig"):
        connected(None, lambda connection: asyncio.sleep(0))
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["contexts"].append({"name": "team", "context": {"cluster": "test", "user": "test", "namespace": "team-a"}})
    (tmp_path / "two-contexts").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "two-contexts"))

    async def main() -> None:
        async with await Cluster.connect() as first, await Cluster.connect(context="team") as second:
            assert (first.namespace, second.namespace) == ("default", "team-a")
            assert first.server == second.server == cluster.server
        with pytest.raises(NoCluster, match="nobody"):
            await Cluster.connect(context="nobody")
        (tmp_path / "two-contexts").write_text("clusters: [")
        with pytest.raises(NoCluster, match="two-contexts cannot be used"):
            await Cluster.connect()

    asyncio.run(main())
