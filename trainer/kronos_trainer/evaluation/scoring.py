"""Every rival's forecasts on every date, scored and kept. Called by the evaluation stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kronos_trainer.data.bars import Bars
from kronos_trainer.errors import Stopped
from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.evaluation.forecasting import outcome_of
from kronos_trainer.evaluation.origins import Dates, evenly, spread_order
from kronos_trainer.evaluation.rivals import Rival
from kronos_trainer.evaluation.scoreboard import Row, Scoreboard
from kronos_trainer.evaluation.scores import score

TOGETHER = 16  # cells that are forecast between two looks at the clock, at least: few at a time are slow
MOST_TOGETHER = 128  # and at most: their paths lie in memory


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When to stop, and when to save, in seconds."""

    seconds: float
    save_every: float


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who looks on."""

    dates: Callable[[int, int], None]  # so many of so many are done
    beat: Callable[[], None]  # raises Stopped when asked to stop
    keep: Callable[[], None]  # makes what was saved outlive the node
    clock: Callable[[], float] = time.monotonic


def score_all(
    bars: Bars, dates: Dates, rivals: Sequence[Rival], board: Scoreboard, *, lookback: int, limits: Limits, watch: Watch
) -> list[int]:
    """Scores all rivals on all dates, or on those that there is time for; returns the dates (their indices), ascending.

    Dates come in an order that spreads those of any beginning over the span. Raises Stopped after saving.
    """
    rows = [(rival, board.row(rival.name, rival.key)) for rival in rivals]
    began, saved = watch.clock() - board.seconds, watch.clock()
    done: list[int] = []
    try:
        for chunk in _chunks(dates, spread_order(len(dates))):
            if done and watch.clock() - began > limits.seconds:
                break
            for rival, row in rows:
                _score(bars, dates, [date for date in chunk if date not in row.done], rival, row, lookback, watch.beat)
            done += chunk
            watch.dates(len(done), len(dates))
            board.seconds = watch.clock() - began
            if watch.clock() - saved >= limits.save_every:
                saved = watch.clock()
                board.save()
                watch.keep()
    except Stopped:
        board.save()
        watch.keep()
        raise Stopped(
            f"stopped on request after {len(done)} of {len(dates)} dates, which are saved; the same command continues "
            "from there"
        ) from None
    board.save()
    return sorted(done)


def _chunks(dates: Dates, order: Sequence[int]) -> Iterator[list[int]]:
    """Dates, in this order, so many at a time that their cells are worth a forecast."""
    chunk: list[int] = []
    cells = 0
    for date in order:
        chunk.append(date)
        cells += int((dates.rows[date] >= 0).sum())
        if cells >= TOGETHER:
            yield chunk
            chunk, cells = [], 0
    if chunk:
        yield chunk


def _score(
    bars: Bars,
    dates: Dates,
    chunk: Sequence[int],
    rival: Rival,
    row: Row,
    lookback: int,
    beat: Callable[[], None],
) -> None:
    cells = [(date, int(symbol)) for date in chunk for symbol in np.flatnonzero(dates.rows[date] >= 0)]
    if not cells:
        return
    of_date, symbols = np.array([date for date, _ in cells]), np.array([symbol for _, symbol in cells])
    origins = dates.rows[of_date, symbols]
    parts = []
    for first in range(0, len(origins), MOST_TOGETHER):
        part = origins[first : first + MOST_TOGETHER]
        outcome = outcome_of(bars, part, lookback=lookback, horizon=dates.stride)
        parts.append((len(part), score(rival.forecast(part), outcome)))
        beat()
    scores = _joined(parts)
    for date in chunk:
        own = of_date == date
        row.scores.add(date, symbols[own], {name: values[own] for name, values in scores.items()})
        row.done.add(date)


def _joined(parts: Sequence[tuple[int, Mapping[str, Floats]]]) -> dict[str, Floats]:
    """The scores of all parts together, NaN where a part lacks one."""
    shapes = {name: values.shape[1:] for _, scores in parts for name, values in scores.items()}
    return {
        name: np.concatenate([scores.get(name, np.full((size, *shape), np.nan)) for size, scores in parts])
        for name, shape in shapes.items()
    }


def rows_of(dates: Dates, most: int) -> tuple[Int64, Int64]:
    """Rows of the origins of at most so many cells [B], every date's alike, and the date (its index) of each [B]."""
    each = max(1, most // max(1, len(dates)))
    found, of_date = [], []
    for date, rows in enumerate(dates.rows):
        there = rows[rows >= 0]
        chosen = there[evenly(len(there), each)]
        found.append(chosen)
        of_date.append(np.full(len(chosen), date))
    empty = np.empty(0, np.int64)
    return np.concatenate([empty, *found]), np.concatenate([empty, *of_date])
