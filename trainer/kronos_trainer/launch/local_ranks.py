"""The ranks of this node, observed by their launcher through files in its scratch directory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kronos_trainer.launch import rank_files
from kronos_trainer.training import termination

UNTRAINED_PATIENCE = 3.0  # seconds to stop for a rank that does not train yet; it may be deep in an import
_GO = "go"  # ranks may start while it exists

# Started for each rank. The shell records the rank's process before it becomes that process, and does so before it
# looks whether it still may: one that a stop does not find recorded does not start. torchrun's template makes $$ of
# $$$$, and starts ranks in sessions of their own: neither Ctrl-C nor a signal to the launcher's process group reaches
# them.
START_RANK = (
    f'echo $$$$ > "${rank_files.DIRECTORY}/{rank_files.PROCESS}$RANK" && test -e "${rank_files.DIRECTORY}/{_GO}" '
    f'&& export {termination.VARIABLE}="${rank_files.DIRECTORY}/{rank_files.LAST_WORDS}$RANK" && exec "$0" "$@"'
)


class LocalRanks:
    """The ranks that were started so far."""

    def __init__(self, scratch: Path) -> None:
        self.killed: set[int] = set()  # by us
        self._scratch = scratch
        (scratch / _GO).touch()

    @property
    def any_started(self) -> bool:
        """Whether there is a rank, running or ended."""
        return bool(self._pids())

    @property
    def stage(self) -> int:
        """The number of the run config that the ranks are at: one begins with the next when all are done with this."""
        numbers = [self._number(rank_files.STAGE, rank) for rank in self._pids()]
        return max((number for number in numbers if number is not None), default=0)

    def codes(self) -> dict[int, int | None]:
        """The exit code that each started rank has written; None if it has not."""
        return {rank: self._number(rank_files.EXIT_CODE, rank) for rank in self._pids()}

    def last_words(self, rank: int) -> termination.LastWords | None:
        """The result or error that a rank has reported; None if it has not."""
        return termination.read(self._scratch / f"{rank_files.LAST_WORDS}{rank}")

    def failures(self) -> list[int | None]:
        """The exit codes of the failed ranks, None for one that is gone without writing one."""
        # Whether it is gone is asked first, since a rank leaves its code just before it ends.
        seen = [(not _runs(pid), self._number(rank_files.EXIT_CODE, rank)) for rank, pid in self._pids().items()]
        return [code for gone, code in seen if code != 0 and (gone or code is not None)]

    def stop(self, patience: float, urgent: Callable[[], bool]) -> bool:
        """Sends SIGTERM and waits, at most `patience` seconds and not while `urgent`; starts no more ranks.

        Returns whether all ranks with something to save have ended. Ranks that do not train yet are killed after
        3 seconds: nothing is lost, and they may be waiting for dead ranks.
        """
        self._close()
        began = time.monotonic()
        self._signal(signal.SIGTERM, list(self._pids()))
        while running := [rank for rank, pid in self._pids().items() if _runs(pid)]:
            waited = time.monotonic() - began
            if waited >= patience or urgent():
                return False
            if waited >= UNTRAINED_PATIENCE:
                self._signal(signal.SIGKILL, [rank for rank in running if not self._trains(rank)])
            time.sleep(0.05)
        return True

    def end(self) -> None:
        """Kills what is still running and starts no more."""
        self._close()
        self._signal(signal.SIGKILL, list(self._pids()))

    def _close(self) -> None:
        (self._scratch / _GO).unlink(missing_ok=True)

    def _signal(self, number: signal.Signals, ranks: list[int]) -> None:
        pids = self._pids()
        for rank in ranks:
            if _runs(pids[rank]):
                if number == signal.SIGKILL:
                    self.killed.add(rank)
                with suppress(ProcessLookupError):
                    os.kill(pids[rank], number)

    def _trains(self, rank: int) -> bool:
        return (self._scratch / f"{rank_files.TRAINS}{rank}").exists()

    def _pids(self) -> dict[int, int]:
        return {
            int(path.name.removeprefix(rank_files.PROCESS)): int(text)
            for path in sorted(self._scratch.glob(f"{rank_files.PROCESS}*"))
            if (text := path.read_text().strip())
        }

    def _number(self, name: str, rank: int) -> int | None:
        try:
            return int((self._scratch / f"{name}{rank}").read_text())
        except (FileNotFoundError, ValueError):
            return None


def _runs(pid: int) -> bool:
    """Whether a child is still running; it is neither reaped nor waited for: torchrun does that."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False
