"""Which strategies have been tried on a model's forecasts: trials.json. The best of many is good by luck."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kronos_trainer.backtest.document import Trial
from kronos_trainer.errors import InputMissing
from kronos_trainer.evaluation.document import Reading
from kronos_trainer.storage import durable


def record(file: Path, trial: Trial) -> tuple[Trial, ...]:
    """Adds a trial, and returns those whose bars overlap with its own, itself included, in the order of their keys.

    The same strategy on the same evaluation is one trial, whatever its costs. Raises InputMissing for a damaged file,
    StorageError.
    """
    durable.make_directory(file.parent)
    with _locked(file.with_suffix(".lock")):
        there = _read(file)
        trials = sorted([*(one for one in there if one.key != trial.key), trial], key=lambda one: one.key)
        durable.write_json(file, {"version": 1, "trials": [one.wire for one in trials]})
    return tuple(one for one in trials if one.first <= trial.last and trial.first <= one.last)


def count(trials: Sequence[Trial], readings: Sequence[Reading]) -> int:
    """How often somebody has looked at these bars: strategies, and evaluations that no strategy was tried on."""
    traded = {(one.run, one.hash) for one in trials}
    return len(trials) + sum((one.run, one.hash) not in traded for one in readings)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with durable.storing(file), file.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _read(file: Path) -> list[Trial]:
    try:
        return [Trial.read(one) for one in json.loads(file.read_text())["trials"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputMissing(
            f"{file}: damaged ({error}); it counts what was tried: restore it, or remove it to count from now on"
        ) from None
