"""The lines in which a stage that is trained reports: one JSON object each, on stdout and in an attempt's log.

The trainer and its launcher write all of them but two, `started` and `ended`, which are those of whoever runs the
launcher. A reader may be of another release than the writer: `parse_line` knows what it tolerates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field
from pydantic.alias_generators import to_camel

from kronos_trainer.config.result import StageResult
from kronos_trainer.config.tolerant import Count, Number, Tolerant

VERSION = 1  # of the lines; fields are only ever added, and it is raised when one of them means something else
_MARK = '{"kronos":'  # with which each begins
_DECODER = json.JSONDecoder()


class _Line(Tolerant):
    kronos: Count = Field(VERSION, description="The version of the lines.")
    event: str
    stage: str = Field("", description="Empty where a line is not of a stage.")
    run: str = ""
    attempt: Count | None = None
    time: str = Field("", description="When it was written, as ISO 8601 in UTC.")

    @classmethod
    def of(cls, event: str, **fields: object) -> Self:
        """An event to write, from fields in snake_case, which its line has in this order.

        Whatever they hold: a report must not end what it reports on.
        """
        return cls.read({"kronos": VERSION, "event": event} | {to_camel(name): fields[name] for name in fields})

    def _given(self) -> dict[str, Any]:
        fields = {"kronos": self.kronos, "event": self.event} | super()._given()
        return {name: fields[name] for name in sorted(fields, key=lambda name: name == "time")}


class ProgressEvent(_Line):
    """Where a stage stands: `phase` as another phase begins, `progress` now and then.

    A field is absent before it is known. Losses are those of the stage.
    """

    event: Literal["progress", "phase"]
    phase: str = ""
    epoch: Count | None = None
    epochs: Count | None = None
    step: Count | None = Field(None, description="Optimizer steps done, over all attempts.")
    steps: Count | None = Field(None, description="Of all epochs.")
    loss: Number | None = Field(None, description="Mean over the last logged steps.")
    validation_loss: Number | None = None
    learning_rate: Number | None = None
    gradient_norm: Number | None = None
    samples_per_second: Number | None = Field(None, description="Windows, over all processes.")
    checkpoint: Count | None = Field(None, description="Steps done in the newest durable checkpoint of this attempt.")
    percent: Number | None = None
    eta_seconds: Number | None = Field(None, description="Seconds that are left.")


class NoteEvent(_Line):
    """What a user should know once."""

    event: Literal["note"] = "note"
    message: str = ""
    everywhere: bool = Field(False, description="It holds for every model that is trained from here.")


class CheckpointSkippedEvent(_Line):
    """A checkpoint that is damaged and was passed over."""

    event: Literal["checkpointSkipped"] = "checkpointSkipped"
    step: Count | None = None
    directory: str = ""
    reason: str = ""
    message: str = Field("", description="The whole of it, for people.")


class ResultEvent(_Line):
    """A stage is complete. Left as the last words too, with the short form of the result."""

    event: Literal["result"] = "result"
    result: Annotated[StageResult, BeforeValidator(StageResult.read_inside)]


class PointerEvent(_Line):
    """Which run is published at the end of a promotion or a rollback. Left as the last words too.

    `run` is that run, also if it was published before and nothing had to be done.
    """

    event: Literal["pointer"] = "pointer"
    previous: str = Field("", description="The run that was published before; empty: none.")
    digests: Mapping[str, str] = Field({}, description="SHA-256 of its weights in hex, by the name of the stage.")
    hashes: Mapping[str, str] = Field({}, description="Stage hashes of its weights, by the name of the stage.")
    bytes: Mapping[str, Count] = Field({}, description="Sizes of its weights, by the name of the stage, where known.")
    data_through: Mapping[str, str] = Field(
        {}, description="Last day of the bars that each stage has read, as YYYY-MM-DD, where known."
    )
    message: str = Field("", description="What was done, for people.")


class ErrorEvent(_Line):
    """Why a process ends. Left as the last words too."""

    event: Literal["error"] = "error"
    exit_code: Annotated[int, Field(strict=True)] | None = None
    message: str = ""
    cause: str = Field("", description="A StopCause or a StorageCause; empty without one.")
    limit_bytes: Count | None = Field(None, description="Main memory that the ranks of a node may have.")
    peak_bytes: Count | None = Field(None, description="The most that they had.")


class StartedEvent(_Line):
    """An attempt has been started."""

    event: Literal["started"] = "started"
    pid: Count | None = Field(None, description="Process id of the launcher.")
    log: str = ""
    gpus: tuple[str, ...] = ()
    processes: Count | None = None


class EndedEvent(_Line):
    """An attempt has ended, whatever it has reported itself."""

    event: Literal["ended"] = "ended"
    exit_code: Annotated[int, Field(strict=True)] | None = None
    message: str = ""


class OtherEvent(_Line):
    """A line of a newer release, or one whose content could not be read."""

    event: str = ""


Event = (
    ProgressEvent
    | NoteEvent
    | CheckpointSkippedEvent
    | ResultEvent
    | PointerEvent
    | ErrorEvent
    | StartedEvent
    | EndedEvent
    | OtherEvent
)

_KINDS: Mapping[object, type[Event]] = {
    name: kind for kind in get_args(Event) for name in get_args(kind.model_fields["event"].annotation)
}


def parse_line(line: str) -> Iterator[Event]:
    """The events in a line, in most lines one or none.

    Another writer of the same log may have left its own line without an end, before an event or inside it; what is cut
    off is passed over. A newer version is read as this one.
    """
    start = line.find(_MARK)
    while start >= 0:
        try:
            wire, end = _DECODER.raw_decode(line, start)
        except (ValueError, RecursionError):  # ValueError also for an integer of thousands of digits
            end = start + len(_MARK)
        else:
            yield read_event(wire)
        start = line.find(_MARK, end)


def read_event(wire: Mapping[str, Any]) -> Event:
    """The event of a line's JSON object."""
    name = wire.get("event")
    try:
        return _KINDS.get(name if isinstance(name, str) else "", OtherEvent).read(wire)
    except ValueError:
        return OtherEvent.read(wire)
