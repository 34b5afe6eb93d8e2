"""`python -m kronos_trainer launch`: the ranks of one node, started through torchrun's own API.

torchrun exits with 1 whatever its ranks exited with, kills them 30 seconds after SIGTERM, and lets ranks that are
blocked in a collective wait as long for a dead one. This launcher exits with the cause, writes it as the container's
termination message, and keeps the contract's times, with every release of torch from 2.6 on.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Unpack

from kronos_trainer.arguments import Arguments
from kronos_trainer.config import (
    CAUSE_ORDER,
    ErrorEvent,
    ExitCode,
    RunConfig,
    StopCause,
    gang_cause,
    load_run,
)
from kronos_trainer.errors import StorageError
from kronos_trainer.launch import last_report, rendezvous
from kronos_trainer.launch.local_ranks import LocalRanks
from kronos_trainer.launch.memory import Memory, gibibytes, memory
from kronos_trainer.launch.torchrun import Torchrun
from kronos_trainer.stopping import StopSignal
from kronos_trainer.storage import durable
from kronos_trainer.training import termination
from kronos_trainer.training.progress import Ending, Progress

GRACE_MARGIN = 10  # seconds of the grace period that are kept for ending after the ranks have
CRASH_PATIENCE = 5.0  # seconds for the other ranks after one has failed
ROOM = 64 * 1024  # bytes that the ranks' last words may need


def main(arguments: Sequence[str], stop: StopSignal) -> int:
    """Runs the stages of run configs on this node and returns the exit code of the gang."""
    parser = Arguments(prog="python -m kronos_trainer launch", description=__doc__)
    parser.add_argument(
        "--run",
        type=Path,
        action="append",
        required=True,
        help="the run config of one stage; given again, of the next, which the same processes go on with",
    )
    parser.add_argument(
        "--nproc",
        type=int,
        help="processes on this node; default PET_NPROC_PER_NODE, the GPUs, or 1, and always 1 for a stage of scores",
    )
    options = parser.parse_args(arguments)
    try:
        run, *then = [load_run(file) for file in options.run]
    except ValueError as error:
        print(error, file=sys.stderr)
        return ExitCode.CONFIG
    command = [sys.executable, "-u", "-m", "kronos_trainer"]
    for file in options.run:
        command += ["--run", str(file)]
    return launch(run, command, stop, processes=options.nproc if run.stage.has_weights else 1, then=then)


def launch(
    run: RunConfig,
    command: Sequence[str],
    stop: StopSignal,
    *,
    processes: int | None = None,
    then: Sequence[RunConfig] = (),
) -> int:
    """Starts `command` once per rank of this node, waits for all of them and returns the gang's exit code.

    Each rank leaves its exit code (see `rank_files`); one that does not has crashed. The nodes are described by
    torchrun's PET_* variables; without them there is one. The first node must listen within the rendezvous' timeout.
    The ranks go on with the stages of `then`; how they end is told of the stage that they are at.
    """
    progress = Progress(run, silent=not rendezvous.is_first(os.environ))
    progress.phase("starting")  # before torch is imported: who waits for a sign of life has one
    before = memory()
    try:
        with _scratch() as scratch:
            ranks = LocalRanks(scratch)
            torchrun = Torchrun(command, processes, scratch)
            stopped = _attend(ranks, torchrun, stop, progress, run.grace_seconds - GRACE_MARGIN)
            ranks.end()
            run = [run, *then][ranks.stage]
            ending = _Ending(run, ranks, torchrun, before, stopped=stopped)
            code, message = ending.spoken(), ending.message
    except StorageError as error:
        progress.error(error.exit_code, str(error), cause=error.cause)
        code, message = error.exit_code, str(error)
    if code not in (ExitCode.DONE, ExitCode.STOPPED) and rendezvous.is_first(os.environ) and not stop.urgent:
        last_report.leave(run, message)
    return code


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory for messages of ranks to their launcher. Raises StorageError if it cannot be created."""
    with ExitStack() as stack:
        with durable.storing(Path(os.environ.get("TMPDIR", "/tmp"))):
            directory = tempfile.TemporaryDirectory(prefix="kronos-launch-", ignore_cleanup_errors=True)
            scratch = Path(stack.enter_context(directory))
            # A rank that cannot leave its process id does not start, and cannot report why.
            probe = scratch / "room"
            probe.write_bytes(bytes(ROOM))
            probe.unlink()
        yield scratch


def _attend(ranks: LocalRanks, torchrun: Torchrun, stop: StopSignal, progress: Progress, patience: float) -> bool:
    """Starts the ranks and returns when all have ended, or are to end; whether they were stopped without loss."""
    failed_at: float | None = None
    if not stop.requested:
        torchrun.start()
    while torchrun.is_alive() and not stop.requested:
        if not ranks.any_started:
            progress.beat()  # until then torch is imported, and other nodes are waited for, which ends by itself
        if failed_at is None and ranks.failures():
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at >= CRASH_PATIENCE:
            ranks.end()
        torchrun.join(0.1)
    if not stop.requested:
        return False
    # Those that are left after a crash get no longer than without a stop, and their end is no stop.
    crashed = any(code != ExitCode.STOPPED for code in ranks.failures())
    return ranks.stop(CRASH_PATIENCE if crashed else patience, lambda: stop.urgent) and not crashed


