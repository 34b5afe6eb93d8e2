"""Why something does not happen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why something does not happen: a reason in one CamelCase word, and a message that names what has to change."""

    reason: str
    message: str
    place: int | None = None  # in a queue outside, 1 being the next
