"""What Kopf is for: the life of the process, its signals, start and end. The operator's own watches do the rest."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import kopf

from kronos_operator.kube import Cluster, service_address
from kronos_operator.reconcile.operation import Operation
from kronos_operator.settings import Settings


def handlers(settings: Settings) -> kopf.OperatorRegistry:
    """The handlers of an operator with these settings."""
    registry = kopf.OperatorRegistry()
    running = AsyncExitStack()

    @kopf.on.login(registry=registry)
    async def login(**details: Any) -> kopf.ConnectionInfo | None:
        # Kopf's other ways import the whole synchronous client, which is half of the operator's memory.
        inside = kopf.login_with_service_account(**details)
        if inside is not None:
            # Kopf asks for kubernetes.default.svc. A cluster whose DNS is down must not be deaf too.
            return replace(inside, server=service_address())
        return kopf.login_with_kubeconfig(**details)

    @kopf.on.startup(registry=registry)
    async def start(**_: Any) -> None:
        cluster = await running.enter_async_context(await Cluster.connect())
        await running.enter_async_context(Operation(cluster, settings).running())

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await running.aclose()

    return registry


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf without resources: it watches nothing, writes nothing and posts nothing."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    return settings
