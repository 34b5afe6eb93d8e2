"""What the API server's audit log tells of the requests of the operator, or of another controller."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from control_plane import OPERATOR_NAMESPACE, RELEASE

OPERATOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{RELEASE}"
WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True)
class Request:
    """One request that the API server has answered."""

    verb: str
    resource: str  # plural, with its subresource if there is one
    name: str
    code: int
    received: datetime
    owner: bool  # sent by the controller that is measured, rather than by the administrator


class AuditLog:
    """Reads the log on from where it was read last; `user` is the controller that is measured."""

    def __init__(self, path: Path, user: str = OPERATOR) -> None:
        self._path = path
        self._user = user
        self._offset = 0

    def read(self) -> list[Request]:
        """The requests that were written down since the last call."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            # The API server may be writing the last line.
            whole = log.read().rpartition(b"\n")[0]
        self._offset += len(whole) + bool(whole)
        return [_request(json.loads(line), self._user) for line in whole.splitlines()]


def tally(requests: list[Request], *, writes: bool) -> Counter[str]:
    """How many of the controller's requests were writes, or reads, by verb and resource; refused ones count too."""
    return Counter(
        f"{request.verb} {request.resource}"
        for request in requests
        if request.owner and (request.verb in WRITES) is writes
    )


def created(requests: list[Request], resource: str) -> dict[str, datetime]:
    """When the creation of each object of a kind was asked for, by name."""
    return {one.name: one.received for one in requests if (one.verb, one.resource) == ("create", resource)}


def _request(event: dict[str, Any], user: str) -> Request:
    target = event.get("objectRef") or {}
    return Request(
        verb=event["verb"],
        resource="/".join(filter(None, (target.get("resource"), target.get("subresource")))),
        name=target.get("name", ""),
        code=(event.get("responseStatus") or {}).get("code", 0),
        received=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        owner=event["user"]["username"] == user,
    )
