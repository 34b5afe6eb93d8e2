"""What the trainer says while it runs: one JSON object a line on stdout, read by the CLI and by the operator.

The first node's launcher speaks until its ranks are there, then rank 0 alone. A result or an error is left as the
process's last words too, by every rank.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal, TypedDict, Unpack

from kronos_trainer.config import (
    CheckpointSkippedEvent,
    ErrorEvent,
    Event,
    ExitCode,
    NoteEvent,
    ProgressEvent,
    ResultEvent,
    RunConfig,
    StageResult,
    StopCause,
    StorageCause,
    storage_cause,
    utc_text,
)
from kronos_trainer.storage import strict_json
from kronos_trainer.training import termination

Phase = Literal[
    "starting", "loading", "tokenising", "compiling", "training", "validating", "calibrating", "scoring", "saving"
]


class Measures(TypedDict, total=False):
    """What a ProgressEvent reports beside the phase."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    validation_loss: float
    learning_rate: float
    gradient_norm: float
    samples_per_second: float
    checkpoint: int


class Ending(TypedDict, total=False):
    """What an ErrorEvent reports beside code and message.

    `cause` tells apart what ends with STOPPED or STORAGE, and the bytes are of a MEMORY_LIMIT.
    """

    cause: StopCause | StorageCause | None
    limit_bytes: int | None
    peak_bytes: int | None


class Progress:
    """Reports of one process. `update` and `beat` may be called at every step: they print as often as the run wants."""

    def __init__(
        self,
        run: RunConfig,
        *,
        silent: bool = False,
        stream: IO[str] | None = None,
        termination_log: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.unheard = False  # whoever listened is gone, and nobody would know how this process ends
        self.noted_everywhere = False  # there was a note that holds for every model that is trained from here
        self._whose = {"stage": run.stage.value, "run": run.run, "attempt": run.attempt}
        self._every = run.progress.every_seconds
        self._silent = silent
        self._stream = stream or sys.stdout
        self._termination_log = termination_log or termination.place()
        self._clock = clock
        self._now = now
        self._state: dict[str, object] = {}
        self._printed_at = float("-inf")
        self._first_step: tuple[int, float] | None = None

    def phase(self, name: Phase, **measures: Unpack[Measures]) -> None:
        """Says at once that another phase begins, with what is known then."""
        self._state.update(measures, phase=name)
        self._print_progress("phase")

    def update(self, **measures: Unpack[Measures]) -> None:
        """Takes over what is known now and reports it if it is time.

        Percent and the remaining time follow from step and steps.
        """
        self._state.update(measures)
        if "step" in measures and self._first_step is None:
            self._first_step = (measures["step"], self._clock())
        self.beat()

    def beat(self) -> None:
        """Shows that the process lives; call it in every loop that takes long."""
        if self._clock() - self._printed_at >= self._every:
            self._print_progress("progress")

    def note(self, message: str, *, everywhere: bool = False) -> None:
        """Tells the user something once. `everywhere`: it holds for every model that is trained from here."""
        self.noted_everywhere |= everywhere
        self._print(NoteEvent, "note", message=message, **({"everywhere": True} if everywhere else {}))

    def result(self, result: StageResult) -> None:
        """The stage's result, as the last line."""
        self._print(ResultEvent, "result", result=result.wire)

    def skipped_checkpoint(self, *, step: int, directory: Path, reason: str, message: str) -> None:
        """A checkpoint that is damaged and was passed over; `message` is the whole of it, for people."""
        fields = {"step": step, "directory": str(directory), "reason": reason, "message": message}
        self._print(CheckpointSkippedEvent, "checkpointSkipped", **fields)

    def error(self, code: ExitCode, message: str, **known: Unpack[Ending]) -> None:
        """Why the process ends, as the last line."""
        given = {name: value for name, value in known.items() if value is not None}
        self._print(ErrorEvent, "error", exit_code=int(code), message=message, **given)

    def _print_progress(self, event: Literal["progress", "phase"]) -> None:
        self._printed_at = self._clock()
        self._print(ProgressEvent, event, **self._state, **self._remaining())

    def _remaining(self) -> dict[str, object]:
        step, steps = self._state.get("step"), self._state.get("steps")
        if not isinstance(step, int) or not isinstance(steps, int) or steps <= 0:
            return {}
        remaining: dict[str, object] = {"percent": round(100 * step / steps, 1)}
        if self._first_step is not None and step > self._first_step[0]:
            seconds_per_step = (self._clock() - self._first_step[1]) / (step - self._first_step[0])
            remaining["eta_seconds"] = round(seconds_per_step * (steps - step), 1)
        return remaining

    def _print(self, kind: type[Event], name: str, **fields: object) -> None:
        event = kind.of(name, **self._whose, **fields, time=utc_text(self._now()))
        if not self._silent:
            try:
                # With its end of line at once: print writes that by itself, and the ranks of a pod share one stdout.
                self._stream.write(strict_json.line(event.wire) + "\n")
                self._stream.flush()
            except OSError as error:
                # A log on a full disk must not end the training; results that cannot be kept will, and say so.
                if isinstance(error, BrokenPipeError):
                    self.unheard = True
                elif storage_cause(error) is not StorageCause.NO_ROOM:
                    raise
        if isinstance(event, ResultEvent | ErrorEvent):
            termination.leave(self._termination_log, event)
