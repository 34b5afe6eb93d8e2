"""How often the bars of a model's test span have been read: readings.json, kept over all of its runs.

A test span that was read before has helped to choose what is judged on it now, so the gate asks for more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from kronos_trainer.config import RunPaths
from kronos_trainer.errors import InputMissing
from kronos_trainer.evaluation.document import Reading
from kronos_trainer.evaluation.gate import LEAST_DATES
from kronos_trainer.storage import durable


def record(paths: RunPaths, reading: Reading, dates: Sequence[str]) -> tuple[Reading, ...]:
    """Adds a reading, and returns those that count for it, oldest first, itself included.

    `dates` are those that this reading forecasts from, as ISO 8601. An evaluation that is repeated is the same reading.
    To be called with the model's lock held. Raises InputMissing for a damaged file, StorageError.
    """
    there = _read(paths)
    others = [one for one in there if (one.run, one.hash) != (reading.run, reading.hash)]
    itself = next((one for one in there if _key(one) == _key(reading)), reading)
    if itself is reading:
        durable.write_json(paths.readings, {"version": 1, "readings": [one.wire for one in (*others, reading)]})
    return (*(one for one in others if _counts(one, reading, dates)), itself)


def _key(one: Reading) -> tuple[str, ...]:
    return one.run, one.hash, one.span.start, one.span.end


def _counts(earlier: Reading, reading: Reading, dates: Sequence[str]) -> bool:
    end = _moment(earlier.span.end)
    overlaps = _moment(earlier.span.start) < _moment(reading.span.end) and _moment(reading.span.start) < end
    # As many new dates as a test needs are a test of their own.
    return overlaps and sum(_moment(date) >= end for date in dates) < LEAST_DATES


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)  # spans are of wall-clock time


def _read(paths: RunPaths) -> list[Reading]:
    try:
        text = paths.readings.read_text()
    except FileNotFoundError:
        return []
    try:
        readings = [Reading.read(one) for one in json.loads(text)["readings"]]
        for one in readings:
            _moment(one.span.start), _moment(one.span.end)
    except (ValueError, KeyError, TypeError) as error:
        raise InputMissing(
            f"{paths.readings}: damaged ({error}); it counts how often the test span was read: restore it, or remove "
            "it to count from now on"
        ) from None
    return readings
