"""What Kopf is for: it watches the KronosModels and tells the Operation. Handlers only enqueue."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import kopf

from kronos_operator.kube import Cluster, Key, service_address
from kronos_operator.names import GROUP, PLURAL, VERSION
from kronos_operator.reconcile.operation import Operation
from kronos_operator.settings import Settings


def handlers(settings: Settings) -> kopf.OperatorRegistry:
    """The handlers of an operator with these settings."""
    registry = kopf.OperatorRegistry()
    running = AsyncExitStack()
    operations: list[Operation] = []

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
        operation = Operation(cluster, settings)
        await running.enter_async_context(operation.running())
        operations.append(operation)
        await operation.installed()

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        operations.clear()
        await running.aclose()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        body = dict(event["object"])
        for operation in operations:
            if event["type"] == "DELETED":
                operation.gone(Key.of(body))
            else:
                operation.told(body)

    return registry


def kopf_settings() -> kopf.OperatorSettings:
    """Kopf as a mere watcher: it writes nothing to the objects and posts nothing."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.chunk_size = 100  # all models at once would be most of the operator's memory
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 1
    # Nothing stores progress or takes finalizers; the names only keep two operators apart should that ever change.
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP, v1=False)
    return settings
