"""What a user sees while models train: on a terminal, and in a log file."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from kronos_operator.cli.display import LineDisplay, display_on, progress_line, stage_table
from kronos_operator.cli.progress import Board, StageProgress
from kronos_trainer.config import EndedEvent, NoteEvent, ProgressEvent, StartedEvent


def progress(stage: str = "tokenizer", **fields: Any) -> ProgressEvent:
    return ProgressEvent(**{"event": "progress", "stage": stage, "phase": "training", **fields})


def stages(*models: str) -> list[StageProgress]:
    return [StageProgress(model, stage) for model in models for stage in ("tokenizer", "predictor")]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(script: Callable[[LineDisplay, Clock], None]) -> list[str]:
    out, clock = io.StringIO(), Clock()
    script(LineDisplay(Console(file=out, markup=False), Board(stages("model-a")), clock), clock)
    return out.getvalue().splitlines()


def test_lines_are_spaced_but_news_are_told_at_once() -> None:
    def script(display: LineDisplay, clock: Clock) -> None:
        display.notify("model-a", progress(event="phase", phase="loading"))
        for step in range(1, 12):
            clock.now += 1
            phase = "validating" if step % 2 else "training"
            display.notify("model-a", progress(phase=phase, step=step, steps=11, percent=9 * step, loss=1 / step))
        display.notify("model-a", NoteEvent(stage="tokenizer", message="FB is too short; left out"))
        display.notify("model-a", NoteEvent(stage="predictor", message="FB is too short; left out"))
        display.notify("model-a", progress("predictor", event="phase", phase="loading"))

    lines = lines_of(script)
    assert lines[0] == "model-a tokenizer loading  0%"
    assert [line.split("  ")[0] for line in lines] == [
        "model-a tokenizer loading",
        "model-a tokenizer validating",
        "model-a tokenizer training",
        "model-a tokenizer validating",
        "model-a: FB is too short; left out",
        "model-a predictor loading",
    ]
    assert "step 6/11  54%  loss 0.1667" in lines[2]


def test_what_holds_everywhere_is_said_once_and_what_an_earlier_attempt_said_is_gone() -> None:
    board = Board(stages("model-a", "model-b"))
    everywhere = NoteEvent(message="Comet: no key", everywhere=True)
    own = NoteEvent(message="FB is too short")
    said = [board.remark(model, note) for note in (everywhere, own) for model in ("model-a", "model-b")]
    assert said == ["Comet: no key", None, "FB is too short", "FB is too short"]
    board.apply("model-a", progress(percent=50.0, loss=1.0))
    stage = board.apply("model-a", StartedEvent(stage="tokenizer"))
    assert stage is not None and progress_line(stage) == "model-a tokenizer starting  0%"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_and_names_everything(width: int) -> None:
    rows = stages("model-a-4h", "a-name-that-is-as-long-as-it-can-be")
    board = Board(rows)
    fields = {"epoch": 3, "epochs": 30, "loss": 4.21234, "validation_loss": 5.4321, "samples_per_second": 1412.3}
    board.apply("model-a-4h", progress(percent=43.2, eta_seconds=8000, **fields))
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system=None, width=width).print(stage_table(rows, width=width))
    lines = out.getvalue().splitlines()

    assert max(map(len, lines)) <= width
    assert len(lines) == 2 + len(rows)
    first = lines[2]
    for text in ("model-a-4h", "tokenizer", "43%", "3/30", "4.2123", "5.4321", "2h13m"):
        assert text in first
    assert ("1,412" in first) == (width == 120)


def test_a_failed_model_does_not_look_finished() -> None:
    rows = stages("model-a")
    board = Board(rows)
    board.apply("model-a", progress(percent=50.0))
    board.apply("model-a", EndedEvent(stage="tokenizer", exit_code=65))
    assert [stage.state for stage in rows] == ["failed", "waiting"]


def test_a_live_display_keeps_to_the_height_of_the_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=80, height=12)
    with display_on(console, stages(*(f"model-{index}" for index in range(20)))) as display:
        display.notify("model-13", progress("predictor", percent=10.0))
    last_frame = out.getvalue().split("progress")[-1]
    assert "model-13" in last_frame
    assert "34 more stages" in last_frame
