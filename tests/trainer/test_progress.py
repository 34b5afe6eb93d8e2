"""Progress lines: their rate, their content, and the termination message."""

from __future__ import annotations

import errno
import functools
import io
import itertools
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kronos_trainer.config import (
    BarsRead,
    Comparison,
    Decision,
    EvaluationSummary,
    ExitCode,
    PromotionResult,
    ResultEvent,
    RunConfig,
    StageResult,
    StopCause,
    StorageCause,
    Verdict,
    parse_line,
)
from kronos_trainer.training.progress import Progress

RECORDED = Path(__file__).parents[1] / "operator" / "fixtures" / "wire"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Session:
    """A Progress on a clock that the test sets."""

    def __init__(self, run: RunConfig, directory: Path, *, silent: bool = False) -> None:
        self.seconds = 100.0
        self.stream = io.StringIO()
        self.termination = directory / "termination-log"
        self.progress = Progress(
            run,
            silent=silent,
            stream=self.stream,
            termination_log=self.termination,
            clock=lambda: self.seconds,
            now=lambda: NOW,
        )

    @property
    def lines(self) -> list[dict[str, Any]]:
        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return [json.loads(line, parse_constant=refuse) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def session(make_run: Callable[..., RunConfig], tmp_path: Path) -> Session:
    return Session(make_run(attempt=3), tmp_path)


def test_steps_are_reported_at_most_every_five_seconds_and_beats_fill_the_silence(session: Session) -> None:
    session.progress.phase("training", epoch=1, epochs=2, step=0, steps=1000)
    for step in range(1, 101):
        session.seconds += 0.25
        session.progress.update(step=step, loss=1 / step)
    assert [line["step"] for line in session.lines] == [0, 20, 40, 60, 80, 100]
    session.progress.phase("validating")  # said at once
    session.progress.beat()
    session.seconds += 4.9
    session.progress.beat()
    assert len(session.lines) == 7
    session.seconds += 0.1
    session.progress.beat()
    assert session.lines[-1]["phase"] == "validating" and len(session.lines) == 8


def test_a_line_names_run_and_attempt_and_derives_percent_and_remaining_time(session: Session) -> None:
    # A resumed stage starts at step 500: the remaining time comes from the steps of this process.
    session.progress.phase("training", epoch=1, epochs=2, step=500, steps=1000)
    session.progress.update(step=500)
    session.seconds += 50
    session.progress.update(
        step=600, validation_loss=0.25, learning_rate=1e-4, gradient_norm=0.5, samples_per_second=128
    )
    assert session.lines[-1] == {
        "kronos": 1,
        "event": "progress",
        "stage": "tokenizer",
        "run": "run-1",
        "attempt": 3,
        "phase": "training",
        "epoch": 1,
        "epochs": 2,
        "step": 600,
        "steps": 1000,
        "validationLoss": 0.25,
        "learningRate": 1e-4,
        "gradientNorm": 0.5,
        "samplesPerSecond": 128,
        "percent": 60.0,
        "etaSeconds": 200.0,
        "time": "2026-03-01T12:00:00.000Z",
    }


def test_numbers_that_are_not_finite_become_null(session: Session) -> None:
    session.progress.phase("training", loss=float("nan"), gradient_norm=float("inf"), step=0, steps=0)
    session.progress.result(StageResult.read({"nested": [float("-inf"), {"loss": float("nan")}]}))
    assert session.lines[0]["loss"] is None and session.lines[0]["gradientNorm"] is None
    assert session.lines[1]["result"] == {"nested": [None, {"loss": None}]}


def test_only_a_result_or_an_error_is_left_as_last_words(session: Session) -> None:
    """So that the kubelet falls back to the log of a trainer that ended without a word."""
    session.progress.phase("loading")
    session.progress.note("one symbol is too short")
    assert not session.termination.exists()
    session.progress.error(ExitCode.STOPPED, "stopped", cause=StopCause.STOPPED, peak_bytes=None)
    assert json.loads(session.termination.read_text()) == session.lines[-1]
    assert session.lines[-1]["cause"] == "Stopped" and "peakBytes" not in session.lines[-1]


@pytest.mark.parametrize("text", ["x", "é", "\N{GRINNING FACE}", '"', "\udcff", "\x1b"])
def test_last_words_fit_whatever_they_hold(session: Session, text: str) -> None:
    session.progress.error(ExitCode.DATA, text * 9000, limit_bytes=10**30)
    assert session.lines[-1]["message"] == text * 9000
    left = session.termination.read_bytes()
    assert len(left) <= 4096
    message = json.loads(left)
    assert message["exitCode"] == 65 and message["message"].startswith(text * 100)

    result: dict[str, Any] = dict.fromkeys(("stage", "hash", "digest", "device", "origin"), text * 9000)
    result |= {"bestValidationLoss": 0.25, "data": {"notes": [text * 9000] * 100}, "windows": {text: text}}
    session.progress.result(StageResult.read(result))
    assert session.lines[-1]["result"] == result
    left = session.termination.read_bytes()
    assert len(left) <= 4096
    kept = json.loads(left)["result"]
    assert kept["bestValidationLoss"] == 0.25 and kept["digest"].startswith(text * 50)
    assert set(kept) == {"stage", "hash", "digest", "bestValidationLoss"}


def largest_verdict(rivals: int, scores: int) -> StageResult:
    """A result with every field of a verdict as long as an evaluation could make it."""
    number = -0.12345678901234567
    comparisons = [
        Comparison(
            rival=f"historicalBootstrap{index}",
            verdict=Verdict.NOT_OUT_OF_SAMPLE,
            dates=100_000,
            improvement=number,
            low=number,
            high=number,
            p_better=number,
            p_worse=number,
            smallest_gain=number,
            refused="its training span 2001-01-01 to 2024-01-01 overlaps with the test span " * 4,
        )
        for index in range(rivals)
    ]
    summary = EvaluationSummary(
        verdict=Verdict.NOT_OUT_OF_SAMPLE,
        loss=number,
        dates=100_000,
        symbols=5000,
        first="2024-01-01 00:00:00",
        last="2026-01-01 00:00:00",
        readings=1000,
        comparisons=tuple(comparisons),
        coverage80=number,
        calibrated80=number,
        note="maxSeconds of 3600 allowed 12 of 400 dates " * 20,
    )
    return StageResult(
        stage="evaluation",
        hash="f" * 16,
        seconds=number,
        bytes=2**62,
        data=BarsRead(spans=dict.fromkeys(("train", "test"), ("2001-01-01T00:00:00", "2026-01-01T00:00:00"))),
        scores={f"coverage{index}": number for index in range(scores)},
        evaluation=summary,
        promotion=PromotionResult(decision=Decision.HELD, message="held: not better than start, " * 99, published="r"),
    )


@pytest.mark.parametrize(("rivals", "scores"), [(3, 12), (12, 24), (40, 64), (400, 900)])
def test_the_largest_verdict_fits_and_keeps_what_was_decided(session: Session, rivals: int, scores: int) -> None:
    result = largest_verdict(rivals, scores)
    session.progress.result(result)
    left = session.termination.read_bytes()
    assert len(left) <= 4096
    (event,) = parse_line(left.decode())
    assert isinstance(event, ResultEvent)
    kept = event.result
    assert kept.evaluation is not None and kept.promotion is not None
    assert (kept.evaluation.verdict, kept.promotion.decision) == ("NotOutOfSample", "Held")
    assert (kept.bytes, kept.through) == (2**62, "2025-12-31")
    assert kept.promotion.message.startswith("held: not better than start")
    assert (kept.evaluation.dates, kept.evaluation.coverage80) == (100_000, -0.1235)
    if rivals <= 12:
        assert [one.improvement for one in kept.evaluation.comparisons] == [-0.1235] * rivals
    if rivals == 3:
        assert kept.scores == result.scores


def test_last_words_fit_also_with_absurd_numbers(session: Session) -> None:
    session.progress.error(ExitCode.CRASHED, "crashed", limit_bytes=10**4200)
    message = json.loads(session.termination.read_text())
    assert (message["event"], message["exitCode"]) == ("error", 1)


def test_a_termination_log_that_cannot_be_written_does_not_end_the_training(session: Session) -> None:
    session.termination.mkdir()
    session.progress.error(ExitCode.DATA, "still here")
    assert session.lines[-1]["message"] == "still here"


def test_other_ranks_print_nothing_but_leave_their_last_words(
    make_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    session = Session(make_run(), tmp_path, silent=True)
    session.progress.phase("training")
    session.progress.error(ExitCode.CRASHED, "message")
    assert session.lines == [] and json.loads(session.termination.read_text())["message"] == "message"


def test_a_line_reaches_an_unbuffered_stdout_whole(make_run: Callable[..., RunConfig]) -> None:
    """As under PYTHONUNBUFFERED, which both images set: the ranks of a pod write to the same pipe."""
    writes: list[bytes] = []

    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            writes.append(bytes(data))
            return len(data)

    stdout = io.TextIOWrapper(Pipe(), write_through=True)  # type: ignore[arg-type] # as CPython makes it, without a buffer
    Progress(make_run(), stream=stdout).error(ExitCode.OUT_OF_MEMORY, "out of GPU memory")
    assert [data.endswith(b"\n") for data in writes] == [True]


@pytest.mark.parametrize(("code", "unheard"), [(errno.EPIPE, True), (errno.ENOSPC, False)])
def test_output_that_cannot_be_written_does_not_end_training(
    make_run: Callable[..., RunConfig], code: int, unheard: bool
) -> None:
    class Broken(io.StringIO):
        def flush(self) -> None:
            raise OSError(code, os.strerror(code))

    progress = Progress(make_run(), stream=Broken())
    progress.phase("training")
    assert progress.unheard == unheard
    with pytest.raises(OSError, match="Input/output error"):
        code = errno.EIO
        progress.note("lost")


def test_every_kind_of_line_and_of_last_words_is_byte_for_byte_as_recorded(
    make_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Of an attempt from the start to its result, and of one that goes on and ends in several ways."""
    run, stream, left = make_run(attempt=3), io.StringIO(), tmp_path / "termination-log"
    last_words: list[str] = []

    def begin() -> Progress:
        ticks = itertools.count()
        clock = functools.partial(next, ticks)
        return Progress(run, stream=stream, termination_log=left, clock=lambda: 10.0 * clock(), now=lambda: NOW)

    first = begin()
    first.phase("starting")
    first.beat()
    first.phase("loading")
    first.note("FB is too short for a test split; left out")
    first.note("Comet: no key", everywhere=True)
    first.phase("validating", epoch=0)
    first.update(validation_loss=6.92313)
    first.phase("saving")
    first.phase("training", epoch=1, epochs=2, step=0, steps=46)
    first.update(loss=6.38, learning_rate=0.0009, gradient_norm=float("nan"), samples_per_second=272.7)
    first.update(step=19, checkpoint=11)
    first.phase("validating", epoch=1)
    message = "the checkpoint /out/step-23: torn; going on from step 11 instead"
    first.skipped_checkpoint(step=23, directory=Path("/out/step-23"), reason="torn", message=message)
    first.result(StageResult.load((RECORDED / "result.json").read_text()))
    last_words.append(left.read_text())
    second = begin()
    second.phase("training", epoch=2, epochs=2, step=23, steps=46)
    second.update(step=30)
    second.update(loss=1.5)
    second.update(validation_loss=0.5)
    for code, text, fields in (
        (ExitCode.STOPPED, "stopped", {"cause": StopCause.STOPPED, "peak_bytes": None}),
        (ExitCode.MEMORY_LIMIT, "rank 0 was killed", {"limit_bytes": 2**30, "peak_bytes": 2**29}),
        (ExitCode.STORAGE, "full", {"cause": StorageCause.NO_ROOM}),
        (ExitCode.DATA, "bars.csv, row 7: \x1b[2J\udcff " + "x" * 5000, {}),
        (ExitCode.CRASHED, "crashed", {"cause": None}),
    ):
        second.error(code, text, **fields)
        last_words.append(left.read_text())
    assert stream.getvalue() == (RECORDED / "lines.jsonl").read_text()
    assert "".join(last_words) == (RECORDED / "last_words.jsonl").read_text()
