"""`python -m kronos_trainer launch`: the ranks of one node, started through torchrun's own API.

torchrun ends with 1 whatever its ranks ended with, kills them 30 seconds after SIGTERM, and lets ranks that are blocked
in a collective wait as long for a dead one. This launcher ends with the cause and keeps the contract's times, whatever
the release of torch from 2.6 on.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from kronos_trainer.config import CAUSE_ORDER, ExitCode, RunConfig, gang_cause, load_run
from kronos_trainer.progress import Progress

GRACE_MARGIN = 10  # seconds of the grace period that are kept for ending after the ranks have
CRASH_PATIENCE = 5.0  # seconds for the other ranks after one has failed
RENDEZVOUS_SECONDS = 600.0  # torchrun's own default; PET_RDZV_CONF may say another

# The shell records the rank's process before it becomes that process. torchrun's template makes $$ of $$$$, and starts
# ranks in sessions of their own: neither Ctrl-C nor a signal to the launcher's process group reaches them.
_START_RANK = 'echo $$$$ > "$KRONOS_CAUSE_DIR/pid-$RANK" && exec "$0" "$@"'


class _Signalled(BaseException):
    """SIGTERM or SIGINT arrived, and the ranks have had their time."""


class _Apart(Exception):
    """The nodes did not come together in time: nothing was trained, and nothing was lost."""


class _Stop:
    """The handler of both signals. After the first the ranks have `patience` seconds; a SIGINT that follows ends it."""

    def __init__(self, ranks: _Ranks, patience: float) -> None:
        self.in_time = False
        self._ranks = ranks
        self._patience = patience
        self._began = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._began and number != signal.SIGINT:
            return
        if not self._began:
            self._began = True
            self.in_time = self._ranks.stop(self._patience)
        self._ranks.end()  # or torchrun would wait for them, by its own time
        raise _Signalled


def main(arguments: Sequence[str]) -> int:
    """Runs the stage of a run.json on this node and returns the exit code of the gang."""
    parser = argparse.ArgumentParser(prog="python -m kronos_trainer launch", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the run config of one stage")
    parser.add_argument("--nproc", type=int, help="processes on this node; default PET_NPROC_PER_NODE, the GPUs, or 1")
    options = parser.parse_args(arguments)
    try:
        run = load_run(options.run)
    except ValueError as error:
        print(error, file=sys.stderr)
        return ExitCode.CONFIG
    command = [sys.executable, "-u", "-m", "kronos_trainer", "--run", str(options.run)]
    return launch(run, command, processes=options.nproc)


def launch(run: RunConfig, command: Sequence[str], *, processes: int | None = None) -> int:
    """Starts `command` once per rank of this node, waits for all of them and returns the gang's exit code.

    Each rank leaves its exit code as text in `$KRONOS_CAUSE_DIR/rank-<RANK>`; one that does not has crashed. The nodes
    are described by torchrun's PET_* variables; without them there is one. The first node must listen within the
    rendezvous' timeout.
    """
    with tempfile.TemporaryDirectory(prefix="kronos-launch-") as scratch:
        ranks = _Ranks(Path(scratch))
        stop = _Stop(ranks, run.grace_seconds - GRACE_MARGIN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        exit_codes: dict[int, int] = {}
        try:
            _wait_for_master(os.environ)
            threading.Thread(target=ranks.end_after_failure, daemon=True).start()
            exit_codes = _torchrun(command, processes, Path(scratch), stop)
        except _Signalled:
            pass
        except _Apart as error:
            print(error, file=sys.stderr)
            return ExitCode.STOPPED
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            ranks.end()
        # A rank that SIGTERM ends before it is ready to save has lost nothing; one that had to be killed has.
        return _cause(run, ranks.codes(), exit_codes, stopped=stop.in_time)


def _torchrun(command: Sequence[str], processes: int | None, scratch: Path, stop: _Stop) -> dict[int, int]:
    """Runs the ranks to their end. Returns the exit codes of those that failed, the first to fail first."""
    # Read when torch is loaded, here and in the ranks: its warnings of a peer's closed connection, which is how every
    # gang ends, would stand beside the message of the rank that is the cause.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch.distributed import DistStoreError
    from torch.distributed.elastic.multiprocessing import api
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, get_args_parser

    # torchrun's warnings and tracebacks would bury the message of the rank that is the cause.
    logging.disable(logging.CRITICAL)
    count = processes or _default_processes(os.environ)
    os.environ["KRONOS_CAUSE_DIR"] = str(scratch)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    options = get_args_parser().parse_args(["--no-python", "--log-dir", str(scratch / "torchrun"), "/bin/sh"])
    options.nproc_per_node = str(count)
    options.max_restarts = 0
    if _nodes(os.environ) == 1:
        options.nnodes, options.node_rank = "1", 0
        options.rdzv_backend, options.rdzv_endpoint, options.rdzv_id = "c10d", "localhost:0", uuid.uuid4().hex
        options.local_addr = "localhost"
    config, shell, _ = config_from_args(options)
    # torchrun replaces the handlers of signals by this one, and only recent releases of it can be told to leave them.
    api._terminate_process_handler = stop  # type: ignore[assignment]
    try:
        elastic_launch(config, shell)("-c", _START_RANK, *command)
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    except DistStoreError as error:
        raise _Apart(f"the nodes did not come together: {error} Is every pod running?") from error
    except (RuntimeError, OSError) as error:
        print(f"the ranks of this node could not be started: {error}", file=sys.stderr)
    return {}


def _cause(run: RunConfig, recorded: Mapping[int, int | None], exit_codes: Mapping[int, int], *, stopped: bool) -> int:
    """The gang's exit code; speaks for a rank that crashed without a word."""
    default = ExitCode.STOPPED if stopped else ExitCode.CRASHED
    if not recorded:
        return default
    codes = {rank: default if code is None else code for rank, code in recorded.items()}
    if not stopped and any(code != ExitCode.DONE and code not in CAUSE_ORDER for code in codes.values()):
        # torchrun sends the others SIGTERM when one has crashed; their 75 is no stop from outside.
        codes = {rank: ExitCode.CRASHED if code == ExitCode.STOPPED else code for rank, code in codes.items()}
    cause = gang_cause(list(codes.values()))
    first = next((rank for rank in [*exit_codes, *recorded] if codes.get(rank) == cause), 0)
    if cause == default == ExitCode.CRASHED and recorded.get(first) is None:
        Progress(run).error(ExitCode.CRASHED, f"rank {first} {_end(exit_codes.get(first))} without saying why")
    elif cause != ExitCode.DONE:
        print(f"rank {first} ended with exit code {cause}", file=sys.stderr)
    return cause


