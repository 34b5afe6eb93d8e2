"""What the trainer says while it runs: one JSON object a line on stdout, read by the CLI and by the operator.

Only rank 0 speaks. The last line also goes to the container's termination message, which outlives its logs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from pydantic.alias_generators import to_camel

from kronos_trainer import strict_json
from kronos_trainer.config import ExitCode, RunConfig

Phase = Literal["loading", "tokenising", "compiling", "training", "validating", "saving"]

EVERY_SECONDS = 5.0
TERMINATION_BYTES = 4096  # the kubelet keeps no more


class Progress:
    """Reports of one process. `update` and `beat` may be called at every step: they print only every 5 seconds."""

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
        self._common = {"stage": run.stage.value, "run": run.run, "attempt": run.attempt}
        self._silent = silent
        self._stream = stream or sys.stdout
        self._termination_log = termination_log or _default_termination_log()
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
        """Takes over what is known now and reports it if 5 seconds have passed.

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
        if self._clock() - self._printed_at >= EVERY_SECONDS:
            self._print_progress("progress")

    def note(self, message: str) -> None:
        """Tells the user something once."""
        self._print("note", {"message": message})

    def result(self, result: Mapping[str, object]) -> None:
        """The stage's result.json, as the last line."""
        self._print("result", {"result": result})

    def error(self, code: ExitCode, message: str) -> None:
        """Why the process ends, as the last line."""
        self._print("error", {"exitCode": int(code), "message": message})

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
        if self._silent:
            return
        time_text = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = {"kronos": 1, "event": event, **self._common, **fields, "time": time_text}
        # With its end of line at once: print writes that by itself, and the ranks of a pod share one stdout.
        self._stream.write(strict_json.line(message) + "\n")
        self._stream.flush()
        if self._termination_log is not None:
            _leave(self._termination_log, message)


def _default_termination_log() -> Path | None:
    if "KRONOS_TERMINATION_LOG" in os.environ:
        return Path(os.environ["KRONOS_TERMINATION_LOG"])
    kubelet = Path("/dev/termination-log")
    return kubelet if kubelet.is_file() else None


def _leave(path: Path, message: dict[str, Any]) -> None:
    """Writes the message in place, since the kubelet's file is a mount and cannot be renamed over."""
    text = strict_json.line(message)
    if len(text) >= TERMINATION_BYTES:
        text = strict_json.line(_shortened(message))
    try:
        path.write_text(text + "\n")
    except OSError:
        return  # a report that cannot be left must not end the training


def _shortened(message: Mapping[str, Any]) -> dict[str, object]:
    """The message small enough for TERMINATION_BYTES: long texts cut, and what is nested left out."""
    kept = {key: value for key, value in message.items() if not isinstance(value, Mapping | list | tuple)}
    return {
        key: value[:300] + "…" if isinstance(value, str) and len(value) > 300 else value for key, value in kept.items()
    }
