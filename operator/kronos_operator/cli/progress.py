"""What is known of each model's stages while they run, built from the trainer's progress events. Drawn by `display`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waiting", "running", "complete", "reused", "skipped", "failed", "stopped"]


@dataclass
class StageProgress:
    """One stage of one model."""

    model: str
    stage: str
    state: State = "waiting"
    phase: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def percent(self) -> float:
        """How much of the stage is done, 0 to 100."""
        if self.state in ("complete", "reused"):
            return 100.0
        value = self.fields.get("percent")
        return min(100.0, max(0.0, float(value))) if isinstance(value, int | float) else 0.0

    @property
    def story(self) -> str:
        """The state in one word; the phase while it runs."""
        return self.phase or "starting" if self.state == "running" else self.state

    @property
    def epochs(self) -> str:
        """Current epoch of all, e.g. 3/30."""
        epoch, epochs = self.fields.get("epoch"), self.fields.get("epochs")
        return f"{epoch}/{epochs}" if epoch is not None and epochs is not None else "-"


def planned_state(action: str) -> State:
    """How a stage stands before the run, from what is planned for it."""
    match action.split()[0]:
        case "reuse":
            return "reused"
        case "complete":
            return "complete"
        case "skipped":
            return "skipped"
        case _:
            return "waiting"


_END_STATES: dict[object, State] = {0: "complete", 75: "stopped"}


class Board:
    """Every stage of a command, in the order of the command line."""

    def __init__(self, stages: Sequence[StageProgress]) -> None:
        self.stages = list(stages)
        self._notes: set[tuple[str, str]] = set()

    def apply(self, model: str, event: Mapping[str, Any]) -> StageProgress | None:
        """Take in one event; the stage that it concerns, or None when it concerns the model as a whole."""
        name = event.get("stage")
        stage = next((one for one in self.stages if one.model == model and one.stage == name), None)
        if stage is None:
            return None
        match event.get("event"):
            case "started":
                stage.state, stage.phase, stage.fields = (
                    "running",
                    "",
                    {},
                )  # what an earlier attempt reported is outdated
            case "ended":
                stage.state = _END_STATES.get(event.get("exitCode"), "failed")
            case "progress" | "phase":
                stage.state = "running"
                stage.phase = str(event.get("phase") or stage.phase)
                stage.fields.update({key: value for key, value in event.items() if value is not None})
            case "result":
                stage.state = "complete"
                result = event["result"]
                stage.fields |= {
                    "loss": result.get("finalTrainLoss"),
                    "validationLoss": result.get("bestValidationLoss"),
                }
        return stage

    def remark(self, model: str, event: Mapping[str, Any]) -> str | None:
        """The message of an event: an error, or a note that this model has not yet had in another stage.

        A note that holds everywhere is shown for the first model only.
        """
        text = remark_of(event)
        concerned = "" if event.get("everywhere") else model
        if text is None or (event["event"] == "note" and (concerned, text) in self._notes):
            return None
        self._notes.add((concerned, text))
        return text


def remark_of(event: Mapping[str, Any]) -> str | None:
    """The message of a note, an error or a skipped checkpoint; None for other events."""
    if event.get("event") not in ("note", "error", "checkpointSkipped"):
        return None
    message = event.get("message")
    return str(message) if message else None
