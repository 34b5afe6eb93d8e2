"""What the trainer says while it runs: one JSON object a line on stdout, read by the CLI and by the operator.

The first node's launcher speaks until its ranks are there, then rank 0 alone. A result or an error is left as the
process's last words too, by every rank.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

from pydantic.alias_generators import to_camel

from kronos_trainer.config import ExitCode, RunConfig, StageResult, StorageCause, storage_cause, utc_text
from kronos_trainer.storage import strict_json
from kronos_trainer.training import termination

Phase = Literal["starting", "loading", "tokenising", "compiling", "training", "validating", "scoring", "saving"]


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
        self._common = {"stage": run.stage.value, "run": run.run, "attempt": run.attempt}
        self._every = run.progress.every_seconds
        self._silent = silent
        self._stream = stream or sys.stdout
        self._termination_log = termination_log or termination.place()
        self._clock = clock
        self._now = now
        self._state: dict[str, object] = {}
        self._printed_at = float("-inf")
        self._first_step: tuple[int, float] | None = None

    def phase(self, name: Phase, **fields: object) -> None:
        """Says at once that another phase begins. Fields as for `update`."""
        self._state.update(fields, phase=name)
        self._print_progress("phase")

    def update(self, **fields: object) -> None:
        """Takes over what is known now and reports it if it is time.

        Fields (snake_case, camelCase in the output): epoch, epochs, step, steps, loss, validation_loss, learning_rate,
        gradient_norm, samples_per_second. Percent and the remaining time follow from step and steps.
        """
        self._state.update(fields)
        step = fields.get("step")
        if isinstance(step, int) and self._first_step is None:
            self._first_step = (step, self._clock())
        self.beat()

    def beat(self) -> None:
        """Shows that the process lives; call it in every loop that takes long."""
        if self._clock() - self._printed_at >= self._every:
            self._print_progress("progress")

    def note(self, message: str, *, everywhere: bool = False) -> None:
        """Tells the user something once. `everywhere`: it holds for every model that is trained from here."""
        self._print("note", {"message": message} | ({"everywhere": True} if everywhere else {}))

    def result(self, result: StageResult) -> None:
        """The stage's result, as the last line."""
        self._print("result", {"result": result.wire})

    def skipped_checkpoint(self, *, step: int, directory: Path, reason: str, message: str) -> None:
        """A checkpoint that is damaged and was passed over; `message` is the whole of it, for people."""
        fields = {"step": step, "directory": str(directory), "reason": reason, "message": message}
        self._print("checkpointSkipped", fields)

    def error(self, code: ExitCode, message: str, **fields: object) -> None:
        """Why the process ends, as the last line.

        Fields (snake_case, camelCase in the output; None is left out): `cause`, a StopCause or StorageCause, which
        tells apart what ends with STOPPED or STORAGE, and `limit_bytes` and `peak_bytes` of a MEMORY_LIMIT.
        """
        known = {to_camel(name): value for name, value in fields.items() if value is not None}
        self._print("error", {"exitCode": int(code), "message": message, **known})

    def _print_progress(self, event: str) -> None:
        self._printed_at = self._clock()
        fields = {to_camel(name): value for name, value in self._state.items()}
        self._print(event, fields | self._remaining())

    def _remaining(self) -> dict[str, object]:
        step, steps = self._state.get("step"), self._state.get("steps")
        if not isinstance(step, int) or not isinstance(steps, int) or steps <= 0:
            return {}
        remaining: dict[str, object] = {"percent": round(100 * step / steps, 1)}
        if self._first_step is not None and step > self._first_step[0]:
            seconds_per_step = (self._clock() - self._first_step[1]) / (step - self._first_step[0])
            remaining["etaSeconds"] = round(seconds_per_step * (steps - step), 1)
        return remaining

    def _print(self, event: str, fields: Mapping[str, object]) -> None:
        time_text = utc_text(self._now())
        message = {"kronos": 1, "event": event, **self._common, **fields, "time": time_text}
        if not self._silent:
            try:
                # With its end of line at once: print writes that by itself, and the ranks of a pod share one stdout.
                self._stream.write(strict_json.line(message) + "\n")
                self._stream.flush()
            except OSError as error:
                # A log on a full disk must not end the training; results that cannot be kept will, and say so.
                if isinstance(error, BrokenPipeError):
                    self.unheard = True
                elif storage_cause(error) is not StorageCause.NO_ROOM:
                    raise
        if event in ("result", "error"):
            termination.leave(self._termination_log, message)
