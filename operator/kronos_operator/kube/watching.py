"""Keeps a Store equal to what the API server has, through everything that networks and servers do.

List, then watch from the listing's resource version; go on from the last version after a closed connection; list again
when the server has forgotten that version. Each listing is compared with the store, so that deletions missed in between
are reported too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

import aiohttp
from pydantic import ValidationError

from kronos_operator.kube.client import Cluster
from kronos_operator.kube.errors import ClusterError, Expired, NotFound, Unavailable, from_response
from kronos_operator.kube.kinds import Kind, Object
from kronos_operator.kube.reading import EVERYTHING, Reader
from kronos_operator.kube.store import Change, Key, Packed, Store

__all__ = ["Change", "Key", "Packed", "Store", "Watch"]

logger = logging.getLogger(__name__)

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SERVER_SECONDS = 300
# The server sends a bookmark about once a minute, so a longer silence is a connection that nobody serves.
_SILENCE_SECONDS = 90


def without_noise(body: Object) -> Object:
    """The object without the bookkeeping of other tools, which is often most of its size."""
    metadata = body["metadata"]
    metadata.pop("managedFields", None)
    if metadata.get("annotations"):
        metadata["annotations"].pop(_LAST_APPLIED, None)
    return body


class Watch:
    """Watches one kind, in a namespace or in the whole cluster, filtered by the server.

    `on_change` is called for every change, after the store has taken it in; it must be quick and must not raise.
    `reader` and then `trim` cut each object down to what its readers need before it is kept. A kind that may be absent,
    because another product brings it, is `optional`: while it is absent the watch counts as synced, and the store stays
    empty. With `relist_seconds` everything is listed anew at this interval, to repair what a network has swallowed
    unnoticed.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        store: Store,
        *,
        on_change: Callable[[Change], None],
        namespace: str | None = None,
        selector: str = "",
        reader: Reader = EVERYTHING,
        trim: Callable[[Object], Object] = without_noise,
        optional: bool = False,
        relist_seconds: float = math.inf,
        backoff_seconds: float = 0.5,
        longest_backoff_seconds: float = 30,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self.store = store
        self.last_activity: float | None = None  # when the server last answered, by the clock
        self._cluster = cluster
        self._on_change = on_change
        self._namespace = namespace
        self._selector = selector
        self._reader = reader
        self._trim = trim
        self._optional = optional
        self._relist = relist_seconds
        self._backoff = backoff_seconds
        self._longest = longest_backoff_seconds
        self._clock = clock
        self._version: str | None = None
        self._listed_at = -math.inf
        self._synced = asyncio.Event()
        self._failures = 0

    @property
    def synced(self) -> bool:
        """Whether a whole listing is in the store."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Returns after the first whole listing."""
        await self._synced.wait()

    async def run(self) -> NoReturn:
        """Watches until cancelled. No error ends it: each is logged and followed by a growing, capped pause."""
        while True:
            wait: float | None = None
            began = self._clock()
            try:
                if self._version is None or began - self._listed_at >= self._relist:
                    await self._list()
                await self._stream()
                if self._clock() - began > self._longest:
                    self._failures = 0
            except Expired as error:
                logger.info("%s: listing again: %s", self.kind.plural, error)
                self._version = None
            except NotFound as error:
                self._version = None
                self.last_activity = self._clock()
                if self._optional:
                    self._take_listed(set())
                    wait = self._longest
                else:
                    logger.error("%s: the kind is not installed: %s", self.kind.plural, error)
            except ClusterError as error:
                logger.warning("%s: watching is interrupted: %s", self.kind.plural, error)
                wait = error.retry_after
            except Exception:
                # A watch that dies leaves an operator that looks well and sees nothing.
                logger.exception("%s: watching is interrupted", self.kind.plural)
                self._version = None
            await asyncio.sleep(self._pause(wait))

    async def _list(self) -> None:
        listed: set[Key] = set()
        version = ""
        async for page in self._cluster.pages(self.kind, self._namespace, selector=self._selector, reader=self._reader):
            for body in page.items:
                listed.add(Key.of(body))
                self._report(self.store.put(self._trim(body)))
            version = page.version
        self._take_listed(listed)
        self._version = version
        self._listed_at = self._clock()

    def _take_listed(self, listed: set[Key]) -> None:
        self._report(self.store.keep(listed, self._namespace))
        self.last_activity = self._clock()
        self._synced.set()

    async def _stream(self) -> None:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": self._selector,
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(math.ceil(min(_SERVER_SECONDS, self._relist))),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE_SECONDS)
        async with self._cluster.stream(self.kind.path(self._namespace), query, timeout=timeout) as response:
            try:
                async for line in response.content:
                    self._take(self._reader.event(line))
            except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
                raise Unavailable(f"the stream broke off: {error or type(error).__name__}") from error

    def _take(self, event: Object) -> None:
        body: Object = event["object"]
        if event["type"] == "ERROR":
            raise from_response(int(body.get("code") or 500), json.dumps(body), {})
        self._failures = 0
        self.last_activity = self._clock()
        self._version = body["metadata"]["resourceVersion"]
        if event["type"] == "BOOKMARK":
            return
        body = self._trim(body)
        gone = event["type"] == "DELETED"
        self._report(self.store.remove(Key.of(body), body) if gone else self.store.put(body))

    def _report(self, changes: Iterable[Change]) -> None:
        for change in changes:
            try:
                self._on_change(change)
            except Exception:
                logger.exception("%s %s: a change was not handled", self.kind.plural, change.key)

    def _pause(self, wait: float | None) -> float:
        """Seconds to the next attempt: doubled for each failure in a row, at least what the server asked for."""
        pause = min(self._longest, self._backoff * 2.0 ** min(self._failures, 20))
        self._failures += 1
        return max(wait or 0, pause * random.uniform(0.5, 1))
