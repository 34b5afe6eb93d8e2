"""Signs of life during work that gives no chance to report: a download of weights, a compilation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def heartbeat(beat: Callable[[], None], *, every_seconds: float = 1.0) -> Iterator[None]:
    """Calls `beat` from a thread until the block ends.

    For work that ends by itself or fails; a step that hangs must stay silent, so that someone notices.
    """
    done = threading.Event()

    def run() -> None:
        while not done.wait(every_seconds):
            beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
