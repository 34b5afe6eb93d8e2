"""The log of an attempt as a source of facts: the events that its trainer and its executor have left there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from kronos_trainer.config import EndedEvent, ErrorEvent, Event, ExitCode, parse_line

_TAIL_BYTES = 256 * 1024


def last_events(log: Path) -> Iterator[Event]:
    """The first event, which names the process that was started, and the latest ones."""
    try:
        with log.open("rb") as stream:
            first = stream.readline()
            stream.seek(max(stream.tell(), stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = [first, *stream.read().split(b"\n")]
    except FileNotFoundError:
        return
    for line in lines:
        yield from parse_line(line.decode(errors="replace"))


def failure(log: Path) -> tuple[int, str] | None:
    """The exit code of an attempt that has failed, and why; None if it has not, was stopped or was cut off."""
    code, message = None, ""
    for event in last_events(log):
        if isinstance(event, ErrorEvent):
            message = event.message
        elif isinstance(event, EndedEvent):
            code, message = event.exit_code, message or event.message
    return None if code in (None, ExitCode.DONE, ExitCode.STOPPED) else (code, message)
