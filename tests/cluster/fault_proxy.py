"""Stands between the operator and the API server, and does what networks and busy servers do.

Runs in the test's own event loop: `async with FaultProxy(cluster) as proxy`, then connect by `proxy.kubeconfig`.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web
from control_plane import ControlPlane

Event = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What was asked of the API server."""

    method: str
    path: str
    query: dict[str, str] = field(hash=False)

    @property
    def watches(self) -> bool:
        return self.query.get("watch") == "true"


@dataclass
class _Fault:
    status: int
    matches: Callable[[Request], bool]
    times: int
    headers: dict[str, str]
    after_forwarding: bool
    text: str


class FaultProxy:
    """Passes everything on, except what it was told to spoil."""

    def __init__(self, cluster: ControlPlane, kubeconfig: Path | None = None) -> None:
        self._cluster = cluster
        self._source = kubeconfig or cluster.operator_kubeconfig
        self._faults: list[_Fault] = []
        self._lost: Callable[[Event], bool] = lambda event: False
        self._open: set[aiohttp.ClientResponse] = set()
        self.requests: list[Request] = []

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self._cluster.certificate)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        application = web.Application(client_max_size=4 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        content = yaml.safe_load(self._source.read_text())
        content["clusters"][0]["cluster"] = {"server": f"http://{host}:{port}"}
        self.kubeconfig = self._cluster.directory / f"proxy-{port}.kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(content))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        await self._runner.cleanup()
        await self._session.close()

    def answer(
        self,
        status: int,
        *,
        times: int = 1,
        matches: Callable[[Request], bool] = lambda request: True,
        headers: dict[str, str] | None = None,
        after_forwarding: bool = False,
        text: str = "",
    ) -> None:
        """Answers the next matching requests in the API server's place; 0 closes the connection without a word.

        `after_forwarding` lets the API server do what was asked first: only its answer is lost. `text` is the body,
        for what only a kubelet could answer; without it the body is an error's.
        """
        self._faults.append(_Fault(status, matches, times, headers or {}, after_forwarding, text))

    def lose(self, lost: Callable[[Event], bool]) -> None:
        """From now on keeps matching events of watches back."""
        self._lost = lost

    def cut(self) -> None:
        """Breaks every open watch off in the middle."""
        for response in self._open:
            response.close()

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(incoming.method, incoming.path, dict(incoming.query))
        self.requests.append(request)
        fault = self._fault(request)
        if fault and not fault.after_forwarding:
            return self._spoiled(incoming, fault)
        passed = ("Authorization", "Content-Type", "Accept", "User-Agent")
        headers = {key: incoming.headers[key] for key in passed if key in incoming.headers}
        body = await incoming.read()
        url = self._cluster.server + incoming.raw_path
        async with self._session.request(incoming.method, url, headers=headers, data=body or None) as upstream:
            if fault:
                await upstream.read()
                return self._spoiled(incoming, fault)
            if request.watches and upstream.status == 200:
                return await self._relay(incoming, upstream)
            content = await upstream.read()
            kept = {key: upstream.headers[key] for key in ("Content-Type", "Retry-After") if key in upstream.headers}
            return web.Response(status=upstream.status, body=content, headers=kept)

    async def _relay(self, incoming: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(incoming)
        self._open.add(upstream)
        try:
            async for line in upstream.content:
                if not self._lost(json.loads(line)):
                    await response.write(line)
        except aiohttp.ClientError:
            self._hang_up(incoming)
        finally:
            self._open.discard(upstream)
        if upstream.closed:
            self._hang_up(incoming)
        return response

    def _fault(self, request: Request) -> _Fault | None:
        for fault in self._faults:
            if fault.times and fault.matches(request):
                fault.times -= 1
                return fault
        return None

    def _spoiled(self, incoming: web.Request, fault: _Fault) -> web.Response:
        if fault.status == 0:
            self._hang_up(incoming)
            return web.Response()
        if fault.text:
            return web.Response(status=fault.status, text=fault.text, headers=fault.headers)
        reason = {409: "Conflict", 410: "Expired", 429: "TooManyRequests"}.get(fault.status, "InternalError")
        told = {
            "kind": "Status",
            "status": "Failure",
            "code": fault.status,
            "reason": reason,
            "message": "by the proxy",
        }
        return web.json_response(told, status=fault.status, headers=fault.headers)

    @staticmethod
    def _hang_up(incoming: web.Request) -> None:
        if incoming.transport is not None:
            incoming.transport.abort()
