"""`kronos run`: trains models on this machine, shows progress and a summary."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kronos_operator.cli.display import display_on
from kronos_operator.cli.models import Files, NamedFiles, load
from kronos_operator.cli.options import AsJson, Force, Mode, OneStage, Overrides
from kronos_operator.cli.plan import show_plan
from kronos_operator.cli.preparation import Prepared, first_exit_code, local_settings, prepare_each
from kronos_operator.cli.progress import StageProgress, planned_state
from kronos_operator.cli.summary import ModelSummary, show_summary, summarise, summary_document
from kronos_operator.cli.terminal import console, print_json

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded
    from kronos_operator.local import LocalSettings, RunResult


def run(
    files: Files = None,
    named: NamedFiles = None,
    overrides: Overrides = None,
    stage: OneStage = None,
    mode: Annotated[Mode, typer.Option(help="Models one after the other, or several at once.")] = "sequential",
    max_workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most models at once in parallel mode. Defaults to 2, and with --workers-per-gpu to that times the "
            "GPUs.",
            show_default=False,
        ),
    ] = None,
    workers_per_gpu: Annotated[
        int,
        typer.Option(
            min=1,
            help="Models that share a GPU in parallel mode: several small ones fill a GPU that one leaves idle. They "
            "share its memory, too.",
        ),
    ] = 1,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the tokenizer, then the predictor, of each model, and evaluate it; only what is missing is done.

    Ctrl-C saves and stops (75), and the same command resumes from there; a second Ctrl-C kills. A failed model does not
    stop the others; the exit code is that of the first failed model.
    """
    if workers_per_gpu > 1 and mode != "parallel":
        raise typer.BadParameter("needs --mode parallel", param_hint="--workers-per-gpu")
    loaded = load(files, named, overrides, os.environ)
    settings = local_settings(
        stage=stage, mode=mode, max_workers=max_workers, workers_per_gpu=workers_per_gpu, force=force
    )
    if dry_run:
        prepared = prepare_each(loaded, settings)
        show_plan(prepared, as_json=as_json)
        code = first_exit_code(prepared)
    else:
        code = train(loaded, settings, as_json=as_json)
    raise typer.Exit(code)


def train(loaded: Sequence[Loaded], settings: LocalSettings, *, as_json: bool = False) -> int:
    """Run every model and print the summary; progress goes to stderr where stdout is to hold JSON."""
    from kronos_operator.local import execute
    from kronos_trainer.config import NoteEvent

    prepared = prepare_each(loaded, settings)
    runs = [one.run for one in prepared if one.run is not None]
    stages = [
        StageProgress(one.key, stage.stage.value, state=planned_state(stage.action))
        for one in runs
        for stage in one.stages
    ]
    display = display_on(console(stderr=as_json), stages)
    with display:
        for one in runs:
            for note in one.notes:
                display.notify(one.key, NoteEvent(message=note))
        outcomes = execute(runs, settings, display.notify)
    summaries = [_summary(one, outcomes) for one in prepared]
    if as_json:
        print_json([summary_document(one) for one in summaries])
    else:
        show_summary(summaries)
    return next((one.exit_code for one in summaries if one.exit_code), 0)


def _summary(one: Prepared, outcomes: Mapping[str, RunResult]) -> ModelSummary:
    if one.run is not None:
        return summarise(one.run, outcomes[one.run.key])
    assert one.error is not None
    name = one.loaded.model.metadata.name
    return ModelSummary(model=name, run=None, exit_code=one.error.exit_code, message=str(one.error))
