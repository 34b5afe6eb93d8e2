"""Events as a user reads them, deduplicated and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from control_plane import ControlPlane
from fault_proxy import FaultProxy

from kronos_operator.kube import Cluster, Recorder
from kronos_operator.kube.kinds import EVENT, KRONOSMODEL


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def owner(cluster: ControlPlane, namespace: str, model: Callable[..., Any]) -> Any:
    return cluster.request("POST", KRONOSMODEL.path(namespace), model("model", namespace))


def recording(cluster: ControlPlane, use: Callable[[Recorder, Clock, FaultProxy], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = Clock()
        async with FaultProxy(cluster) as proxy, await Cluster.connect(kubeconfig=proxy.kubeconfig) as connection:
            await use(Recorder(connection, instance="operator-0", monotonic=clock), clock, proxy)

    asyncio.run(main())


def events(cluster: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = cluster.request("GET", EVENT.path(namespace))["items"]
    return items


def test_describe_tells_the_story(cluster: ControlPlane, namespace: str, owner: Any) -> None:
    async def use(recorder: Recorder, clock: Clock, proxy: FaultProxy) -> None:
        await recorder.post(owner, reason="StageStarted", note="The tokenizer is trained.", action="StartAttempt")
        await recorder.post(owner, type="Warning", reason="Stalled", note="é" * 2000, action="Observe")

    recording(cluster, use)
    described = cluster.kubectl("describe", "kronosmodel", "model", "--namespace", namespace).stdout
    assert "StageStarted" in described and "The tokenizer is trained." in described and "kronos-operator" in described
    assert "Warning" in described and "éé…" in described


def test_repeats_are_counted_in_one_event(cluster: ControlPlane, namespace: str, owner: Any) -> None:
    async def use(recorder: Recorder, clock: Clock, proxy: FaultProxy) -> None:
        for _ in range(10):
            await recorder.post(owner, reason="Restarting", note="A crash.", action="StartAttempt")
        assert [request.method for request in proxy.requests] == ["POST"]
        clock.seconds = 61
        await recorder.post(owner, reason="Restarting", note="A crash.", action="StartAttempt")
        await recorder.post(owner, reason="Restarting", note="Another crash.", action="StartAttempt")

    recording(cluster, use)
    first, second = sorted(events(cluster, namespace), key=lambda event: str(event["note"]))
    assert first["note"] == "A crash." and first["series"]["count"] == 11
    assert second["note"] == "Another crash." and "series" not in second


def test_an_event_that_the_server_has_dropped_is_posted_anew(cluster: ControlPlane, namespace: str, owner: Any) -> None:
    async def use(recorder: Recorder, clock: Clock, proxy: FaultProxy) -> None:
        await recorder.post(owner, reason="Restarting", note="A crash.", action="StartAttempt")
        (event,) = events(cluster, namespace)
        cluster.request("DELETE", EVENT.path(namespace, event["metadata"]["name"]))
        clock.seconds = 7200
        await recorder.post(owner, reason="Restarting", note="A crash.", action="StartAttempt")

    recording(cluster, use)
    assert [event["note"] for event in events(cluster, namespace)] == ["A crash."]


def test_one_object_cannot_flood_the_server(cluster: ControlPlane, namespace: str, owner: Any) -> None:
    async def use(recorder: Recorder, clock: Clock, proxy: FaultProxy) -> None:
        for number in range(100):
            await recorder.post(owner, reason="Restarting", note=f"Crash {number}.", action="StartAttempt")
        assert len(proxy.requests) == 25
        clock.seconds = 300
        for number in range(100, 105):
            await recorder.post(owner, reason="Restarting", note=f"Crash {number}.", action="StartAttempt")
        assert len(proxy.requests) == 26

    recording(cluster, use)
    assert len(events(cluster, namespace)) == 26


@pytest.mark.parametrize("status", [0, 403, 409, 429, 500])
def test_nothing_is_raised(
    cluster: ControlPlane, namespace: str, owner: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(recorder: Recorder, clock: Clock, proxy: FaultProxy) -> None:
        proxy.answer(status, times=2)
        await recorder.post(owner, reason="Restarting", note="A crash.", action="StartAttempt")
        await recorder.post(
            {**owner, "metadata": {**owner["metadata"], "namespace": "nowhere"}}, reason="A", note="b", action="c"
        )

    recording(cluster, use)
    assert "was not posted" in caplog.text
