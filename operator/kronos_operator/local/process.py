"""A trainer as a child process: its output becomes a log and events, its end an exit code. Used by the executor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from kronos_operator.local.writing import storing
from kronos_trainer.config import ErrorEvent, Event, ProgressEvent, ResultEvent, StorageCause, not_written, parse_line


class Trainer:
    """One attempt's process. It leads a session of its own, so that Ctrl-C at a terminal does not reach it.

    A process that is given several stages has an attempt for each. Where the result of one is heard, its output waits
    for the `next` attempt to read on.
    """

    def __init__(
        self,
        process: subprocess.Popen[str],
        log: Path,
        stream: IO[str],
        *,
        on_event: Callable[[Event], None],
        on_change: Callable[[], None],
        goes_on: bool = False,
    ) -> None:
        self._process = process
        self._log = stream
        self._log_path = log
        self.unlogged = ""  # why the log cannot be written
        self._on_event = on_event
        self._on_change = on_change
        self._more = goes_on  # stages
        self.started_at = self.reported_at = time.time()
        self.has_progress = False
        self.error = ""  # what the trainer gave as its reason to fail
        self.cause = ""  # its word for it, where it has one
        self._last_line = ""
        self._complete = False  # the stage's result was heard
        self._ended: int | None = None  # exit code of the process
        self.terminated_at: float | None = None
        self._decided = threading.Event()  # whether there is a next attempt
        self._before: Trainer | None = None
        self._next: Trainer | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        log: Path,
        on_event: Callable[[Event], None],
        on_change: Callable[[], None],
        goes_on: bool,
    ) -> Trainer:
        """Starts the process. `goes_on`: it is given another stage after this one. Raises LocalError, OSError."""
        stream = _opened(log)
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        return cls(process, log, stream, on_event=on_event, on_change=on_change, goes_on=goes_on)

    def next(self, log: Path) -> Trainer:
        """The attempt at the next stage, of the same process. To be called while that `goes_on`. Raises LocalError."""
        following = Trainer(self._process, log, _opened(log), on_event=self._on_event, on_change=self._on_change)
        following._before = self
        self._next = following
        return following

    @property
    def pid(self) -> int:
        """Process id of the launcher."""
        return self._process.pid

    @property
    def goes_on(self) -> bool:
        """Whether the stage is complete and the process at the next one, which nobody has asked it not to be."""
        return self._more and self._complete and self.terminated_at is None

    @property
    def exit_code(self) -> int | None:
        """That of this attempt, None until it has ended."""
        if self.goes_on:
            return 0
        # A process that was stopped after the stage has another code, of a stage that was not to begin.
        return 0 if self._more and self._complete and self._ended is not None else self._ended

    @property
    def reason(self) -> str:
        """Why it failed: the trainer's own words, else the last line of its output."""
        return self.unlogged or self.error or self._last_line

    @property
    def meets_it_again(self) -> bool:
        """Whether it failed for a reason that a new start would meet again at once."""
        return bool(self.unlogged) or self.cause in list(StorageCause)

    def watch(self) -> None:
        """Begin to read its output."""
        if self._before is None:
            self._reader.start()
        else:
            self._before._decided.set()

    def note(self, event: Event) -> None:
        """Put one of the executor's own events into the log as well."""
        self._write(json.dumps(event.wire) + "\n")
        self._on_event(event)

    def terminate(self) -> None:
        """Ask it to save and end; asked once, however often this is called."""
        if self.terminated_at is None and self._process.poll() is None:
            self.terminated_at = time.time()
            self._process.send_signal(signal.SIGTERM)
        self._decided.set()

    def kill(self) -> None:
        """End it and everything that it started."""
        self._decided.set()
        if self._process.poll() is not None:
            return
        for pid in _family(self._process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        """Close the log."""
        with suppress(OSError):
            self._log.close()

    def _write(self, line: str) -> None:
        """Adds to the log. One that cannot be written ends the attempt: what nobody can follow is not trained."""
        if self.unlogged:
            return
        try:
            self._log.write(line)
        except OSError as error:
            self.unlogged = not_written(self._log_path, error)
            self.terminate()

    def _read(self) -> None:
        """Reads to the end of the process, or of the stage where the next attempt reads on."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if self._more and self._complete:
                continue  # of a stage that was not to begin
            self._write(line)
            events = list(parse_line(line))
            if not events:
                self._last_line = line.strip() or self._last_line
            for event in events:
                self._hear(event)
            if self._more and self._complete:
                self._on_change()
                self._decided.wait()
                if self._next is not None:
                    self._next._read()
                    return
        code = self._process.wait()
        self._process.stdout.close()
        self._ended = code if code >= 0 else 128 - code
        self._on_change()

    def _hear(self, event: Event) -> None:
        self.reported_at = time.time()
        if isinstance(event, ProgressEvent):
            self.has_progress = self.has_progress or bool(event.step)
        elif isinstance(event, ErrorEvent):
            self.error, self.cause = event.message, event.cause
        self._on_event(event)
        if isinstance(event, ResultEvent):
            self._complete = True  # once it was told: what follows may be told by another thread


def _opened(log: Path) -> IO[str]:
    """Raises LocalError (74)."""
    with storing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("a", buffering=1)


def _family(pid: int) -> list[int]:
    """The process and all its descendants: torchrun's ranks lead sessions of their own and are in no common group."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def _parents() -> Iterator[tuple[int, int]]:
    """Every process with its parent."""
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    if not stats:  # macOS; slim Linux images in turn have no ps
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        yield from ((int(child), int(parent)) for child, parent in map(str.split, listing.splitlines()))
    for stat in stats:
        with suppress(OSError):  # it ended meanwhile
            # "pid (name) state ppid ...", where the name may hold anything.
            yield int(stat.parent.name), int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
