"""The operator's HTTP endpoints: /healthz and /readyz for the kubelet, /metrics for Prometheus.

They are served by the loop that does the work, so that a loop that is blocked does not answer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

Check = Callable[[], str]  # what is wrong; empty if nothing is


def silence(last: Callable[[], float | None], limit: float, clock: Callable[[], float] = time.monotonic) -> Check:
    """A check that fails when the last activity was more than `limit` seconds ago, or never in that time."""
    began = clock()

    def check() -> str:
        quiet = clock() - (last() or began)
        return "" if quiet <= limit else f"no activity for {quiet:.0f} s"

    return check


def endpoints(checks: Mapping[str, Mapping[str, Check]]) -> web.Application:
    """An application that answers each path with 200, or with 503 and what is wrong, by the checks given for it."""
    app = web.Application()
    for path, named in checks.items():
        app.router.add_get(path, _answering(named))
    return app


def exposition(registry: CollectorRegistry) -> web.Application:
    """An application that answers /metrics."""

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    app = web.Application()
    app.router.add_get("/metrics", scrape)
    return app


@asynccontextmanager
async def served(app: web.Application, port: int) -> AsyncIterator[None]:
    """Serves the application on every interface while the context lasts; 0 is any port that is free."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


def _answering(checks: Mapping[str, Check]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        wrong = {name: problem for name, check in checks.items() if (problem := check())}
        text = "".join(f"{name}: {problem}\n" for name, problem in wrong.items()) or "ok\n"
        return web.Response(text=text, status=503 if wrong else 200)

    return answer
