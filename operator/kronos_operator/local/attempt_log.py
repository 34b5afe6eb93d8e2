"""The log of an attempt as a source of facts: the events that its trainer and its executor have left there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TAIL_BYTES = 256 * 1024


def last_events(log: Path) -> Iterator[dict[str, Any]]:
    """The first event, which names the process that was started, and the latest ones."""
    try:
        with log.open("rb") as stream:
            first = stream.readline()
            stream.seek(max(stream.tell(), stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = [first, *stream.read().split(b"\n")]
    except FileNotFoundError:
        return
    for line in lines:
        if line.startswith(b'{"kronos"'):
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            yield event


def failure(log: Path) -> tuple[int, str] | None:
    """The exit code of an attempt that has failed, and why; None if it has not, was stopped or was cut off."""
    code, message = None, ""
    for event in last_events(log):
        if event.get("event") == "error":
            message = str(event.get("message", ""))
        elif event.get("event") == "ended":
            code, message = event.get("exitCode"), message or str(event.get("message", ""))
    return (code, message) if isinstance(code, int) and code not in (0, 75) else None
