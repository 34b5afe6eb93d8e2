"""What a rank reports to its launcher by files: the stage that it is at, that it trains, and its exit code.

`termination` writes its termination message, to a file that the launcher sets.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

DIRECTORY = "KRONOS_CAUSE_DIR"  # environment variable; absent without the launcher

# File names in that directory, each followed by the rank.
PROCESS = "pid-"  # the process id
STAGE = "stage-"  # the number of the run config that it is at; 0 without the file
TRAINS = "trains-"  # there from the moment on from which a kill would lose work
EXIT_CODE = "rank-"
LAST_WORDS = "words-"


def leave_stage(number: int) -> None:
    """Tells the launcher that this rank begins with another of its run configs, counted from 0.

    What it said of the one before counts no longer.
    """
    if DIRECTORY in os.environ:
        for name in (TRAINS, LAST_WORDS):
            _file(name).unlink(missing_ok=True)
    _leave(STAGE, str(number))


def leave_trains() -> None:
    """Tells the launcher that this rank now needs time to save."""
    _leave(TRAINS, "")


def leave_exit_code(code: int) -> None:
    """Tells the launcher this rank's exit code; if the disk is full, the process's own exit code does."""
    with suppress(OSError):
        _leave(EXIT_CODE, str(int(code)))


def _leave(name: str, text: str) -> None:
    if DIRECTORY in os.environ:
        _file(name).write_text(text)


def _file(name: str) -> Path:
    return Path(os.environ[DIRECTORY]) / f"{name}{os.environ.get('RANK', '0')}"
