"""The request to stop, SIGTERM or Ctrl-C, and the end of a process.

Imports nothing that takes time, for it is the first thing that a process of ours sets up. Until then SIGTERM ends a
process, with nothing lost; only process 1 of a container would ignore it, which is why pods share their process
namespace (kronos_operator.manifests.pod).
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


class StopSignal:
    """Notes that this process was asked to stop; whoever may be interrupted looks at it."""

    def __init__(self) -> None:
        self.requested = False
        self.urgent = False  # Ctrl-C after a first signal: do not wait for anything
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def __call__(self) -> bool:
        """Whether a stop was requested."""
        return self.requested

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.urgent |= self.requested and number == signal.SIGINT
        self.requested = True


def end_process(code: int) -> NoReturn:
    """Ends this process without waiting for anyone.

    An orderly exit would wait for threads, and after a failure those may be blocked: in a collective of which other
    ranks are gone, or in a rendezvous to which the other nodes do not come.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
