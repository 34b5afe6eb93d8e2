"""The request to stop: SIGTERM from a cluster or the launcher, Ctrl-C under plain torchrun."""

from __future__ import annotations

import signal
from types import FrameType


class StopSignal:
    """Notes that this process was asked to stop; the loop looks at step boundaries."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def __call__(self) -> bool:
        """Whether a stop was requested."""
        return self.requested

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
