"""The API server's time: instants in its objects are by that clock, and this machine's may be minutes off."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

logger = logging.getLogger(__name__)

# An answer's date is in whole seconds, and may be read late; no decision hangs on less.
_TOLERATED = 30.0


class ServerClock:
    """This machine's clock, corrected by the dates of the server's answers where it is more than 30 s off."""

    def __init__(self, local: Callable[[], float] = time.time) -> None:
        self._local = local
        self._ahead = 0.0  # seconds that the server's clock is ahead of ours

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._local() + self._ahead

    def observe(self, date: str | None) -> None:
        """Takes in the Date header of an answer that has just arrived; what is no date is passed over."""
        try:
            ahead = parsedate_to_datetime(date or "").timestamp() - self._local()
        except (ValueError, OverflowError):
            return
        if abs(ahead - self._ahead) <= _TOLERATED:
            return
        self._ahead = ahead if abs(ahead) > _TOLERATED else 0.0
        if self._ahead:
            word = "behind" if ahead > 0 else "ahead of"
            logger.warning("this machine's clock is %.0f s %s the API server's, which is used", abs(ahead), word)
        else:
            logger.warning("this machine's clock agrees with the API server's again")
