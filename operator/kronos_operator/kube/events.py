"""Posts Events about models: the history that `kubectl describe` shows. Called after a status write has succeeded."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from kronos_operator.kube.client import Cluster
from kronos_operator.kube.errors import ClusterError, NotFound
from kronos_operator.kube.kinds import EVENT, Object
from kronos_operator.names import MANAGED_BY
from kronos_trainer.config import utc_text

logger = logging.getLogger(__name__)

_NOTE_BYTES = 1024  # the API server's limit
_REMEMBERED = 4096
# Like client-go's filter: a burst for each object, then one event every few minutes.
_BURST = 25
_REFILL_SECONDS = 300.0
_SERIES_SECONDS = 60.0


@dataclass
class _Posted:
    """An event that stands on the server, and how often it has happened since it was last posted."""

    name: str
    count: int
    told_at: float


@dataclass
class _Bucket:
    tokens: float
    at: float


class Recorder:
    """Posts deduplicated Events of events.k8s.io/v1; it never raises, since an Event is never worth a failure.

    A repeated event counts up the one that stands, at most once a minute, so its count may lag behind.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        instance: str,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._instance = instance[:128]
        self._monotonic = monotonic
        self._now = now
        self._posted: OrderedDict[str, _Posted] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    async def post(
        self, regarding: Object, *, reason: str, note: str, action: str, type: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        """Posts that something happened to an object: `reason` in one word, `action` what the operator did or tried."""
        note = _shortened(note)
        uid = regarding["metadata"]["uid"]
        digest = hashlib.sha256("\0".join([uid, type, reason, action, note]).encode()).hexdigest()[:16]
        try:
            earlier = self._posted.get(digest)
            if earlier is not None and await self._repeat(regarding["metadata"]["namespace"], earlier):
                self._posted.move_to_end(digest)
            elif self._allowed(uid):
                name = await self._create(regarding, digest, type=type, reason=reason, note=note, action=action)
                self._posted[digest] = _Posted(name, 1, self._monotonic())
                _shrink(self._posted)
        except ClusterError as error:
            logger.warning("the event %s of %s was not posted: %s", reason, regarding["metadata"]["name"], error)

    async def _create(self, regarding: Object, digest: str, *, type: str, reason: str, note: str, action: str) -> str:
        metadata = regarding["metadata"]
        now = self._now()
        name = f"{metadata['name']}.{digest}.{int(now.timestamp() * 1e6):x}"
        await self._cluster.create(
            EVENT,
            {
                "apiVersion": EVENT.api_version,
                "kind": EVENT.kind,
                "metadata": {"name": name, "namespace": metadata["namespace"]},
                "eventTime": utc_text(now, "microseconds"),
                "type": type,
                "reason": reason,
                "action": action,
                "note": note,
                "reportingController": MANAGED_BY,
                "reportingInstance": self._instance,
                "regarding": {
                    "apiVersion": regarding["apiVersion"],
                    "kind": regarding["kind"],
                    "namespace": metadata["namespace"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        )
        return name

    async def _repeat(self, namespace: str, earlier: _Posted) -> bool:
        """Counts an event that stands once more; False if the server has let it go, as it does after an hour."""
        earlier.count += 1
        if self._monotonic() - earlier.told_at < _SERIES_SECONDS:
            return True
        series = {"count": earlier.count, "lastObservedTime": utc_text(self._now(), "microseconds")}
        try:
            await self._cluster.patch(EVENT, namespace, earlier.name, {"series": series}, manager=MANAGED_BY)
        except NotFound:
            return False
        earlier.told_at = self._monotonic()
        return True

    def _allowed(self, uid: str) -> bool:
        now = self._monotonic()
        bucket = self._buckets.pop(uid, None) or _Bucket(_BURST, now)
        bucket.tokens = min(_BURST, bucket.tokens + (now - bucket.at) / _REFILL_SECONDS)
        bucket.at = now
        self._buckets[uid] = bucket
        _shrink(self._buckets)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _shrink(remembered: OrderedDict[str, Any]) -> None:
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)


def _shortened(note: str) -> str:
    encoded = note.encode()
    if len(encoded) <= _NOTE_BYTES:
        return note
    return encoded[: _NOTE_BYTES - 3].decode(errors="ignore") + "…"
