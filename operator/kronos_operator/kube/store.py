"""The objects of one kind as last seen: a hint that may lag behind the server, never a proof that something is gone."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kronos_operator.kube.kinds import Object


class Key(NamedTuple):
    """Where an object is found among those of its kind. The namespace is empty for objects that have none."""

    namespace: str
    name: str

    @classmethod
    def of(cls, body: Object) -> Key:
        """The key of an object."""
        return cls(body["metadata"].get("namespace", ""), body["metadata"]["name"])


class Change(NamedTuple):
    """One object that appeared (no `old`), changed, or went (no `new`; `old` is how it was last seen)."""

    key: Key
    old: Object | None
    new: Object | None

    @property
    def last(self) -> Object:
        """The object as it is, or was last."""
        last = self.new or self.old
        assert last is not None
        return last


class Store:
    """Objects by key, by the uid of their controller and by label. Filled by a Watch; read by anyone, at no cost.

    Objects must not be changed by their readers.
    """

    def __init__(self, labels: Iterable[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._objects: dict[Key, Object] = {}
        self._labels = tuple(labels)
        self._index: defaultdict[tuple[str, str, str], dict[Key, None]] = defaultdict(dict)
        self._synced = asyncio.Event()
        self._clock = clock
        self.last_activity: float | None = None

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    def get(self, namespace: str, name: str) -> Object | None:
        """The object, or None if none was seen."""
        return self._objects.get(Key(namespace, name))

    def owned_by(self, uid: str) -> list[Object]:
        """The objects whose controller has this uid."""
        return self._found(("", "", uid))

    def labelled(self, namespace: str, label: str, value: str) -> list[Object]:
        """The objects of a namespace with this value of one of the labels that the store was made to index."""
        if label not in self._labels:
            raise KeyError(f"{label} is not indexed")
        return self._found((namespace, label, value))

    @property
    def synced(self) -> bool:
        """Whether a whole listing has been seen."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Returns after the first whole listing."""
        await self._synced.wait()

    def touch(self) -> None:
        """Notes that the server has just been heard."""
        self.last_activity = self._clock()

    def put(self, body: Object) -> Change | None:
        """Takes an object in; None if it is the one already here."""
        key = Key.of(body)
        old = self._objects.get(key)
        if old is not None and old["metadata"].get("resourceVersion") == body["metadata"].get("resourceVersion"):
            return None
        if old is not None:
            self._unindex(key, old)
        self._objects[key] = body
        for entry in self._entries(body):
            self._index[entry][key] = None
        return Change(key, old, body)

    def remove(self, key: Key, last: Object | None = None) -> Change | None:
        """Lets an object go, `last` being how it was at its end if that is known; None if it was not here."""
        old = self._objects.pop(key, None)
        if old is None:
            return None
        self._unindex(key, old)
        return Change(key, last or old, None)

    def replace(self, listed: Iterable[Object]) -> list[Change]:
        """Becomes exactly what a listing holds; the changes include deletions that no watch ever told."""
        bodies = {Key.of(body): body for body in listed}
        changes: list[Change | None] = []
        for key, old in list(self._objects.items()):
            if key not in bodies or bodies[key]["metadata"].get("uid") != old["metadata"].get("uid"):
                changes.append(self.remove(key))
        changes += [self.put(body) for body in bodies.values()]
        self._synced.set()
        return [change for change in changes if change]

    def _found(self, entry: tuple[str, str, str]) -> list[Object]:
        return [self._objects[key] for key in self._index.get(entry, ())]

    def _entries(self, body: Object) -> Iterator[tuple[str, str, str]]:
        metadata = body["metadata"]
        for owner in metadata.get("ownerReferences") or []:
            if owner.get("controller"):
                yield "", "", owner["uid"]
        labels = metadata.get("labels") or {}
        for label in self._labels:
            if label in labels:
                yield metadata.get("namespace", ""), label, labels[label]

    def _unindex(self, key: Key, body: Object) -> None:
        for entry in self._entries(body):
            keys = self._index[entry]
            keys.pop(key, None)
            if not keys:
                del self._index[entry]
