"""One run at a time in a model's directory, and no late attempt."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kronos_trainer.config import RunConfig
from kronos_trainer.errors import StorageError
from kronos_trainer.storage.lock import model_lock

HOLD = """
import pathlib, sys, time
from kronos_trainer.config import load_run
from kronos_trainer.storage.lock import model_lock
run = load_run(pathlib.Path(sys.argv[1]))
with model_lock(run.paths(), run):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_naming_the_holder_until_that_one_is_killed(
    make_run: Callable[..., RunConfig], tmp_path: Any
) -> None:
    first, second = make_run(run="run-1", attempt=2), make_run(run="run-2")
    config = tmp_path / "run.json"
    config.write_text(first.dump())
    with subprocess.Popen([sys.executable, "-c", HOLD, str(config)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        held = json.loads(first.paths().lock.read_text())
        assert held["pid"] == holder.pid
        for late in (second, make_run(run="run-1", attempt=3)):
            named = rf"run run-1, stage tokenizer, attempt 2 \(host .*, process {holder.pid}, since .*wait"
            with pytest.raises(StorageError, match=named), model_lock(late.paths(), late):
                pass
        assert json.loads(first.paths().lock.read_text()) == held
        holder.kill()
    with model_lock(second.paths(), second) as lock:
        lock.still_mine()


def test_a_lower_attempt_of_the_same_stage_comes_too_late(make_run: Callable[..., RunConfig]) -> None:
    def enter(**fields: Any) -> None:
        run = make_run(**fields)
        with model_lock(run.paths(), run):
            pass

    enter(attempt=2)
    enter(attempt=2)  # the same attempt again, e.g. started by hand
    with pytest.raises(StorageError, match=r"attempt 1 is outdated: .*attempt 2"):
        enter(attempt=1)
    enter(attempt=0, stage="predictor")  # attempts are counted by stage
    enter(attempt=5)
    enter(attempt=0, run="run-2")


def test_attempts_of_a_recreated_object_come_after_those_of_the_one_before(make_run: Callable[..., RunConfig]) -> None:
    def enter(created: str, attempt: int) -> None:
        run = make_run(model_created=created, attempt=attempt)
        with model_lock(run.paths(), run):
            pass

    enter("2026-11-01T06:00:00Z", 3)
    enter("2026-11-01T06:00:09Z", 0)
    enter("2026-11-01T06:00:09Z", 1)
    with pytest.raises(StorageError, match="attempt 4 is outdated"):
        enter("2026-11-01T06:00:00Z", 4)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_flock_a_holder_that_was_overtaken_ends_before_it_writes(
    make_run: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def unsupported(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    old, new = make_run(attempt=1), make_run(attempt=2)
    with model_lock(old.paths(), old) as stale:
        stale.still_mine()
        with model_lock(new.paths(), new) as fresh:
            with pytest.raises(StorageError, match=r"attempt 2 .*has taken over .*attempt 1 exits without writing"):
                stale.still_mine()
            fresh.still_mine()
    new.paths().lock.unlink()
    with pytest.raises(StorageError, match="another process"):
        fresh.still_mine()
