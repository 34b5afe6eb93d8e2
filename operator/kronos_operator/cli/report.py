"""`kronos report`: hands its options to `python -m kronos_trainer.report`, which needs Jinja and Matplotlib."""

from __future__ import annotations

from typing import Any

import typer

from kronos_operator.cli.children import flags, run_tool
from kronos_operator.cli.completion import model_names
from kronos_operator.cli.declared import takes
from kronos_trainer.commands import REPORT_OPTIONS


@takes(REPORT_OPTIONS, {"name": model_names})
def show_report(*, name: str | None, **options: Any) -> None:
    """Show whether a model is better than what it started from, and all that its run has left to say.

    Prints the path of a page for the browser, which needs no network. For a model of a cluster, use kronos pull first.
    """
    arguments = [*flags(options), *(["--", name] if name is not None else [])]
    raise typer.Exit(run_tool("kronos_trainer.report", arguments, needs=("jinja2", "matplotlib")))
