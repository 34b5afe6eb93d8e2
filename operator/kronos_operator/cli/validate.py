"""`kronos validate`: says whether files are good, without reading any bars."""

from __future__ import annotations

import os

import typer

from kronos_operator.cli.options import AsJson, Files, Overrides
from kronos_operator.cli.terminal import say, say_error, say_json


def validate(files: Files, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Check KronosModel files; every problem is named with its file and line.

    Ends with 64 when there is a problem.
    """
    from kronos_operator.loading import InvalidModel, load_models
    from kronos_trainer.config import ExitCode

    models, problems = [], []
    for file in files:
        try:
            models += load_models([file], overrides=overrides or [], environ=os.environ)
        except InvalidModel as error:
            problems += error.problems
    if as_json:
        say_json(
            {
                "models": [{"file": str(one.file), "name": one.model.metadata.name} for one in models],
                "problems": [
                    {"file": str(one.file), "line": one.line, "field": one.field, "message": one.message}
                    for one in problems
                ],
            }
        )
    else:
        for one in models:
            say(f"ok  {one.file}  {one.model.metadata.name}")
        for problem in problems:
            say_error(str(problem))
    if problems:
        raise typer.Exit(ExitCode.CONFIG)
