"""Several watches as one: they run together, and are in sync when all are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kronos_operator.kube.watching import Watch


class Watches:
    """Watches of one process."""

    def __init__(self, watches: Iterable[Watch]) -> None:
        self._watches = tuple(watches)

    async def run(self) -> None:
        """Watches until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(watch.run())

    async def wait_synced(self) -> None:
        """Returns once everything that exists is known."""
        for watch in self._watches:
            await watch.wait_synced()

    @property
    def synced(self) -> bool:
        """Whether everything that exists is known."""
        return all(watch.synced for watch in self._watches)

    @property
    def last_activity(self) -> float | None:
        """When the server last answered the watch that has been silent for longest, by the monotonic clock."""
        moments = [watch.last_activity for watch in self._watches]
        return None if None in moments else min(moment for moment in moments if moment is not None)