class _Ending:
    """The cause of a node's end, from the files of its ranks."""

    def __init__(self, run: RunConfig, ranks: LocalRanks, torchrun: Torchrun, before: Memory, *, stopped: bool) -> None:
        self._run = run
        self._ranks = ranks
        self._torchrun = torchrun
        self._before = before
        self._stopped = stopped
        self.message = ""  # why it failed, once it was spoken

    def spoken(self) -> int:
        """Reports the cause if no rank has, writes it as the termination message, and returns the exit code."""
        recorded = {
            rank: self._process_code(rank) if code is None else code for rank, code in self._ranks.codes().items()
        }
        if not recorded:
            return self._without_ranks()
        codes = self._codes(recorded)
        cause = gang_cause(list(codes.values()))
        if cause == ExitCode.DONE:
            words = self._ranks.last_words(0)
            if words is not None:
                termination.leave(termination.place(), words)
            return cause
        those = [rank for rank in dict.fromkeys([*self._torchrun.exit_codes, *recorded]) if codes.get(rank) == cause]
        killed = [rank for rank in those if self._was_killed(rank, recorded)]
        if killed:
            return self._for_silent(killed[0], cause, recorded)
        for rank in those:
            words = self._ranks.last_words(rank)
            if isinstance(words, ErrorEvent) and words.exit_code == cause:
                termination.leave(termination.place(), words)
                self.message = words.message
                print(f"rank {rank} ended with exit code {cause}", file=sys.stderr)
                return cause
        return self._for_silent(those[0], cause, recorded)

    def _was_killed(self, rank: int, recorded: Mapping[int, int | None]) -> bool:
        """Whether a signal from elsewhere has ended a rank: others only know that they have lost it."""
        signalled = self._torchrun.exit_codes.get(rank, 0) < 0 and recorded.get(rank) is None
        return signalled and self._torchrun.exit_codes[rank] != -signal.SIGTERM and rank not in self._ranks.killed

    def _process_code(self, rank: int) -> int | None:
        """The process exit code of a rank that could not write its own, because the disk was full."""
        code = self._torchrun.exit_codes.get(rank)
        return code if code in CAUSE_ORDER else None

    def _without_ranks(self) -> int:
        torchrun = self._torchrun
        if self._stopped:
            self._error(ExitCode.STOPPED, "stopped on request before any rank had started", cause=StopCause.STOPPED)
            return ExitCode.STOPPED
        if torchrun.error is not None:
            self._error(torchrun.error.exit_code, str(torchrun.error), cause=torchrun.error.cause)
            return torchrun.error.exit_code
        self._error(ExitCode.CRASHED, f"the ranks of this node could not be started: {torchrun.failure}")
        return ExitCode.CRASHED

    def _error(self, code: ExitCode, message: str, **known: Unpack[Ending]) -> None:
        self.message = message
        Progress(self._run).error(code, message, **known)

    def _codes(self, recorded: Mapping[int, int | None]) -> dict[int, int]:
        """The exit code of each rank, even of those that wrote none."""
        # A rank that SIGTERM ends before it is ready to save has lost nothing; one that had to be killed has.
        default = ExitCode.STOPPED if self._stopped else ExitCode.CRASHED
        codes = {rank: int(default if code is None else code) for rank, code in recorded.items()}
        codes |= {rank: int(ExitCode.MEMORY_LIMIT) for rank in self._killed_for_memory(recorded)}
        if not self._stopped and any(code != ExitCode.DONE and code not in CAUSE_ORDER for code in codes.values()):
            # torchrun sends the others SIGTERM when one has crashed; their 75 is no stop from outside.
            return {rank: int(ExitCode.CRASHED) if code == ExitCode.STOPPED else code for rank, code in codes.items()}
        return codes

    def _killed_for_memory(self, recorded: Mapping[int, int | None]) -> list[int]:
        """Ranks that ended by a SIGKILL from elsewhere, if the kernel has killed for lack of memory meanwhile."""
        kills, before = memory().kills, self._before.kills
        if kills is None or before is None or kills <= before:
            return []
        return [
            rank
            for rank, code in self._torchrun.exit_codes.items()
            if code == -signal.SIGKILL and recorded.get(rank) is None and rank not in self._ranks.killed
        ]

    def _for_silent(self, rank: int, cause: int, recorded: Mapping[int, int | None]) -> int:
        """Reports a failed rank that has not reported its own error."""
        if cause == ExitCode.MEMORY_LIMIT:
            now = memory()
            self._error(ExitCode.MEMORY_LIMIT, _lack(rank, now), limit_bytes=now.limit, peak_bytes=now.peak)
        elif cause == ExitCode.STOPPED and recorded[rank] is None:
            message = "stopped on request before training began; there was nothing to save"
            self._error(ExitCode.STOPPED, message, cause=StopCause.STOPPED)
        elif recorded[rank] is None:
            end = _end(self._torchrun.exit_codes.get(rank))
            self._error(ExitCode.CRASHED, f"rank {rank} {end} without an error message")
        else:
            self.message = f"rank {rank} ended with exit code {cause}"
            print(self.message, file=sys.stderr)
        return cause


def _lack(rank: int, now: Memory) -> str:
    peak = "" if now.peak is None else f", the peak including page cache was {gibibytes(now.peak)}"
    owner = "the limit is" if now.limited else "this machine has"
    more = "raise resources.memory, or" if now.limited else "stop other processes, or"
    remedy = f"{more} lower resources.processesPerNode or microBatchSize"
    return f"rank {rank} was killed for lack of memory: {owner} {gibibytes(now.limit)}{peak}; {remedy}"


def _end(exit_code: int | None) -> str:
    if exit_code is None:
        return "had to be killed"
    return f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with exit code {exit_code}"
