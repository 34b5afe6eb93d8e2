"""`kronos validate`: says whether files are good, and the bars that they name where those lie on this machine."""

from __future__ import annotations

import os

import typer

from kronos_operator.cli.options import AsJson, Files, Overrides
from kronos_operator.cli.terminal import say, say_error, say_json


def validate(files: Files, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check KronosModel files; every problem is named with its file and line.

    Ends with 64 when there is a problem. Where there is none, the bars that lie on this machine are read as a training
    would, and 65 says that it would refuse them.
    """
    from kronos_operator.cli.bars import check_bars
    from kronos_operator.cli.preparation import local_settings
    from kronos_operator.loading import InvalidModel, load_models
    from kronos_operator.problems import Problem
    from kronos_trainer.config import ExitCode

    models, problems = [], []
    for file in files:
        try:
            models += load_models([file], overrides=overrides or [], environ=os.environ)
        except InvalidModel as error:
            problems += error.problems
    code = ExitCode.CONFIG if problems else ExitCode.DONE
    notes: list[str] = []
    for one in () if problems else tuple(models):
        checked = check_bars(one.model, local_settings().bars(one.model.spec))
        if checked is not None and checked.refused is not None:
            models.remove(one)
            problems.append(Problem(str(one.file), None, "spec.data", checked.refused))
            code = ExitCode(checked.exit_code)
        elif checked is not None:
            notes += [f"{one.file}: {note}" for note in checked.notes]
    if as_json:
        say_json(
            {
                "models": [{"file": str(one.file), "name": one.model.metadata.name} for one in models],
                "notes": notes,
                "problems": [
                    {"file": str(one.file), "line": one.line, "field": one.field, "message": one.message}
                    for one in problems
                ],
            }
        )
    else:
        for note in notes:
            say(f"note: {note}", stderr=True)
        for one in models:
            say(f"ok  {one.file}  {one.model.metadata.name}")
        for problem in problems:
            say_error(str(problem))
    if problems:
        raise typer.Exit(code)
