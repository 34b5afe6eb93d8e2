"""What is known of each model's stages while they run, built from the trainer's progress events. Drawn by `display`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kronos_trainer.config import Event, ProgressEvent

State = Literal["waiting", "running", "complete", "reused", "skipped", "failed", "stopped"]


@dataclass
class Measures:
    """What an attempt has reported so far, by the names of a ProgressEvent's fields; None for what it has not."""

    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    samples_per_second: float | None = None
    percent: float | None = None
    eta_seconds: float | None = None

    def update(self, event: ProgressEvent) -> None:
        """Take over what an event reports; what it does not stays."""
        for one in fields(self):
            value = getattr(event, one.name)
            if value is not None:
                setattr(self, one.name, value)


@dataclass
class StageProgress:
    """One stage of one model."""

    model: str
    stage: str
    state: State = "waiting"
    phase: str = ""
    measures: Measures = field(default_factory=Measures)

    @property
    def percent(self) -> float:
        """How much of the stage is done, 0 to 100."""
        if self.state in ("complete", "reused"):
            return 100.0
        return min(100.0, max(0.0, self.measures.percent or 0.0))

    @property
    def story(self) -> str:
        """The state in one word; the phase while it runs."""
        return self.phase or "starting" if self.state == "running" else self.state

    @property
    def epochs(self) -> str:
        """Current epoch of all, e.g. 3/30."""
        epoch, epochs = self.measures.epoch, self.measures.epochs
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

    def apply(self, model: str, event: Event) -> StageProgress | None:
        """Take in one event; the stage that it concerns, or None when it concerns the model as a whole."""
        from kronos_trainer.config import EndedEvent, ProgressEvent, ResultEvent, StartedEvent

        stage = next((one for one in self.stages if one.model == model and one.stage == event.stage), None)
        if stage is None:
            return None
        match event:
            case StartedEvent():
                stage.state, stage.phase, stage.measures = "running", "", Measures()  # an earlier attempt's are past
            case EndedEvent():
                stage.state = _END_STATES.get(event.exit_code, "failed")
            case ProgressEvent():
                stage.state = "running"
                stage.phase = event.phase or stage.phase
                stage.measures.update(event)
            case ResultEvent():
                stage.state = "complete"
                stage.measures.loss = event.result.final_train_loss
                stage.measures.validation_loss = event.result.best_validation_loss
        return stage

    def remark(self, model: str, event: Event) -> str | None:
        """The message of an event: an error, or a note that this model has not yet had in another stage.

        A note that holds everywhere is shown for the first model only.
        """
        from kronos_trainer.config import NoteEvent

        text = remark_of(event)
        concerned = "" if isinstance(event, NoteEvent) and event.everywhere else model
        if text is None or (isinstance(event, NoteEvent) and (concerned, text) in self._notes):
            return None
        self._notes.add((concerned, text))
        return text


def remark_of(event: Event) -> str | None:
    """The message of a note, an error or a skipped checkpoint; None for other events."""
    from kronos_trainer.config import CheckpointSkippedEvent, ErrorEvent, NoteEvent

    return (event.message or None) if isinstance(event, NoteEvent | ErrorEvent | CheckpointSkippedEvent) else None
