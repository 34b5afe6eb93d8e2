"""Times that the API server writes, as seconds since the epoch."""

from __future__ import annotations

from datetime import datetime


def seconds_of(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 text; None for none, and for what is no time of ours."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None or not 1970 <= moment.year < 9999:  # beyond, it has no equivalent in other time zones
        return None
    return moment.timestamp()


def created_at(body: dict[str, object]) -> float:
    """When the API server created an object."""
    metadata = body["metadata"]
    assert isinstance(metadata, dict)
    return seconds_of(metadata.get("creationTimestamp")) or 0.0
