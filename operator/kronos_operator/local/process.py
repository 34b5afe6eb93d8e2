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

from kronos_operator.local.writing import storing
from kronos_trainer.config import ErrorEvent, Event, ProgressEvent, StorageCause, not_written, parse_line


class Trainer:
    """One attempt's process. It leads a session of its own, so that Ctrl-C at a terminal does not reach it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        log: Path,
        on_event: Callable[[Event], None],
        on_end: Callable[[], None],
    ) -> None:
        with storing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            self._log = log.open("a", buffering=1)
        self._log_path = log
        self.unlogged = ""  # why the log cannot be written
        self._on_event = on_event
        self._on_end = on_end
        self.started_at = self.reported_at = time.time()
        self.has_progress = False
        self.error = ""  # what the trainer gave as its reason to fail
        self.cause = ""  # its word for it, where it has one
        self._last_line = ""
        self.exit_code: int | None = None
        self.terminated_at: float | None = None
        self._process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)

    @property
    def pid(self) -> int:
        """Process id of the launcher."""
        return self._process.pid

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
        self._reader.start()

    def note(self, event: Event) -> None:
        """Put one of the executor's own events into the log as well."""
        self._write(json.dumps(event.wire) + "\n")
        self._on_event(event)

    def terminate(self) -> None:
        """Ask it to save and end; asked once, however often this is called."""
        if self.terminated_at is None and self._process.poll() is None:
            self.terminated_at = time.time()
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything that it started."""
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
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._write(line)
            events = list(parse_line(line))
            if not events:
                self._last_line = line.strip() or self._last_line
            for event in events:
                self._hear(event)
        code = self._process.wait()
        self._process.stdout.close()
        self.exit_code = code if code >= 0 else 128 - code
        self._on_end()

    def _hear(self, event: Event) -> None:
        self.reported_at = time.time()
        if isinstance(event, ProgressEvent):
            self.has_progress = self.has_progress or bool(event.step)
        elif isinstance(event, ErrorEvent):
            self.error, self.cause = event.message, event.cause
        self._on_event(event)


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
