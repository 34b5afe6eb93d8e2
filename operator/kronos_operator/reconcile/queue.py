"""The keys that wait to be reconciled: each at most once, one worker per key, later again after an error."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Awaitable, Callable

from kronos_operator.kube import ClusterError, Key

logger = logging.getLogger(__name__)

_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 300.0
_SLACK = 64


class WorkQueue:
    """Calls `work` for every key that was added, when it is due, for at most `at_once` keys at a time.

    `work` returns in how many seconds it wants its key again, None for when something happens. Its errors are
    logged and followed by a growing, capped pause.
    """

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        *,
        at_once: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._clock = clock
        self._slots = asyncio.Semaphore(at_once)
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._failures: dict[Key, int] = {}
        self._running: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return sum(moment <= self._clock() for moment in self._due.values())

    def add(self, key: Key, after: float = 0.0) -> None:
        """Wants the key worked on in `after` seconds, or earlier if it is already wanted earlier."""
        moment = self._clock() + max(0.0, after)
        if moment < self._due.get(key, float("inf")):
            self._due[key] = moment
            self._push(moment, key)
            self._changed.set()

    def forget(self, key: Key) -> None:
        """Wants the key no more."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def run(self) -> None:
        """Works until cancelled; what is being worked on then is cancelled too."""
        try:
            while True:
                await self._start_due()
                pause = self._heap[0][0] - self._clock() if self._heap else None
                self._changed.clear()
                if pause is None or pause > 0:
                    try:
                        await asyncio.wait_for(self._changed.wait(), pause)
                    except TimeoutError:
                        continue
        finally:
            for task in self._tasks:
                task.cancel()

    async def _start_due(self) -> None:
        while self._heap and self._heap[0][0] <= self._clock():
            moment, key = heapq.heappop(self._heap)
            # Worked on meanwhile, wanted earlier, or being worked on, whose end brings it back.
            if self._due.get(key) != moment or key in self._running:
                continue
            await self._slots.acquire()
            self._due.pop(key, None)
            self._running.add(key)
            task = asyncio.create_task(self._one(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, key: Key) -> None:
        again: float | None
        try:
            again = await self._work(key)
            self._failures.pop(key, None)
        except Exception as error:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            again = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures, 20))
            if isinstance(error, ClusterError):
                again = max(again, error.retry_after or 0.0)
                logger.warning("%s/%s: %s; again in %.0f s", *key, error, again)
            else:
                logger.exception("%s/%s: reconciling failed; again in %.0f s", *key, again)
        finally:
            self._running.discard(key)
            self._slots.release()
        if again is not None:
            self.add(key, again)
        if key in self._due:
            self._push(self._due[key], key)
        self._changed.set()

    def _push(self, moment: float, key: Key) -> None:
        heapq.heappush(self._heap, (moment, key))
        # Every earlier wish leaves one behind that lies here until it is due, which may be tomorrow.
        if len(self._heap) > 2 * len(self._due) + _SLACK:
            self._heap = [(moment, key) for key, moment in self._due.items()]
            heapq.heapify(self._heap)
