"""What runs around the reconciler: Kopf's settings, the queue, resync, and the endpoints."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import kopf
import pytest
from fake_cluster import FakeCluster, make_model
from prometheus_client import CollectorRegistry, Gauge

from kronos_operator.handlers import handlers, kopf_settings
from kronos_operator.health import endpoints, exposition, served, silence
from kronos_operator.kube import Key, Unavailable
from kronos_operator.kube.kinds import KRONOSMODEL
from kronos_operator.reconcile.operation import Operation
from kronos_operator.reconcile.queue import WorkQueue
from kronos_operator.settings import Settings

A, B = Key("ns", "a"), Key("ns", "b")


def test_kopf_serves_no_resource_and_writes_nothing() -> None:
    registry = handlers(Settings())
    for kind in (registry._watching, registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert not list(kind.get_all_handlers())
    settings = kopf_settings()
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.peering.standalone


@pytest.mark.parametrize(
    ("host", "server"), [("10.96.0.1", "https://10.96.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")]
)
def test_in_a_pod_kopf_logs_in_at_the_address_of_the_environment_and_not_by_name(
    monkeypatch: pytest.MonkeyPatch, host: str, server: str
) -> None:
    inside = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="t")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: inside)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    (handler,) = handlers(Settings())._activities.get_all_handlers()[:1]
    login: Any = handler.fn
    info = asyncio.run(login())
    assert (info.server, info.token) == (server, "t")


class Work:
    """Notes what the queue asks for, and does as the test says."""

    def __init__(self, behave: Callable[[Key, int], Awaitable[float | None]]) -> None:
        self.calls: list[Key] = []
        self.at_once = 0
        self.most_at_once = 0
        self._behave = behave

    async def __call__(self, key: Key) -> float | None:
        self.calls.append(key)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._behave(key, self.calls.count(key))
        finally:
            self.at_once -= 1


def drain(work: Work, add: Callable[[WorkQueue], None], clock: Callable[[], float], at_once: int = 20) -> WorkQueue:
    """Runs a queue until nothing happens any more."""

    async def run() -> WorkQueue:
        queue = WorkQueue(work, at_once=at_once, clock=clock)
        add(queue)
        running = asyncio.create_task(queue.run())
        before = -1
        while before != len(work.calls) or work.at_once:
            before = len(work.calls)
            for _ in range(20):
                await asyncio.sleep(0)
        running.cancel()
        return queue

    return asyncio.run(run())


def add_all(queue: WorkQueue, *keys: Key) -> None:
    for key in keys:
        queue.add(key)


def test_a_key_is_worked_on_once_and_again_if_it_was_wanted_meanwhile() -> None:
    queues: list[WorkQueue] = []

    async def behave(key: Key, call: int) -> None:
        if call == 1:
            queues[0].add(key)
            await asyncio.sleep(0)

    def add(queue: WorkQueue) -> None:
        queues.append(queue)
        for _ in range(3):
            queue.add(A)

    work = Work(behave)
    drain(work, add, lambda: 0.0)
    assert work.calls == [A, A]
    assert work.most_at_once == 1


def test_no_more_keys_are_worked_on_at_once_than_allowed() -> None:
    async def behave(key: Key, call: int) -> None:
        await asyncio.sleep(0)

    work = Work(behave)
    drain(work, lambda queue: add_all(queue, *(Key("ns", str(n)) for n in range(10))), lambda: 0.0, at_once=3)
    assert len(work.calls) == 10
    assert work.most_at_once == 3


def test_errors_are_repeated_later_and_later_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]

    async def behave(key: Key, call: int) -> float | None:
        if key == A:
            raise Unavailable("busy", retry_after=7.0) if call == 1 else ValueError("odd")
        return None

    work = Work(behave)
    queue = drain(work, lambda queue: add_all(queue, A, B), lambda: now[0])
    assert work.calls == [A, B]
    assert queue._due == {A: 7.0}
    assert "busy; again in 7 s" in caplog.text


def test_what_wants_to_be_seen_again_is_seen_when_it_is_due() -> None:
    now = [0.0]

    async def behave(key: Key, call: int) -> float | None:
        now[0] += 30.0 if call < 3 else 0.0
        return 30.0 if call < 3 else None

    work = Work(behave)
    queue = drain(work, lambda queue: queue.add(A), lambda: now[0])
    assert work.calls == [A]
    assert queue._due == {A: 60.0}
    queue.add(A, 10)
    assert queue._due == {A: 40.0}
    queue.forget(A)
    assert len(queue) == 0


def test_resyncs_leave_nothing_behind_for_tomorrow() -> None:
    async def behave(key: Key, call: int) -> float:
        return 86400.0

    def resync(queue: WorkQueue) -> None:
        for _ in range(1000):
            queue.add(A, 86400.0)
            queue.add(A, 1.0)
            queue._due.pop(A)

    queue = drain(Work(behave), resync, lambda: 0.0)
    assert len(queue._heap) < 100


class Listed:
    """An operator that has listed everything, and whose watch of the models a test plays."""

    def __init__(self) -> None:
        self.cluster: Any = FakeCluster()
        self.operation = Operation(self.cluster, Settings(default_image="example.org/trainer:1"))
        self.operation.listed()
        self.models = self.operation.reconciler.models
        self.queue = self.operation.queue

    def watch(self) -> None:
        """The watch brings the model as it is now."""
        for change in self.models.put(self.cluster.model()):
            self.operation.model_changed(change)


def test_an_echo_of_what_is_known_calls_for_no_reconciliation() -> None:
    async def run() -> None:
        one = Listed()
        one.cluster.put(KRONOSMODEL, make_model())
        one.watch()
        assert len(one.queue) == 1
        one.queue.forget(Key("ns", "m"))
        await one.operation.reconciler.reconcile(Key("ns", "m"))
        assert one.cluster.model()["status"]["phase"] == "Pending"
        one.watch()  # what has just been written
        assert len(one.queue) == 0
        one.cluster.change_spec(suspend=True)
        one.watch()
        assert len(one.queue) == 1

    asyncio.run(run())


def test_a_deleted_model_is_forgotten_and_a_namesake_is_reconciled() -> None:
    async def run() -> None:
        one = Listed()
        one.cluster.put(KRONOSMODEL, make_model())
        one.watch()
        for change in one.models.keep(set()):
            one.operation.model_changed(change)
        assert len(one.queue) == 0 and list(one.models) == []
        one.watch()
        one.cluster.put(KRONOSMODEL, make_model())  # another by the name, whose predecessor's deletion was missed
        one.watch()
        assert len(one.queue) == 1 and list(one.models) == [Key("ns", "m")]

    asyncio.run(run())


def test_a_resync_looks_at_every_model_that_is_known_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 1:
            raise asyncio.CancelledError

    async def run() -> None:
        one = Listed()
        for name in "abc":
            one.models.put(one.cluster.put(KRONOSMODEL, make_model() | {"metadata": {"name": name}}))
        monkeypatch.setattr("kronos_operator.reconcile.operation.asyncio.sleep", sleep)
        now = one.queue._clock()
        with pytest.raises(asyncio.CancelledError):
            await one.operation._resync()
        assert pauses == [300.0, 300.0]
        due = {key.name: moment - now for key, moment in one.queue._due.items()}
        assert due == {"a": pytest.approx(0, abs=5), "b": pytest.approx(100, abs=5), "c": pytest.approx(200, abs=5)}

    asyncio.run(run())


def test_a_part_that_ends_by_an_error_fails_liveness(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> str:
        cluster: Any = FakeCluster()
        operation = Operation(cluster, Settings(health_port=free_port(), metrics_port=free_port()))
        monkeypatch.setattr(operation.watches, "run", AsyncMock(side_effect=KeyError("kind")))
        async with operation.running():
            await asyncio.sleep(0.1)
            return operation._alive()["tasks"]()

    assert asyncio.run(run()) == "watches has ended: KeyError('kind')"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def test_the_endpoints_tell_the_truth() -> None:
    now, heard = [1000.0], [1000.0]
    check = silence(lambda: heard[0], 300.0, clock=lambda: now[0])
    registry = CollectorRegistry()
    Gauge("answer", "The answer.", registry=registry).set(42)

    async def run() -> list[tuple[int, str]]:
        answers = []
        app = endpoints({"/healthz": {"watches": check, "resync": lambda: ""}})
        async with (
            served(app, health := free_port()),
            served(exposition(registry), metrics := free_port()),
            aiohttp.ClientSession() as session,
        ):
            for moment in (1300.0, 1301.0):
                now[0] = moment
                async with session.get(f"http://127.0.0.1:{health}/healthz") as response:
                    answers.append((response.status, await response.text()))
            async with session.get(f"http://127.0.0.1:{metrics}/metrics") as response:
                answers.append((response.status, (await response.text()).splitlines()[-1]))
        return answers

    assert asyncio.run(run()) == [
        (200, "ok\n"),
        (503, "watches: no activity for 301 s\n"),
        (200, "answer 42.0"),
    ]


def test_what_was_never_heard_of_is_missed_from_the_start_on() -> None:
    now = [50.0]
    check = silence(lambda: None, 300.0, clock=lambda: now[0])
    now[0] = 351.0
    assert "301 s" in check()
