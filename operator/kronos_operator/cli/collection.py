"""`kronos compare`, `export`, `prune`, `backup` and `restore`: for models on this machine.

Their options go to `python -m kronos_trainer.collection`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from kronos_operator.cli.children import flags, run_tool
from kronos_operator.cli.completion import model_names
from kronos_operator.cli.declared import takes
from kronos_operator.cli.target import here_only
from kronos_trainer.commands import BACKUP_OPTIONS, COMPARE_OPTIONS, EXPORT_OPTIONS, PRUNE_OPTIONS, RESTORE_OPTIONS

_ON_THE_CLAIM = (
    "it works on files: in a cluster they lie on the model's claim; run it with --root in a pod that mounts the claim, "
    "or fetch the published run with kronos pull NAME --to DIR and set --root DIR"
)
_PULL = "it works on files of this machine: fetch the model first with kronos pull NAME --to DIR, then set --root DIR"


@here_only(_PULL)
@takes(COMPARE_OPTIONS, {"first": model_names, "second": model_names})
def compare(*, first: str, second: str, html: bool, **options: Any) -> None:
    """Say which of two judged models forecasts better, by their losses on the same dates.

    Refused where their test spans, bars or symbols differ.
    """
    needs = ("arch", "statsmodels", *_for_root(options), *(("jinja2", "matplotlib") if html else ()))
    _start("compare", {**options, "html": html}, [first, second], needs=needs)


@here_only(_PULL)
@takes(EXPORT_OPTIONS, {"name": model_names})
def export(*, name: str, **options: Any) -> None:
    """Write a model's tokenizer and predictor in upstream's layout, with a model card, to a directory or the hub.

    Upstream's from_pretrained and kronos-finance load them. Nothing is uploaded unless --to names the hub.
    """
    needs = (*_for_root(options), *(("huggingface_hub",) if str(options["to"]).startswith("hf://") else ()))
    _start("export", options, [name], needs=needs)


@here_only(_ON_THE_CLAIM)
@takes(PRUNE_OPTIONS, {"name": model_names})
def prune(*, name: str, **options: Any) -> None:
    """Remove old runs of a model, after listing them and asking.

    What is published, was before, is the candidate, or is needed by a run that stays is never removed.
    """
    _start("prune", options, [name])


@here_only(_ON_THE_CLAIM)
@takes(BACKUP_OPTIONS, {"name": model_names})
def backup(*, name: str | None, **options: Any) -> None:
    """Write all models of this machine, or one, to an archive with the digest of every file.

    Checkpoints are in it, logs and prepared bars are not. A model that is being trained is not backed up.
    """
    _start("backup", options, [] if name is None else [name])


@here_only(_ON_THE_CLAIM)
@takes(RESTORE_OPTIONS)
def restore(*, archive: Path, **options: Any) -> None:
    """Put the models of an archive back; every file is verified first.

    Runs that are here already stay, and what is published here stays published. Where a run differs, nothing is done.
    """
    _start("restore", options, [str(archive)])


def _start(command: str, options: Mapping[str, Any], given: Sequence[str], *, needs: Sequence[str] = ()) -> NoReturn:
    """Runs a command of the trainer's and ends with its exit code."""
    arguments = [command, *flags(options), *(["--", *given] if given else [])]
    raise typer.Exit(run_tool("kronos_trainer.collection", arguments, needs=needs))


def _for_root(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The library that a URI needs."""
    from kronos_operator.names import OUTPUT_PATH_ENV

    return ("obstore",) if "://" in str(options["root"] or os.environ.get(OUTPUT_PATH_ENV)) else ()
