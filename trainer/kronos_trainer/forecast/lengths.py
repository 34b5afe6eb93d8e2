"""Lengths of history and horizon: the requested ones, compared with those of training."""

from __future__ import annotations

from collections.abc import Sequence

from kronos_trainer.commands import LEAST_HISTORY
from kronos_trainer.config import Window
from kronos_trainer.data.quality.findings import some
from kronos_trainer.errors import ConfigError, DataError


def lookback_of(rows: int, asked: int | None, window: Window | None, max_context: int) -> int:
    """Bars of history that are used of `rows`. Raises ConfigError for a lookback beyond them, DataError for too few."""
    if asked is not None and asked < LEAST_HISTORY:
        raise ConfigError(f"lookback {asked} is too short: at least {LEAST_HISTORY} bars are needed")
    if asked is not None and asked > rows:
        raise ConfigError(f"lookback {asked} exceeds the {rows} bar(s) of the history")
    if rows < LEAST_HISTORY:
        raise DataError(f"{rows} bar(s) are too few: at least {LEAST_HISTORY} are needed")
    return min(rows, asked or (window.lookback if window else max_context))


def beyond_training(
    horizon: int, lookback: int | None, max_context: int, window: Window | None, lengths: Sequence[tuple[str, int]]
) -> list[str]:
    """Notes on lengths beyond those of training; `lengths` are the symbols' bars that are used."""
    notes = []
    trained = window.lookback if window else None
    if window and horizon > window.horizon:
        notes.append(f"horizon {horizon} exceeds the {window.horizon} bars that the model was trained for")
    if trained and lookback and lookback > trained:
        notes.append(f"lookback {lookback} exceeds the {trained} bars of history that the model was trained with")
    if window and max_context > window.max_context:
        notes.append(f"max-context {max_context} exceeds the {window.max_context} bars that the model was trained with")
    if lookback and lookback > max_context:
        notes.append(
            f"of {lookback} bars of history the model uses the last {max_context}; the others only affect mean and "
            "deviation"
        )
    short = [f"{symbol} ({bars})" for symbol, bars in lengths if trained and not lookback and bars < trained]
    if short:
        notes.append(f"the model was trained with {trained} bars of history, but there are fewer of {some(short)}")
    return notes
