"""From the API server's JSON to objects, as far as somebody reads them.

Two thirds of a listed Job or pod is its template and the bookkeeping of field managers. What a type here does not name
is parsed, and never becomes Python's dicts and strings. The values themselves are not validated.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from kronos_operator.kube.kinds import Object

_TYPED_DICT: Any = TypedDict  # mypy knows it with literal fields only


class Metadata(TypedDict, total=False):
    """The metadata of an object, all but managedFields."""

    name: Any
    generateName: Any
    namespace: Any
    uid: Any
    resourceVersion: Any
    generation: Any
    creationTimestamp: Any
    deletionTimestamp: Any
    deletionGracePeriodSeconds: Any
    labels: Any
    annotations: Any
    ownerReferences: Any
    finalizers: Any


Metadata.__pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[attr-defined]  # whatever its body does


class Reader:
    """Reads the listings and events of one kind; `spec` is a TypedDict of what is kept of a spec, by default all."""

    def __init__(self, spec: Any = Any) -> None:
        fields: dict[str, Any] = {"apiVersion": Any, "kind": Any, "metadata": Metadata, "spec": spec, "status": Any}
        fields |= dict.fromkeys(("code", "reason", "message"), Any)  # of a Status, which tells of an error
        body = _TYPED_DICT("body", fields, total=False)
        if spec is Any:
            body.__pydantic_config__ = ConfigDict(extra="allow")  # a ConfigMap's data, a Service's type
        page = _TYPED_DICT("page", {"metadata": Any, "items": list[body] | None}, total=False)  # type: ignore[valid-type]
        self._page: TypeAdapter[Object] = TypeAdapter(page)
        self._event: TypeAdapter[Object] = TypeAdapter(_TYPED_DICT("event", {"type": str, "object": body}))

    def page(self, text: bytes) -> Object:
        """A listing. Raises ValueError for what is none."""
        return self._page.validate_json(text)

    def event(self, text: bytes) -> Object:
        """An event of a watch. Raises ValueError for what is none."""
        return self._event.validate_json(text)


EVERYTHING = Reader()


def read(text: bytes) -> Any:
    """The value of a JSON text, whole. Raises ValueError."""
    return from_json(text)


def written(body: Object) -> bytes:
    """The object as JSON."""
    return to_json(body)
