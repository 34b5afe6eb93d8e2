"""What may go wrong with a request, classified by what the caller can do about it."""

from __future__ import annotations

import json
from collections.abc import Mapping


class ClusterError(Exception):
    """A request that failed. `status` is the HTTP status, 0 where none came back; `reason` is Kubernetes' own word."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class NoCluster(ClusterError):
    """There is no usable configuration to connect with."""


class Unavailable(ClusterError):
    """The server could not be reached, or had no time: try again, no sooner than `retry_after` seconds where given."""


class Conflict(ClusterError):
    """The object has changed since it was read: read it again and decide anew."""


class Expired(ClusterError):
    """The resource version is too old to go on from: list again."""


class NotFound(ClusterError):
    """The object, its namespace or its whole kind does not exist."""


class Rejected(ClusterError):
    """The server understood and refuses. 400, 413 and 422 are final; 401 and 403 end when rights or a quota change."""

    @property
    def final(self) -> bool:
        """Whether the same request can never succeed."""
        return self.status in (400, 413, 422)


def from_response(status: int, body: str, headers: Mapping[str, str]) -> ClusterError:
    """The error that a response of status 400 or above means."""
    message, reason = _message_and_reason(status, body)
    # A server-side apply of a field that the schema lacks is refused for good, and called an error of the server.
    if status == 500 and "field not declared in schema" in message:
        status = 422
    if status == 404 and not reason:
        message = "the API server knows no such kind of object: is its CustomResourceDefinition installed?"
    wait = headers.get("Retry-After", "")
    retry_after = float(wait) if wait.isdigit() else None
    return _kind(status, reason)(message, status=status, reason=reason, retry_after=retry_after)


def _kind(status: int, reason: str) -> type[ClusterError]:
    if status == 429 or status >= 500:
        return Unavailable
    by_status = {404: NotFound, 409: Conflict, 410: Expired}
    return Expired if reason == "Expired" else by_status.get(status, Rejected)


def _message_and_reason(status: int, body: str) -> tuple[str, str]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return body.strip()[:500] or f"HTTP status {status}", ""
    return str(answer.get("message") or f"HTTP status {status}"), str(answer.get("reason") or "")
