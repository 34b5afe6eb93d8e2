"""The newest of a container's log, from a stream of any size, in bounded memory. Used by `client`."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_LONGEST_LINE = 65536  # bytes; what is longer is nobody's report, and is left out
_KEPT = 1 << 20  # bytes


class LogEnd(NamedTuple):
    """The last whole lines that were read, without their times."""

    lines: list[str]
    newest: str  # the kubelet's time of the last line, from which the next read goes on; RFC 3339


class LogReader:
    """Takes in a log whose lines begin with the kubelet's time, and keeps its end.

    `since` is the time from which the log was asked for. The server rounds it down to the second, so that lines which
    were read before come again; those are left out.
    """

    def __init__(self, since: str = "") -> None:
        self._since = since
        self.newest = since
        self._lines: deque[tuple[str, int]] = deque()  # with their sizes as sent
        self._size = 0
        self._rest = b""
        self._overlong = False

    def feed(self, chunk: bytes) -> None:
        """Takes in the next piece."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if not self._overlong:
                self._take(line)
            self._overlong = False
        if len(self._rest) > _LONGEST_LINE:
            self._rest, self._overlong = b"", True

    def read(self, *, whole: bool) -> LogEnd:
        """What was kept. A last line without an end of line counts if the stream was read as a `whole`."""
        if whole and self._rest and not self._overlong:
            self._take(self._rest)
        return LogEnd([text for text, _ in self._lines], self.newest)

    def _take(self, raw: bytes) -> None:
        if len(raw) > _LONGEST_LINE:
            return
        time, _, text = raw.decode(errors="replace").partition(" ")
        # The times of one kubelet have one form and length, and are in the order of their texts.
        if time < self._since:
            return
        self.newest = max(self.newest, time)
        self._lines.append((text.rstrip("\r"), len(raw)))
        self._size += len(raw)
        while self._size > _KEPT:
            self._size -= self._lines.popleft()[1]
