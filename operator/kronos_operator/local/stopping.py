"""Stops a run from another process. Called by `kronos suspend` and `kronos cancel`."""

from __future__ import annotations

import os
import signal

from kronos_operator.local.state import ModelState


def stop(state: ModelState) -> int | None:
    """Asks whatever trains the model here to save and end; returns the process asked, None if nothing trains it.

    The executor is asked where there is one, since it starts a trainer anew that is stopped behind its back.
    """
    asked = state.executor or state.trainer
    if asked is None:
        return None
    try:
        os.kill(asked, signal.SIGTERM)
    except ProcessLookupError:
        return None  # it ended meanwhile
    return asked
