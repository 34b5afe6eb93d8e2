"""One run at a time in a model's directory. Taken by rank 0 before it writes anything there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import IO, Any

from kronos_trainer.config import RunConfig, RunPaths, StorageCause, now_text
from kronos_trainer.errors import StorageError
from kronos_trainer.storage import durable

# File systems without flock answer with one of these; there the fence alone protects.
_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class ModelLock:
    """The lock while it is held."""

    def __init__(self, path: Path, holder: dict[str, Any]) -> None:
        self._path = path
        self._holder = holder

    def still_mine(self) -> None:
        """Raises StorageError if another attempt has taken over. To be called before every checkpoint.

        A node that was given up may come back without its file lock; its trainer must not write any more.
        """
        holder = _read(self._path)
        if holder != self._holder:
            raise StorageError(
                f"{_described(holder)} has taken over {self._path.parent}; attempt {self._holder['attempt']} "
                "exits without writing"
            )


@contextmanager
def model_lock(paths: RunPaths, run: RunConfig) -> Iterator[ModelLock]:
    """Holds the model's directory for this run.

    Raises StorageError naming the holder if another process has it, or if a higher attempt at the same stage has run.
    """
    durable.make_directory(paths.model_dir)
    # The locked file is never replaced, unlike the holder's: a lock stays with the inode.
    with occupied(paths.flock, lambda: _described(_read(paths.lock))):
        refuse_if_late(run, _read(paths.lock), str(paths.model_dir))
        holder = {
            "run": run.run,
            "stage": run.stage.value,
            "attempt": run.attempt,
            "modelCreated": _created(run),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": now_text(),
        }
        durable.write_json(paths.lock, holder)
        # The holder's file stays after the lock is released: it is what fences off a lower attempt that starts late.
        yield ModelLock(paths.lock, holder)


@contextmanager
def command_lock(paths: RunPaths) -> Iterator[None]:
    """Holds the model's directory, which must exist, for a command that trains nothing.

    Unlike an attempt it leaves no trace: what fences off late attempts stays. Raises StorageError naming the holder if
    another process has the directory.
    """
    with occupied(paths.flock, lambda: _described(_read(paths.lock))):
        yield


@contextmanager
def occupied(lock_file: Path, holder: Callable[[], str] = lambda: "another process") -> Iterator[None]:
    """Holds a file's lock. Raises StorageError, with the name that `holder` gives, if another process has it."""
    with durable.storing(lock_file):
        handle = lock_file.open("a")
    with handle:
        if not _acquire(handle, lock_file):
            raise StorageError(
                f"{holder()} is writing to {lock_file.parent}; wait for it or stop it first", StorageCause.OCCUPIED
            )
        yield


def refuse_if_late(run: RunConfig, last: dict[str, Any], place: str) -> None:
    """Raises StorageError if the last holder of `place` was a higher attempt at the same stage of the same run.

    The attempts of a recreated KronosModel come after all of the earlier object's.
    """
    same = (last.get("run"), last.get("stage")) == (run.run, run.stage.value)
    if same and (last.get("modelCreated", ""), last["attempt"]) > (_created(run), run.attempt):
        raise StorageError(f"attempt {run.attempt} is outdated: {_described(last)} has already used {place}")


def _acquire(handle: IO[str], path: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise StorageError(f"cannot lock {path}: {error.strerror}") from error
    return True


def _created(run: RunConfig) -> str:
    return "" if run.model_created is None else run.model_created.astimezone(UTC).isoformat()


def _read(path: Path) -> dict[str, Any]:
    try:
        holder = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _described(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return (
        f"run {holder['run']}, stage {holder['stage']}, attempt {holder['attempt']} "
        f"(host {holder['host']}, process {holder['pid']}, since {holder['since']})"
    )
