"""Instants as every file, event and annotation of ours writes them: RFC 3339 in UTC, ending in Z."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

Precision = Literal["seconds", "milliseconds", "microseconds"]


def utc_text(moment: datetime, precision: Precision = "milliseconds") -> str:
    """The instant, cut to a precision: 2026-03-01T09:30:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def now_text(precision: Precision = "milliseconds") -> str:
    """This instant by the clock of the machine."""
    return utc_text(datetime.now(UTC), precision)
