"""`kronos backtest`: hands its options to `python -m kronos_trainer.backtest`, which needs bt and ffn."""

from __future__ import annotations

from typing import Any

import typer

from kronos_operator.cli.children import flags, run_tool
from kronos_operator.cli.completion import model_names
from kronos_operator.cli.declared import takes
from kronos_trainer.commands import BACKTEST_OPTIONS


@takes(BACKTEST_OPTIONS, {"name": model_names})
def backtest(*, name: str | None, **options: Any) -> None:
    """Trade on the forecasts that a model's evaluation has made, with costs, and say what a sceptic would.

    Nothing is forecast again. Prints the path of a page. For a model of a cluster, use kronos pull first.
    """
    arguments = [*flags(options), *(["--", name] if name is not None else [])]
    raise typer.Exit(run_tool("kronos_trainer.backtest", arguments, needs=("bt", "ffn", "jinja2", "matplotlib")))
