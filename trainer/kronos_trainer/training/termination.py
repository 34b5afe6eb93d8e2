"""A process's last words: how a stage ended, as the message that the kubelet keeps when it ends the container.

Unlike log lines they are never dropped. They are one line of the same form, at most 4 KiB long.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kronos_trainer.config import ErrorEvent, PointerEvent, ResultEvent, parse_line
from kronos_trainer.storage import strict_json

BYTES = 4096  # the kubelet keeps no more
VARIABLE = "KRONOS_TERMINATION_LOG"
_LONGEST = tuple(BYTES >> halvings for halvings in range(7))  # characters of a text, down to 64: a digest stays whole
_LEFT_OUT = ((), ("scores",), ("scores", "comparisons"))
_KUBELETS = Path("/dev/termination-log")

LastWords = ResultEvent | PointerEvent | ErrorEvent


def place() -> Path | None:
    """The file for the termination message: that of the variable, else the kubelet's, or None."""
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    return _KUBELETS if _KUBELETS.is_file() else None


def leave(path: Path | None, event: LastWords) -> None:
    """Writes an event, cut to size. Where that cannot be done nothing happens: a report must not end the training.

    In place, since the kubelet's file is a mount and cannot be renamed over.
    """
    if path is None:
        return
    try:
        path.write_text(fitting(event) + "\n")
    except OSError:
        return


def read(path: Path) -> LastWords | None:
    """What was left in a file, None where nothing readable was."""
    try:
        events = parse_line(path.read_text())
    except (OSError, ValueError):
        return None
    return next((event for event in events if isinstance(event, LastWords)), None)


def fitting(event: LastWords) -> str:
    """The event as a line of at most `BYTES`, its newline included: of a result the essential, long texts cut.

    Where that does not suffice it is without its scores, then without the single comparisons: the verdict and what the
    promotion gate has decided are the last to go.
    """
    wire = event.wire
    short = {name: value for name, value in wire.items() if not isinstance(value, Mapping | list | tuple)}
    if isinstance(event, ResultEvent):
        short["result"] = event.result.short
    if isinstance(event, PointerEvent):
        short |= {name: value for name, value in wire.items() if isinstance(value, Mapping)}
    for left_out in _LEFT_OUT:
        for longest in _LONGEST:
            line = strict_json.line(_cut(short, longest, left_out))
            if len(line) < BYTES:  # ASCII: as many bytes
                return line
    return strict_json.line({name: short[name] for name in ("kronos", "event", "exitCode") if name in short})


def _cut(value: Any, longest: int, left_out: Sequence[str]) -> Any:
    """The value without some fields, and with every text in it at most that many characters long, and an ellipsis."""
    if isinstance(value, Mapping):
        return {name: _cut(item, longest, left_out) for name, item in value.items() if name not in left_out}
    if isinstance(value, list | tuple):
        return [_cut(item, longest, left_out) for item in value]
    if isinstance(value, str) and len(value) > longest:
        return value[:longest] + "…"
    return value
