"""`kronos compare`, `export` and `prune`: for models on this machine, by `python -m kronos_trainer.collection`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import typer

from kronos_operator.cli.children import flags, run_tool
from kronos_operator.cli.completion import model_names
from kronos_operator.cli.declared import takes
from kronos_operator.cli.target import here_only
from kronos_trainer.commands import COMPARE_OPTIONS, EXPORT_OPTIONS, PRUNE_OPTIONS

_PULL = "it works on files of this machine: fetch the model first with kronos pull NAME --to DIR, then set --root DIR"


@here_only(_PULL)
@takes(COMPARE_OPTIONS, {"first": model_names, "second": model_names})
def compare(*, first: str, second: str, html: bool, **options: Any) -> None:
    """Say which of two judged models forecasts better, by their losses on the same dates.

    Refused where their test spans, bars or symbols differ.
    """
    needs = ("arch", "statsmodels", *(("jinja2", "matplotlib") if html else ()))
    _start("compare", {**options, "html": html}, [first, second], needs=needs)


@here_only(_PULL)
@takes(EXPORT_OPTIONS, {"name": model_names})
def export(*, name: str, **options: Any) -> None:
    """Write a model's tokenizer and predictor in upstream's layout, with a model card, to a directory or the hub.

    Upstream's from_pretrained and kronos-finance load them. Nothing is uploaded unless --to names the hub.
    """
    needs = ("huggingface_hub",) if str(options["to"]).startswith("hf://") else ()
    _start("export", options, [name], needs=needs)


@here_only(
    "in a cluster, runs lie on the model's claim: remove them there, where no training runs, with kronos prune "
    "--root in a pod that mounts it"
)
@takes(PRUNE_OPTIONS, {"name": model_names})
def prune(*, name: str, **options: Any) -> None:
    """Remove old runs of a model, after listing them and asking.

    What is published, was before, is the candidate, or is needed by a run that stays is never removed.
    """
    _start("prune", options, [name])


def _start(command: str, options: Mapping[str, Any], given: Sequence[str], *, needs: Sequence[str] = ()) -> NoReturn:
    """Runs a command of the trainer's and ends with its exit code."""
    arguments = [command, *flags(options), *(["--", *given] if given else [])]
    raise typer.Exit(run_tool("kronos_trainer.collection", arguments, needs=needs))
