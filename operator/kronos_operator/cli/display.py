"""The live view of a run: a table redrawn calmly on a terminal, a line now and then elsewhere. Used by `kronos run`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kronos_operator.cli.progress import Board, StageProgress, State
from kronos_operator.cli.terminal import draws, number
from kronos_operator.durations import duration
from kronos_operator.text import plain

if TYPE_CHECKING:
    from kronos_trainer.config import Event

WIDE = 120  # columns from which on every field has room
REDRAWS_PER_SECOND = 2
LINE_EVERY_SECONDS = 5.0
EPOCH_PHASES = frozenset({"training", "validating", "saving"})  # these alternate all the time: no news by themselves

_STYLES: dict[State, str] = {
    "waiting": "dim",
    "running": "cyan",
    "complete": "green",
    "reused": "green",
    "skipped": "dim",
    "failed": "bold red",
    "stopped": "yellow",
}


class Display(Protocol):
    """Shows events as they come; `notify` may be called from any thread."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def notify(self, model: str, event: Event) -> None: ...


def display_on(target: Console, stages: Sequence[StageProgress]) -> Display:
    """The display that suits the console."""
    board = Board(stages)
    return LiveDisplay(target, board) if draws(target) else LineDisplay(target, board)


class LineDisplay:
    """Plain lines: every change of phase, every note, and progress at most every five seconds per model."""

    def __init__(self, target: Console, board: Board, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = target
        self._board = board
        self._clock = clock
        self._printed: dict[str, float] = {}
        self._news: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def notify(self, model: str, event: Event) -> None:
        with self._lock:
            stage = self._board.apply(model, event)
            remark = self._board.remark(model, event)
            if remark is not None:
                self._print(f"{model}: {remark}")
            elif stage is not None and event.event != "note" and self._due(stage):
                self._print(progress_line(stage))

    def _due(self, stage: StageProgress) -> bool:
        now = self._clock()
        news = stage.stage, "training" if stage.story in EPOCH_PHASES else stage.story
        if news == self._news.get(stage.model) and now - self._printed[stage.model] < LINE_EVERY_SECONDS:
            return False
        self._news[stage.model] = news
        self._printed[stage.model] = now
        return True

    def _print(self, line: str) -> None:
        self._console.print(plain(line), soft_wrap=True)


class LiveDisplay:
    """A table of all stages that stays at the bottom of the terminal; notes scroll by above it."""

    def __init__(self, target: Console, board: Board, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = target
        self._board = board
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()
        self._live = Live(
            console=target,
            get_renderable=self._render,
            refresh_per_second=REDRAWS_PER_SECOND,
            transient=True,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def notify(self, model: str, event: Event) -> None:
        with self._lock:
            self._board.apply(model, event)
            remark = self._board.remark(model, event)
        if remark is not None:
            self._console.print(
                plain(f"{model}: {remark}"), style="red" if event.event == "error" else "dim", soft_wrap=True
            )

    def _render(self) -> RenderableType:
        with self._lock:
            shown = _visible(self._board.stages, self._console.height - 6)
            hidden = len(self._board.stages) - len(shown)
            table = stage_table(shown, width=self._console.width)
        footer = f"{duration(self._clock() - self._start)} elapsed · Ctrl-C saves and stops, a second one kills"
        if hidden:
            footer = f"{hidden} more stages · {footer}"
        return Group(table, Text(footer, style="dim", no_wrap=True, overflow="ellipsis"))


def stage_table(stages: Sequence[StageProgress], *, width: int) -> Table:
    """One row per stage. Below 120 columns the speed is left out and the phase takes the bar's place."""
    wide = width >= WIDE
    table = Table(
        box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, padding=(0, 1 if wide else 0, 0, 1)
    )
    # The names give way: whatever the other columns need is theirs.
    room = max(8, width - (108 if wide else 66))
    table.add_column("model", no_wrap=True, overflow="ellipsis", max_width=room)
    table.add_column("stage", no_wrap=True, min_width=9)
    if wide:
        table.add_column("phase", no_wrap=True, min_width=10)
    table.add_column("progress", no_wrap=True, width=25 if wide else 16)
    table.add_column("epoch", justify="right", no_wrap=True, min_width=7)
    table.add_column("loss", justify="right", no_wrap=True, min_width=7)
    table.add_column("val loss", justify="right", no_wrap=True, min_width=8)
    if wide:
        table.add_column("windows/s", justify="right", no_wrap=True, min_width=9)
    table.add_column("eta", justify="right", no_wrap=True, min_width=6)

    previous = None
    for stage in stages:
        story = Text(plain(stage.story), style=_STYLES[stage.state])
        measures = stage.measures
        cells: list[RenderableType] = [Text("" if stage.model == previous else stage.model, style="bold"), stage.stage]
        if wide:
            cells += [story, _bar(stage, 20)]
        elif stage.state == "running" and stage.phase in EPOCH_PHASES:
            cells += [_bar(stage, 11)]
        else:
            cells += [story]
        cells += [plain(stage.epochs), number(measures.loss), number(measures.validation_loss)]
        if wide:
            cells += [number(measures.samples_per_second, ",.0f")]
        cells += [duration(measures.eta_seconds) if stage.state == "running" else "-"]
        table.add_row(*cells)
        previous = stage.model
    return table


def progress_line(stage: StageProgress) -> str:
    """A stage in one line, for logs."""
    measures = stage.measures
    parts = [f"{stage.model} {stage.stage} {stage.story}"]
    if stage.epochs != "-":
        parts.append(f"epoch {stage.epochs}")
    if measures.step is not None and measures.steps is not None:
        parts.append(f"step {measures.step}/{measures.steps}")
    if stage.state == "running" or measures.percent is not None:
        parts.append(f"{stage.percent:.0f}%")
    for label, value, form in (
        ("loss", measures.loss, ".4f"),
        ("val loss", measures.validation_loss, ".4f"),
        ("windows/s", measures.samples_per_second, ",.0f"),
    ):
        if value is not None:
            parts.append(f"{label} {number(value, form)}")
    if stage.state == "running" and measures.eta_seconds is not None:
        parts.append(f"eta {duration(measures.eta_seconds)}")
    return "  ".join(parts)


def _bar(stage: StageProgress, width: int) -> RenderableType:
    if stage.state in ("waiting", "skipped"):
        return Text("")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=width)
    grid.add_column(justify="right", width=4)
    bar = ProgressBar(
        total=100,
        completed=stage.percent,
        width=width,
        complete_style=_STYLES[stage.state],
        finished_style=_STYLES[stage.state],
    )
    grid.add_row(bar, f"{stage.percent:.0f}%")
    return grid


def _visible(stages: Sequence[StageProgress], rows: int) -> list[StageProgress]:
    """As many stages as fit, those that run or failed first, in their own order."""
    if len(stages) <= rows:
        return list(stages)
    order: list[State] = ["running", "failed", "stopped", "waiting", "complete", "reused", "skipped"]
    urgent = sorted(range(len(stages)), key=lambda index: (order.index(stages[index].state), index))
    return [stages[index] for index in sorted(urgent[: max(1, rows)])]
