"""`kronos validate`: checks files, and what they name on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from kronos_operator.cli.models import Files, NamedFiles, read
from kronos_operator.cli.options import AsJson, Overrides
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.terminal import print_error, print_json, print_line

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded, Problem, Reading
    from kronos_operator.local import Refusal


def validate(
    files: Files = None, named: NamedFiles = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Check KronosModel files; every problem is reported with file and line.

    Ends with 64 on a problem, and with 66 if bars or weights do not exist. If all is well, the bars on this machine are
    read; 65 means that a training would refuse them.
    """
    reading = read(files, named, overrides, os.environ)
    code = _judge(reading)
    if as_json:
        print_json(_document(reading))
    else:
        for one in reading.models:
            print_line(f"ok  {one.file}  {one.model.metadata.name}")
        for note in reading.notes:
            print_line(f"note: {note}", stderr=True)
        for problem in reading.problems:
            print_error(str(problem))
    raise typer.Exit(code)


def _judge(reading: Reading) -> int:
    """Moves the models that a run on this machine would refuse to the problems; returns the exit code."""
    from kronos_trainer.config import ExitCode

    code = ExitCode.CONFIG if reading.problems else ExitCode.DONE
    for one in list(reading.models):
        problems = []
        for refusal, problem in _refusals(one):
            if _of_a_cluster(one, refusal):
                reading.notes.append(str(problem))
            else:
                problems.append(problem)
                code = code or refusal.exit_code
        if problems:
            reading.models.remove(one)
            reading.problems += problems
    return code or _judge_bars(reading)


def _judge_bars(reading: Reading) -> int:
    """The same for the bars that lie here, read as a training would; what is odd about them is noted."""
    from kronos_operator.cli.bars import check_bars
    from kronos_operator.loading import Problem
    from kronos_trainer.config import ExitCode

    code: int = ExitCode.DONE
    for one in list(reading.models):
        checked = check_bars(one.model, local_settings().bars(one))
        if checked is None:
            continue
        reading.notes += [f"{one.file}: {note}" for note in checked.notes]
        if checked.refused is None:
            continue
        problem = Problem(str(one.file), None, "spec.data", checked.refused)
        if one.model.spec.data.source.claim is not None:  # the cluster's own bars may be others
            reading.notes.append(str(problem))
            continue
        reading.models.remove(one)
        reading.problems.append(problem)
        code = code or checked.exit_code
    return code


def _refusals(one: Loaded) -> Iterator[tuple[Refusal, Problem]]:
    from kronos_operator.loading import Problem
    from kronos_operator.local import refusals

    for refusal in refusals(one, local_settings()):
        message = f"{refusal.fault}; {'to run it here, ' if _of_a_cluster(one, refusal) else ''}{refusal.way_out}"
        yield refusal, Problem(one.origins[refusal.field].where, None, f"spec.{refusal.field}", message)


def _of_a_cluster(one: Loaded, refusal: Refusal) -> bool:
    """A claim is a cluster's, where its bars may well be; and so may what a model for a cluster has published."""
    elsewhere = one.model.spec.data.source.path is None
    return refusal.field.startswith("data.source.claim") or (elsewhere and refusal.field.endswith(".init.published"))


def _document(reading: Reading) -> dict[str, Any]:
    return {
        "models": [{"file": str(one.file), "name": one.model.metadata.name} for one in reading.models],
        "problems": [
            {"file": one.file, "line": one.line, "field": one.field, "message": one.message} for one in reading.problems
        ],
        "notes": reading.notes,
    }
