"""Failures that end the trainer with a specific exit code; anything else is a crash."""

from __future__ import annotations

from kronos_trainer.config import ExitCode, StopCause, StorageCause


class TrainerError(Exception):
    """A failure whose message a user can act on. The process ends with `exit_code` and no traceback."""

    exit_code: ExitCode
    cause: StopCause | StorageCause | None = None


class ConfigError(TrainerError):
    """run.json asks for something impossible."""

    exit_code = ExitCode.CONFIG


class DataError(TrainerError):
    """The bars exist but cannot be used; names file, row and column."""

    exit_code = ExitCode.DATA


class InputMissing(TrainerError):
    """A file, directory or earlier stage that the run needs is missing."""

    exit_code = ExitCode.INPUT_MISSING


class Diverged(TrainerError):
    """A loss or gradient became NaN or infinite."""

    exit_code = ExitCode.DIVERGED


class OutOfMemory(TrainerError):
    """The device has too little memory for the micro-batch."""

    exit_code = ExitCode.OUT_OF_MEMORY


class StorageError(TrainerError):
    """Results could not be written. With a `cause`, a restart here would fail in the same way."""

    exit_code = ExitCode.STORAGE

    def __init__(self, message: str, cause: StorageCause | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class Stopped(TrainerError):
    """SIGTERM arrived and the state was saved."""

    exit_code = ExitCode.STOPPED
    cause = StopCause.STOPPED


class NodesDidNotMeet(TrainerError):
    """The nodes of a gang did not meet in time: nothing was trained, and nothing was lost."""

    exit_code = ExitCode.STOPPED
    cause = StopCause.NODES_DID_NOT_MEET


class BadEnvironment(TrainerError):
    """The machine lacks what the run needs: a GPU, weights, a library."""

    exit_code = ExitCode.ENVIRONMENT
