"""The lines of a stage: their bytes, and that no line of another release, or of nobody's, breaks a reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from kronos_trainer.config import (
    CheckpointSkippedEvent,
    EndedEvent,
    ErrorEvent,
    Event,
    NoteEvent,
    OtherEvent,
    PointerEvent,
    ProgressEvent,
    ResultEvent,
    StageResult,
    StartedEvent,
    parse_line,
)

WIRE = Path(__file__).parent / "fixtures" / "wire"
# Of a run with two ranks, that was stopped and went on; each attempt's last line is its last words too.
RECORDED = [line for name in ("lines.jsonl", "last_words.jsonl") for line in (WIRE / name).read_text().splitlines()]
PROGRESS = (
    '{"kronos":1,"event":"progress","stage":"tokenizer","step":5,"percent":50.0,"time":"2027-01-15T08:00:00.123Z"}'
)


def one(line: str) -> Event:
    (event,) = parse_line(line)
    return event


def rebuilt(event: Any) -> Event:
    """The same event, made from its fields and not from what was read."""
    fields = {name: getattr(event, name) for name in event.model_fields_set}
    if isinstance(event, ResultEvent):
        fields["result"] = event.result.model_copy()
    made: Event = type(event)(**fields)
    return made


@pytest.mark.parametrize("line", RECORDED)
def test_recorded_lines_are_read_whole_and_written_again_byte_for_byte(line: str) -> None:
    event = one(line)
    assert not event.malformed and not isinstance(event, OtherEvent)
    assert json.dumps(event.wire, separators=(",", ":")) == line
    wire = rebuilt(event).wire
    assert wire == json.loads(line)
    if not isinstance(event, ProgressEvent):  # whose fields stand in the order in which they became known
        order = ["kronos", "event", "stage", "run", "attempt"]
        assert list(wire)[:5] == order and list(wire)[-1] == "time"


def test_every_kind_of_event_has_its_own_name() -> None:
    events = [
        ProgressEvent(event="phase", phase="loading"),
        ProgressEvent(event="progress"),
        NoteEvent(message="x"),
        CheckpointSkippedEvent(step=3, reason="torn"),
        ResultEvent(result=StageResult(digest="d")),
        PointerEvent(run="1a2b3c4d"),
        ErrorEvent(exit_code=65, message="x"),
        StartedEvent(pid=5, gpus=("0",), time="2027-01-15T08:00:00Z"),
        EndedEvent(exit_code=0),
    ]
    assert {type(event) for event in events} == set(get_args(Event)) - {OtherEvent}
    for event in events:
        again = one(json.dumps(event.wire))
        assert type(again) is type(event) and again.wire == event.wire


def test_events_are_found_beside_what_others_have_left_in_the_line() -> None:
    cut = '{"kronos":1,"event":"progress","st'
    assert [event.event for event in parse_line(f"Downloading: 45%|####   |{PROGRESS}{PROGRESS} done{cut}")] == [
        "progress",
        "progress",
    ]
    assert one(cut + PROGRESS).wire == json.loads(PROGRESS)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "W1125 torchrun is chatty",
        '{"not":"ours"}',
        '{"kronos"',
        PROGRESS[:-1],
        '{"kronos":' + "[" * 100_000,
        '{"kronos":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"kronos":1,"step":' + "9" * 10_000 + "}",
    ],
)
def test_a_line_that_holds_no_event_is_passed_over(line: str) -> None:
    assert list(parse_line(line)) == []


VALUES = [
    '"x"',
    '"\\ud800\\u001b[2J"',
    "null",
    "[]",
    "{}",
    "true",
    "NaN",
    "-Infinity",
    "1e400",
    "-5",
    "1e30",
    "9" * 400,
]
FIELDS = (
    *(
        "kronos",
        "stage",
        "run",
        "attempt",
        "time",
        "phase",
        "epoch",
        "step",
        "percent",
        "etaSeconds",
        "loss",
        "message",
    ),
    *("everywhere", "directory", "reason", "exitCode", "cause", "limitBytes", "pid", "log", "gpus", "result", "digest"),
)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "name", ["progress", "note", "checkpointSkipped", "result", "error", "started", "ended", "new"]
)
def test_a_value_of_any_kind_in_any_field_leaves_the_event_readable(name: str, value: str) -> None:
    for field in FIELDS:
        line = f'{{"kronos":1,"event":"{name}","{field}":{value},"seconds":5}}'
        event = one(line)
        assert isinstance(event.stage, str) and isinstance(event.time, str)
        assert event.kronos == 1 or field == "kronos"
        assert list(event.wire) == list(json.loads(line))
    bad = one(f'{{"kronos":1,"event":"{name}","result":{{"digest":{value},"epochs":{value}}},"time":"t"}}')
    assert bad.time == "t" and (not isinstance(bad, ResultEvent) or isinstance(bad.result.digest, str))


def test_a_bad_value_costs_no_more_than_its_field() -> None:
    event = one('{"kronos":1,"event":"progress","step":5,"percent":"x","loss":NaN,"epoch":-1,"stage":"tokenizer"}')
    assert isinstance(event, ProgressEvent) and event.malformed
    assert (event.step, event.stage, event.percent, event.loss, event.epoch) == (5, "tokenizer", None, None, None)


def test_text_is_kept_with_the_halves_of_characters_that_names_of_files_may_have() -> None:
    event = one('{"kronos":1,"event":"error","message":"bars\\udcff.csv\\u001b[2J"}')
    assert isinstance(event, ErrorEvent) and event.message == "bars\udcff.csv\x1b[2J"


@pytest.mark.parametrize("name", ['"evaluation"', "5", "[]", "null", '"result"'])
def test_an_event_that_is_not_known_says_whose_and_when(name: str) -> None:
    event = one(f'{{"kronos":1,"event":{name},"stage":"predictor","time":"2027-01-15T08:00:00Z"}}')
    assert isinstance(event, OtherEvent)
    assert (event.stage, event.time) == ("predictor", "2027-01-15T08:00:00Z")


def test_an_older_reader_reads_a_newer_version_and_keeps_what_it_does_not_know() -> None:
    newer = json.loads(PROGRESS) | {"kronos": 2, "energy": {"joules": 5}}
    event = one(json.dumps(newer))
    assert isinstance(event, ProgressEvent) and not event.malformed
    assert (event.kronos, event.step, event.percent) == (2, 5, 50.0)
    assert event.wire == newer
