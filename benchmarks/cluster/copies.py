"""A model that has succeeded, copied thousands of times in etcd: a minute, where as many lives take half an hour.

The copies are byte for byte what the API server has stored, but for names and uids, which stay as long as they were.
"""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections.abc import Iterable

import aiohttp

_UID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_AT_ONCE = 8


async def copy_model(etcd: str, name: str, names: Iterable[str]) -> None:
    """Copies a model and all that it owns, to each of `names`. No API server may run meanwhile: it has a cache."""
    async with aiohttp.ClientSession(etcd) as session:
        objects = await _objects(session, name)
        uids = sorted({uid for _, value in objects for uid in _UID.findall(value)})
        left = iter(names)

        async def copy() -> None:
            for other in left:
                assert len(other) == len(name), f"{other}: not as long as {name}"
                changes = [(name.encode(), other.encode()), *((uid, str(uuid.uuid4()).encode()) for uid in uids)]
                await _put(session, [(_changed(key, changes), _changed(value, changes)) for key, value in objects])

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(copy())


async def _objects(session: aiohttp.ClientSession, name: str) -> list[tuple[bytes, bytes]]:
    """Keys and values of a model, its Jobs, pods and ConfigMaps."""
    query = {"key": _text(b"/registry/"), "range_end": _text(b"/registry0")}
    async with session.post("/v3/kv/range", json=query, raise_for_status=True) as answer:
        found = (await answer.json())["kvs"]
    pairs = [(base64.b64decode(one["key"]), base64.b64decode(one["value"])) for one in found]
    return [(key, value) for key, value in pairs if name.encode() in key and not key.startswith(b"/registry/events/")]


async def _put(session: aiohttp.ClientSession, pairs: list[tuple[bytes, bytes]]) -> None:
    puts = [{"requestPut": {"key": _text(key), "value": _text(value)}} for key, value in pairs]
    async with session.post("/v3/kv/txn", json={"success": puts}, raise_for_status=True):
        pass


def _changed(content: bytes, changes: list[tuple[bytes, bytes]]) -> bytes:
    for old, new in changes:
        content = content.replace(old, new)
    return content


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