def _end(exit_code: int | None) -> str:
    if exit_code is None:
        return "had to be killed"
    return f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with exit code {exit_code}"


class _Ranks:
    """The ranks of this node, seen through what they leave in the scratch directory: `pid-<RANK>`, `rank-<RANK>`."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._over = threading.Event()

    def codes(self) -> dict[int, int | None]:
        """The exit code that each rank that was started has left; None where it left none."""
        return {rank: self._code(rank) for rank in self._pids()}

    def end_after_failure(self) -> None:
        """Waits for a rank to fail, and ends those that are still there after CRASH_PATIENCE."""
        while not self._over.wait(0.1):
            if any(self._failed(rank, pid) for rank, pid in self._pids().items()):
                if not self._over.wait(CRASH_PATIENCE):
                    self.end()
                return

    def stop(self, patience: float) -> bool:
        """Sends SIGTERM and waits, at most `patience` seconds; whether all that were running have ended by then."""
        end = time.monotonic() + patience
        self._signal(signal.SIGTERM)
        while any(_runs(pid) for pid in self._pids().values()):
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        return True

    def end(self) -> None:
        """Kills what is still running."""
        self._over.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids().values():
            if _runs(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _failed(self, rank: int, pid: int) -> bool:
        gone = not _runs(pid)  # asked first, since a rank leaves its code just before it ends
        code = self._code(rank)
        return gone if code is None else code != ExitCode.DONE

    def _pids(self) -> dict[int, int]:
        return {
            int(path.name.removeprefix("pid-")): int(text)
            for path in sorted(self._scratch.glob("pid-*"))
            if (text := path.read_text().strip())
        }

    def _code(self, rank: int) -> int | None:
        try:
            return int((self._scratch / f"rank-{rank}").read_text())
        except (FileNotFoundError, ValueError):
            return None


def _runs(pid: int) -> bool:
    """Whether a child is still running; it is neither reaped nor waited for, which is torchrun's business."""
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


def _nodes(environ: Mapping[str, str]) -> int:
    return int(environ.get("PET_NNODES", "1").split(":")[-1])


def _default_processes(environ: Mapping[str, str]) -> int:
    """PET_NPROC_PER_NODE if it is a number, else one process per GPU, else one."""
    text = environ.get("PET_NPROC_PER_NODE", "")
    if text.isdigit():
        return max(1, int(text))
    import torch

    return max(1, torch.cuda.device_count())


def _rendezvous_seconds(environ: Mapping[str, str]) -> float:
    """`timeout` of PET_RDZV_CONF, which is a list like `timeout=1800,is_host=0`; seconds."""
    found = re.search(r"(?:^|,)\s*timeout\s*=\s*(\d+)", environ.get("PET_RDZV_CONF", ""))
    return float(found[1]) if found else RENDEZVOUS_SECONDS


def _wait_for_master(environ: Mapping[str, str]) -> None:
    """Waits until the first node accepts connections. Raises _Apart if it does not in time."""
    if _nodes(environ) == 1 or environ.get("PET_NODE_RANK", "0") == "0" or "PET_MASTER_ADDR" not in environ:
        return
    address = (environ["PET_MASTER_ADDR"], int(environ.get("PET_MASTER_PORT", "29500")))
    deadline = _rendezvous_seconds(environ)
    end = time.monotonic() + deadline
    while True:
        try:
            socket.create_connection(address, timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= end:
                raise _Apart(
                    f"the first node does not answer at {address[0]}:{address[1]} after {deadline:g} s ({error}); "
                    "is its pod running, and does PET_MASTER_ADDR name it?"
                ) from error
        time.sleep(0.5)
