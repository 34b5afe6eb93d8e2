"""Watches against a real API server behind a proxy that loses events, breaks connections and answers errors.

The store must end up equal to the server, and every change must be told, whatever happens in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from control_plane import ControlPlane
from fault_proxy import FaultProxy, Request

from kronos_operator.backends.job import JOB
from kronos_operator.kube import Change, Cluster, Key, Kind, Store, Watch
from kronos_operator.kube.kinds import CONFIGMAP, SERVICE

SELECTOR = "kronos.io/model"
ABSENT = Kind(group="absent.example.org", version="v1", plural="absences", kind="Absence")


class Told:
    """What a watch has told, and a way to wait for more of it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._more = asyncio.Event()

    def __call__(self, change: Change) -> None:
        self.changes.append(change)
        self._more.set()

    def story(self) -> list[tuple[str, str]]:
        return [(("new", "changed")[change.old is not None] if change.new else "gone", change.key.name)
                for change in self.changes]  # fmt: skip

    async def until(self, reached: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not reached():
                self._more.clear()
                await self._more.wait()

        await asyncio.wait_for(wait(), 30)


@asynccontextmanager
async def watching(connection: Cluster, kind: Kind, namespace: str | None, **options: Any) -> AsyncIterator[Any]:
    told = Told()
    settings = {"selector": SELECTOR, "backoff_seconds": 0.02, "longest_backoff_seconds": 0.2}
    store = Store((SELECTOR,))
    watch = Watch(connection, kind, store, namespace=namespace, on_change=told, **(settings | options))
    task = asyncio.create_task(watch.run())
    try:
        await asyncio.wait_for(watch.wait_synced(), 30)
        yield watch, told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {SELECTOR: "model"} if labels is None else labels}, "data": data}


