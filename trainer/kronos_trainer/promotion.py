"""`python -m kronos_trainer.promotion promote | rollback`: makes another run of a model the published one.

`kronos promote` and `kronos rollback` start it on this machine, and in a cluster the operator does, in a pod: its last
words name the run that is published then. It imports no torch and answers at once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kronos_trainer.arguments import Arguments
from kronos_trainer.config import ErrorEvent, ExitCode, PointerEvent, RunPaths, now_text
from kronos_trainer.errors import InputMissing, StorageError, TrainerError
from kronos_trainer.storage.models import model_of
from kronos_trainer.storage.pointers import Alias, Fetch, Moved, in_place, promote, rollback
from kronos_trainer.training import termination


def main(arguments: Sequence[str] | None = None) -> int:
    """Moves the pointer and returns the exit code; a failure is one line on standard error."""
    given = _parser().parse_args(arguments)
    try:
        moved = _moved(given)
    except (TrainerError, OSError) as failure:
        error = failure if isinstance(failure, TrainerError) else StorageError(f"{failure}; check the permissions")
        fields = {} if error.cause is None else {"cause": error.cause}
        words = ErrorEvent.of("error", exit_code=int(error.exit_code), message=str(error), **fields, time=now_text())
        termination.leave(termination.place(), words)
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    message = _said(given.model, moved)
    termination.leave(termination.place(), _last_words(moved, message))
    print(message)
    return ExitCode.DONE


def _last_words(moved: Moved, message: str) -> PointerEvent:
    weights = {stage.value: result for stage, result in moved.weights.items()}
    return PointerEvent.of(
        "pointer",
        run=moved.run,
        previous=moved.before,
        digests={stage: result.digest for stage, result in weights.items()},
        hashes={stage: result.hash for stage, result in weights.items()},
        bytes={stage: result.bytes for stage, result in weights.items() if result.bytes is not None},
        data_through={stage: result.through for stage, result in weights.items() if result.through},
        message=message,
        time=now_text(),
    )


def _parser() -> Arguments:
    parser = Arguments(prog="python -m kronos_trainer.promotion", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("promote", "publish a run, whatever the promotion gate has decided"),
        ("rollback", "publish the run that was published before"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--root", default="outputs", help="directory or URI where runs leave results")
        command.add_argument("--namespace", default="default", help="namespace of the model (default: default)")
        command.add_argument("--model", required=True, help="name of the model")
        if name == "promote":
            command.add_argument(
                "--run", default=Alias.CANDIDATE.value, help=f"id of the run, or one of {', '.join(Alias)}"
            )
        else:
            command.add_argument("--published", help="do nothing unless this run is the published one")
    return parser


def _moved(given: argparse.Namespace) -> Moved:
    model = model_of(given.namespace, given.model)
    if "://" not in given.root:
        return _here(given, RunPaths(Path(given.root), model, run=""))
    from kronos_trainer.storage.pointer_copy import PointerCopy

    with tempfile.TemporaryDirectory() as scratch:
        copy = PointerCopy(given.root, model, Path(scratch))
        moved = _here(given, copy.paths, copy.fetch)
        copy.push()
    return moved


def _here(given: argparse.Namespace, paths: RunPaths, fetch: Fetch = in_place) -> Moved:
    if not paths.model_dir.is_dir():
        there = sorted(place.name for place in paths.model_dir.parent.glob("*") if place.is_dir())
        known = f"models there: {', '.join(there)}" if there else "there is none"
        raise InputMissing(f"no model {given.model} in namespace {given.namespace} of {given.root}; {known}")
    if given.command == "promote":
        return promote(paths, given.run, fetch)
    return rollback(paths, given.published, fetch)


def _said(model: str, moved: Moved) -> str:
    """What was done, for people."""
    if moved.run == moved.before:
        return f"{model}: run {moved.run} is published already; nothing was changed"
    if not moved.before:
        return f"{model}: run {moved.run} is published now"
    return f"{model}: run {moved.run} is published now, instead of {moved.before}"


if __name__ == "__main__":
    sys.exit(main())
