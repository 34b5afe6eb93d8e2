"""One `kronos run` at a time for a model: taken before anything is written, and named to the next one.

A file lock shows whether the holder is alive, also after a SIGKILL. Where results lie on a network file
system whose locks do not reach other machines, the age of the holder's file does: it is touched all the time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from kronos_operator.local.settings import LocalError
from kronos_operator.local.writing import storing, write
from kronos_trainer.config import ExitCode, RunPaths, StageName, now_text

TOUCHED_EVERY = 10.0  # seconds
GONE_AFTER = 60.0  # seconds without a touch
ORPHAN_PATIENCE = 30.0  # seconds for a trainer whose `kronos run` was killed: it saves and ends by itself

_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_TRIES, _BETWEEN = 10, 0.1  # a holder writes down who it is just after it has the lock, and `status` looks at it


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The command that runs a model."""

    run: str
    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}, run {self.run}"


@contextmanager
def holding(paths: RunPaths, model: str, note: Callable[[str], None] = lambda message: None) -> Iterator[None]:
    """Keeps other commands from running the model. Raises LocalError (74) naming who runs it, having written nothing.

    `model` is its name for people. `note` receives what is waited for.
    """
    with storing(paths.model_dir):
        paths.model_dir.mkdir(parents=True, exist_ok=True)
        stream = _lock_file(paths).open("a")
    with stream:
        _take(stream, paths, model)
        _wait_for_trainer(paths, note)
        mine = Holder(run=paths.run_dir.name, pid=os.getpid(), host=socket.gethostname(), since=now_text("seconds"))
        write(json.dumps(asdict(mine)) + "\n", _holder_file(paths))
        if _read(paths) != mine:  # locks do not reach the machine of one that came in the same moment
            raise _refusal(model, _read(paths))
        released = threading.Event()
        toucher = threading.Thread(target=_touch, args=(_holder_file(paths), released), daemon=True)
        toucher.start()
        try:
            yield
        finally:
            released.set()
            toucher.join()
            with suppress(OSError):
                _holder_file(paths).unlink()


def holder_of(paths: RunPaths) -> Holder | None:
    """The command of this machine that runs the model now, None without one."""
    holder = _read(paths)
    if holder is None or holder.host != socket.gethostname() or not _lives(holder.pid):
        return None
    try:
        with _lock_file(paths).open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder
    except OSError as error:
        return holder if error.errno in _NO_FLOCK else None
    return None


def _take(stream: IO[str], paths: RunPaths, model: str) -> None:
    for attempt in range(_TRIES):
        locked = _locked(stream, paths)
        holder = _read(paths)
        if locked:
            if holder is not None and _is_elsewhere(holder, paths):
                raise _refusal(model, holder)
            return
        if holder is not None and (holder.host != socket.gethostname() or _lives(holder.pid)):
            raise _refusal(model, holder)
        if locked is None:  # this file system has no locks, and the holder is gone
            return
        if attempt + 1 < _TRIES:
            time.sleep(_BETWEEN)
    raise _refusal(model, None)


def _locked(stream: IO[str], paths: RunPaths) -> bool | None:
    """Whether the lock was free, and is ours now; None where there are no locks."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return None
        raise LocalError(ExitCode.STORAGE, f"cannot lock {_lock_file(paths)}: {error.strerror}") from error
    return True


def _is_elsewhere(holder: Holder, paths: RunPaths) -> bool:
    """Whether the holder lives on another machine, by the clock of the file system."""
    if holder.host == socket.gethostname():
        return False  # its lock was free
    with suppress(OSError):
        os.utime(_lock_file(paths))
        age = _lock_file(paths).stat().st_mtime - _holder_file(paths).stat().st_mtime
        return age < GONE_AFTER
    return False


def _wait_for_trainer(paths: RunPaths, note: Callable[[str], None]) -> None:
    """Returns when no trainer holds the model. One that a killed command has left ends by itself; others are named."""
    deadline, noted = time.monotonic() + ORPHAN_PATIENCE, False
    while (rank := _training(paths)) is not None:
        if time.monotonic() >= deadline or not _was_started_here(rank, paths):
            raise LocalError(
                ExitCode.STORAGE,
                f"is already being trained by process {rank.get('pid', '?')} on {rank.get('host', '?')}, since "
                f"{rank.get('since', '?')}, run {rank.get('run', '?')}, which was not started by a kronos command, "
                "or whose command was killed; wait for it or stop it",
            )
        if not noted:
            note(f"waiting for process {rank.get('pid', '?')}, left behind by a killed command, to save and exit")
            noted = True
        time.sleep(0.2)


def _training(paths: RunPaths) -> dict[str, Any] | None:
    """What the rank that holds the model's lock wrote there, None without one."""
    try:
        with paths.flock.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _document(paths.lock)
    except OSError:
        return None
    return None


def _was_started_here(rank: dict[str, Any], paths: RunPaths) -> bool:
    try:
        return paths.log(rank["run"], StageName(rank["stage"]), rank["attempt"]).exists()
    except (KeyError, ValueError):
        return False


def _refusal(model: str, holder: Holder | None) -> LocalError:
    who = "another command" if holder is None else str(holder)
    name = model.rpartition("/")[2]
    elsewhere = holder is not None and holder.host != socket.gethostname()
    way_out = (
        f"if that process is gone, run this again in {GONE_AFTER:.0f} s"
        if elsewhere
        else f"follow it with `kronos logs -f {name}`, or save and stop it with `kronos suspend {name}`"
    )
    return LocalError(ExitCode.STORAGE, f"is already being trained by {who}; {way_out}")


def _touch(file: Path, released: threading.Event) -> None:
    while not released.wait(TOUCHED_EVERY):
        with suppress(OSError):
            os.utime(file)


def _read(paths: RunPaths) -> Holder | None:
    document = _document(_holder_file(paths))
    try:
        return Holder(**document)
    except TypeError:
        return None


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lock_file(paths: RunPaths) -> Path:
    return paths.model_dir / "command.flock"


def _holder_file(paths: RunPaths) -> Path:
    return paths.model_dir / "command.json"
