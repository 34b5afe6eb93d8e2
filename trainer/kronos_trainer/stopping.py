"""The request to stop, a signal, and the end of a process.

Imports nothing slow, since every trainer process sets it up first. Until then SIGTERM ends a process, with nothing
lost; only process 1 of a container would ignore it, which is why pods share their process namespace
(kronos_operator.manifests.pod).
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn


class StopSignal:
    """Records the request to stop; interruptible code checks it."""

    def __init__(self) -> None:
        self.requested = False
        self.urgent = False  # Ctrl-C after a first signal: do not wait for anything
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # under nohup
                signal.signal(number, self._note)

    def __call__(self) -> bool:
        """Whether a stop was requested."""
        return self.requested

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.urgent |= self.requested and number == signal.SIGINT
        self.requested = True


def end_process(code: int) -> NoReturn:
    """Ends this process without waiting for anyone.

    An orderly exit would wait for threads, and after a failure those may be blocked: in a collective of which other
    ranks are gone, or in a rendezvous that other nodes do not join.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader is gone, or its disk is full: the code still counts
            stream.flush()
    os._exit(code)
