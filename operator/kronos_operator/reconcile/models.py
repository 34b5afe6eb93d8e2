"""The models that exist, each as it was last listed or watched, or as a write of the operator's own was answered."""

from __future__ import annotations

from kronos_operator.kube import Change, Key, Object, Packed, Store
from kronos_operator.kube.watching import without_noise


class Models(Store):
    """Models by key. What comes late does not replace what is newer, so that the echo of a write is no change."""

    def put(self, body: Object) -> list[Change]:
        """Takes a model in, unless a newer version of it, or of a namesake, is known."""
        known = self.get(Key.of(body))
        if known is not None and _age(str(body["metadata"].get("resourceVersion", ""))) <= _age(known.version):
            return []
        return super().put(without_noise(body))

    def correct(self, wrong: Packed, body: Object) -> None:
        """Takes in what the server has in place of what it did not accept: after a restored backup that is older."""
        key = Key.of(body)
        if self.get(key) is wrong:
            self.remove(key)
        self.put(body)


def _age(version: str) -> int:
    return int(version) if version.isdigit() else 0
