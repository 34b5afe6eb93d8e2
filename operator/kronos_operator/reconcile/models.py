"""The models that exist, each as it was told of last: by the watch, by a listing, or by the answer to a write."""

from __future__ import annotations

from collections.abc import Iterator

from kronos_operator.kube import Key, Object, Packed
from kronos_operator.kube.watching import without_noise


class Models:
    """Models by key. What comes late does not replace what is newer."""

    def __init__(self) -> None:
        self._known: dict[Key, Packed] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._known))

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    def get(self, key: Key) -> Packed | None:
        """The newest that is known of the model."""
        return self._known.get(key)

    def put(self, body: Object) -> bool:
        """Takes a model in, unless a newer version of it, or of a namesake, is known; whether it was news."""
        key = Key.of(body)
        known = self._known.get(key)
        if known is not None and _age(str(body["metadata"].get("resourceVersion", ""))) <= _age(known.version):
            return False
        self._known[key] = Packed.of(without_noise(body))
        return True

    def correct(self, wrong: Packed, body: Object) -> None:
        """Takes in what the server has in place of what it did not accept: after a restored backup that is older."""
        key = Key.of(body)
        if self._known.get(key) is wrong:
            del self._known[key]
        self.put(body)

    def remove(self, key: Key) -> None:
        """Forgets a model."""
        self._known.pop(key, None)


def _age(version: str) -> int:
    return int(version) if version.isdigit() else 0