class Server:
    """The administrator's hand on the ConfigMaps of a namespace."""

    def __init__(self, cluster: ControlPlane, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def create(self, name: str, labels: dict[str, str] | None = None) -> None:
        self._cluster.request("POST", CONFIGMAP.path(self._namespace), config_map(name, labels))

    def change(self, name: str, value: str) -> None:
        self._cluster.patch(CONFIGMAP.path(self._namespace, name), {"data": {"value": value}})

    def delete(self, name: str) -> None:
        self._cluster.request("DELETE", CONFIGMAP.path(self._namespace, name))

    def versions(self) -> dict[str, str]:
        path = f"{CONFIGMAP.path(self._namespace)}?labelSelector={SELECTOR}"
        items = self._cluster.request("GET", path)["items"]
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


@pytest.fixture
def server(cluster: ControlPlane, namespace: str) -> Server:
    return Server(cluster, namespace)


def held(watch: Watch) -> dict[str, str]:
    return {key.name: packed.version for key in watch.store if (packed := watch.store.get(key)) is not None}


def is_watch(request: Request) -> bool:
    return request.watches


def is_list(request: Request) -> bool:
    return request.method == "GET" and not request.watches


def test_tells_every_change_in_order_and_sees_only_what_the_selector_lets(
    cluster: ControlPlane, namespace: str, server: Server
) -> None:
    server.create("old")

    async def main() -> None:
        async with (
            await Cluster.connect(kubeconfig=cluster.operator_kubeconfig) as connection,
            watching(connection, CONFIGMAP, namespace) as (watch, told),
        ):
            assert held(watch) == server.versions() and watch.last_activity is not None
            server.create("foreign", {})
            server.create("new")
            server.change("new", "1")
            server.delete("old")
            await told.until(lambda: len(told.changes) >= 4)
            assert told.story() == [("new", "old"), ("new", "new"), ("changed", "new"), ("gone", "old")]
            assert held(watch) == server.versions()
            last = watch.store.get(Key(namespace, "new")).body()
            assert last["data"] == {"value": "1"} and "managedFields" not in last["metadata"]
            assert watch.store.labelled(namespace, SELECTOR, "model") == [last]
            assert told.changes[-1].last["metadata"]["name"] == "old"

    asyncio.run(main())


def test_repairs_a_lost_deletion_and_a_lost_change_when_it_lists_again(
    cluster: ControlPlane, namespace: str, server: Server
) -> None:
    for name in ("kept", "changed", "deleted", "replaced"):
        server.create(name)

    async def main() -> None:
        async with (
            FaultProxy(cluster) as proxy,
            await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection,
            watching(connection, CONFIGMAP, namespace) as (watch, told),
        ):
            proxy.lose(lambda event: event["object"]["metadata"].get("name") != "witness")
            server.change("changed", "1")
            server.delete("deleted")
            server.delete("replaced")
            server.create("replaced")
            server.create("witness")
            await told.until(lambda: ("new", "witness") in told.story())
            assert "deleted" in held(watch), "the loss is real"
            heard = len(told.changes)
            proxy.answer(410, matches=is_watch)
            proxy.cut()
            await told.until(lambda: len(told.changes) >= heard + 4)
            assert held(watch) == server.versions()
            assert sorted(told.story()[heard:]) == [
                ("changed", "changed"),
                ("gone", "deleted"),
                ("gone", "replaced"),
                ("new", "replaced"),
            ]
            assert sum(map(is_list, proxy.requests)) == 2

    asyncio.run(main())


def test_lists_anew_at_its_interval_though_the_stream_looks_well(
    cluster: ControlPlane, namespace: str, server: Server
) -> None:
    server.create("deleted")

    async def main() -> None:
        async with (
            FaultProxy(cluster) as proxy,
            await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection,
            watching(connection, CONFIGMAP, namespace, relist_seconds=1) as (watch, told),
        ):
            proxy.lose(lambda event: "name" in event["object"]["metadata"])
            server.delete("deleted")
            server.create("created")
            await told.until(lambda: len(told.changes) == 3)
            assert held(watch) == server.versions()

    asyncio.run(main())


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_goes_on_after_errors_from_where_it_was(
    cluster: ControlPlane, namespace: str, server: Server, status: int
) -> None:
    server.create("first")

    async def main() -> None:
        async with (
            FaultProxy(cluster) as proxy,
            await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection,
            watching(connection, CONFIGMAP, namespace) as (watch, told),
        ):
            server.create("second")
            await told.until(lambda: len(told.changes) == 2)
            proxy.answer(status, times=4, matches=is_watch, headers={"Retry-After": "0"})
            last_heard = server.versions()["second"]
            proxy.cut()
            server.delete("first")
            await told.until(lambda: len(told.changes) == 3)
            assert told.story()[-1] == ("gone", "first") and held(watch) == server.versions()
            assert sum(map(is_list, proxy.requests)) == 1, "it resumed, and did not list again"
            resumed = [request.query["resourceVersion"] for request in proxy.requests if request.watches]
            assert set(resumed[1:6]) == {last_heard}

    asyncio.run(main())


@pytest.mark.parametrize("status", [0, 410, 429, 500])
def test_lists_until_it_succeeds(cluster: ControlPlane, namespace: str, server: Server, status: int) -> None:
    server.create("first")

    async def main() -> None:
        async with FaultProxy(cluster) as proxy, await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection:
            proxy.answer(status, times=3, matches=is_list, headers={"Retry-After": "0"})
            async with watching(connection, CONFIGMAP, namespace) as (watch, _):
                assert held(watch) == server.versions()
                assert sum(map(is_list, proxy.requests)) >= 4

    asyncio.run(main())


def test_a_busy_server_is_given_the_time_it_asks_for(
    cluster: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    really = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await really(0)

    async def main() -> None:
        async with FaultProxy(cluster) as proxy, await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection:
            proxy.answer(429, headers={"Retry-After": "17"}, matches=is_list)
            proxy.answer(500, times=12, matches=is_list)
            monkeypatch.setattr("kronos_operator.kube.watching.asyncio.sleep", sleep)
            async with watching(connection, CONFIGMAP, namespace, backoff_seconds=1, longest_backoff_seconds=60):
                pass
        assert pauses[0] == 17
        assert 1 <= pauses[1] <= 2 and 2 <= pauses[2] <= 4, "it doubles"
        assert all(30 <= pause <= 60 for pause in pauses[7:13]), "it is capped"

    asyncio.run(main())


def test_a_version_that_the_server_has_forgotten(cluster: ControlPlane, namespace: str, server: Server) -> None:
    """The 410 that comes inside a stream, as the server really sends it."""
    server.create("first")

    async def main() -> None:
        async with (
            FaultProxy(cluster) as proxy,
            await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection,
            watching(connection, CONFIGMAP, namespace) as (watch, told),
        ):
            watch._version = "1"
            proxy.cut()
            server.delete("first")
            server.create("second")
            await told.until(lambda: len(told.changes) == 3)
            assert held(watch) == server.versions()

    asyncio.run(main())


def test_survives_a_crash_of_the_api_server(cluster: ControlPlane, namespace: str, server: Server) -> None:
    server.create("first")

    async def main() -> None:
        async with (
            await Cluster.connect(kubeconfig=cluster.operator_kubeconfig) as connection,
            watching(connection, CONFIGMAP, namespace) as (watch, told),
        ):
            cluster.stop_api_server()
            cluster.start_api_server()
            server.delete("first")
            await told.until(lambda: len(told.changes) == 2)
            assert held(watch) == server.versions() == {}

    asyncio.run(main())


def test_a_silent_connection_is_left_and_does_not_count_as_life(
    cluster: ControlPlane, namespace: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos_operator.kube.watching._SILENCE_SECONDS", 0.2)

    async def main() -> None:
        async with (
            FaultProxy(cluster) as proxy,
            await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection,
            watching(connection, CONFIGMAP, namespace) as (watch, told),
        ):
            proxy.lose(lambda event: True)
            heard = watch.last_activity
            while sum(map(is_watch, proxy.requests)) < 3:
                await asyncio.sleep(0.05)
            assert watch.last_activity == heard
            server.create("first")
            proxy.lose(lambda event: False)
            await told.until(lambda: len(told.changes) == 1)
            assert watch.last_activity > heard

    asyncio.run(main())


def test_an_optional_kind_that_is_absent_is_empty_and_holds_nobody_up(cluster: ControlPlane) -> None:
    async def main() -> None:
        async with (
            await Cluster.connect(kubeconfig=cluster.kubeconfig) as connection,
            watching(connection, ABSENT, None, optional=True) as (watch, _),
        ):
            assert watch.synced and len(watch.store) == 0 and watch.last_activity is not None

    asyncio.run(main())


def test_a_kind_that_must_be_there_is_waited_for(cluster: ControlPlane, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with await Cluster.connect(kubeconfig=cluster.kubeconfig) as connection:
            watch = Watch(connection, ABSENT, Store(), on_change=Told(), backoff_seconds=0.01)
            task = asyncio.create_task(watch.run())
            while caplog.text.count("is not installed") < 3:
                await asyncio.sleep(0.01)
            assert not task.done() and not watch.synced and watch.last_activity is not None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_a_callback_that_fails_ends_no_watch(
    cluster: ControlPlane, namespace: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            await Cluster.connect(kubeconfig=cluster.operator_kubeconfig) as connection,
            watching(connection, CONFIGMAP, namespace) as (watch, told),
        ):
            watch._on_change = lambda change: told(change) or 1 / 0
            server.create("first")
            server.create("second")
            await told.until(lambda: len(told.changes) == 2)
            assert held(watch) == server.versions()

    asyncio.run(main())
    assert "a change was not handled" in caplog.text


def test_the_whole_cluster_and_the_end_of_an_owner(
    cluster: ControlPlane, namespace: str, model: Callable[..., Any]
) -> None:
    owner = cluster.request(
        "POST", f"/apis/kronos.io/v1alpha1/namespaces/{namespace}/kronosmodels", model("m", namespace)
    )
    reference = {"apiVersion": "kronos.io/v1alpha1", "kind": "KronosModel", "name": "m", "controller": True}
    reference["uid"] = owner["metadata"]["uid"]

    async def main() -> None:
        async with (
            await Cluster.connect(kubeconfig=cluster.operator_kubeconfig) as connection,
            watching(connection, SERVICE, None) as (services, told),
            watching(connection, JOB.kind, None),
        ):
            body = {
                "metadata": {"name": "child", "labels": {SELECTOR: "m"}, "ownerReferences": [reference]},
                "spec": {"clusterIP": "None", "ports": [{"port": 1}]},
            }
            cluster.request("POST", SERVICE.path(namespace), body)
            await told.until(lambda: Key(namespace, "child") in [change.key for change in told.changes])
            assert [one["metadata"]["name"] for one in services.store.labelled(namespace, SELECTOR, "m")] == ["child"]
            cluster.request("DELETE", f"/apis/kronos.io/v1alpha1/namespaces/{namespace}/kronosmodels/m")
            await told.until(lambda: told.changes[-1].new is None and told.changes[-1].key == Key(namespace, "child"))
            assert services.store.labelled(namespace, SELECTOR, "m") == []

    asyncio.run(main())
