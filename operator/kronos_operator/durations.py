"""Spans of time for the eye: exact to the second in the CLI, round in `status`, whose columns are narrow."""

from __future__ import annotations

import math


def duration(seconds: float | None) -> str:
    """A span in two units of one width: 12s, 4m05s, 2h13m, 3d04h; '-' when unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def round_duration(seconds: float) -> str:
    """A span in as few units as do: 45s, 13m, 2h13m, 2d7h."""
    whole = int(max(seconds, 0))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m" if minutes else f"{whole}s"
