"""How a command fails: one line on stderr and an exit code, never a traceback. Used by `main` and by every command."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable

import typer

from kronos_operator.cli.terminal import print_error

UNEXPECTED = 1
USAGE = 64  # ExitCode.CONFIG
INTERRUPTED = 130  # as shells report SIGINT
DEBUG_VARIABLE = "KRONOS_DEBUG"


class Failure(Exception):
    """Ends the command with this message and exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def report(error: BaseException) -> int:
    """The exit code for an error that ended a command, after printing it on stderr."""
    code, lines = _explain(error)
    for line in filter(None, lines):  # typer shows the help where a command is missing, and prints nothing
        print_error(line)
    if code == UNEXPECTED:
        _print_how_to_report(error)
    return code


def _explain(error: BaseException) -> tuple[int, Iterable[str]]:
    match error:  # of the command line itself: the reader of models, which takes longer than the answer, is not needed
        case Failure():
            return int(error.exit_code), [str(error)]
        case typer.TyperException():
            return USAGE, [_usage(error)]
        case typer.Abort() | KeyboardInterrupt():
            return INTERRUPTED, ["interrupted"]
    from kronos_operator.loading import InvalidModel
    from kronos_operator.local import LocalError
    from kronos_trainer.config import ExitCode, StorageCause, storage_cause

    match error:
        case LocalError():
            return int(error.exit_code), [str(error)]
        case InvalidModel():
            return ExitCode.CONFIG, [str(problem) for problem in error.problems]
        case OSError() if storage_cause(error) is StorageCause.NO_ROOM:
            place = error.filename if isinstance(error.filename, str) else "a file"
            return ExitCode.STORAGE, [f"{place} cannot be written: {error.strerror}; free disk space"]
        case OSError(filename=str() as name, strerror=str() as reason):
            return UNEXPECTED, [f"{name}: {reason}"]
        case _:
            return UNEXPECTED, [f"{type(error).__name__}: {error}"]


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the command line, in plain words, and how to get help."""
    message = error.format_message().replace("Value error, ", "").replace("Input should be", "must be").rstrip(".")
    context = getattr(error, "ctx", None)  # absent where a plugin of typer's is at fault, not the command line
    return f"{message}; help: {context.command_path} --help" if message and context is not None else message


def _print_how_to_report(error: BaseException) -> None:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    else:
        print(
            f"Unexpected error. Run the command again with {DEBUG_VARIABLE}=1 for the traceback, and report it "
            "with the output of `kronos version` and `kronos doctor`.",
            file=sys.stderr,
        )
