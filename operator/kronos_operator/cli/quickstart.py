"""`kronos quickstart`: checks the machine, asks what to train, shows the plan and runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.prompt import Confirm, Prompt

from kronos_operator.cli.doctor import examine
from kronos_operator.cli.doctor import show as show_checks
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.models import Files, NamedFiles, load
from kronos_operator.cli.options import Mode, OneStage, Overrides
from kronos_operator.cli.plan import show_plan
from kronos_operator.cli.preparation import local_settings, prepare_each
from kronos_operator.cli.run import train
from kronos_operator.cli.terminal import interactive, print_line

EXAMPLES = Path("manifests/examples")


def quickstart(
    files: Files = None,
    named: NamedFiles = None,
    overrides: Overrides = None,
    stage: OneStage = None,
    mode: Annotated[
        Mode | None,
        typer.Option(help="Models one after the other, or several at once.", show_default="sequential"),
    ] = None,
    max_workers: Annotated[int, typer.Option(min=1, help="Most models at once in parallel mode.")] = 2,
    tiny: Annotated[
        bool,
        typer.Option("--tiny", help="Tiny random weights and few epochs: minutes on a CPU, and no hub is needed."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the defaults and run.")] = False,
) -> None:
    """Check this machine, choose models, stage and mode, show the plan, and run it.

    Without files, the models are chosen among the examples, those whose bars are on this machine if there are any.
    """
    from kronos_trainer.config import TRIAL, ExitCode, StageName

    asking = not yes and interactive()
    if not asking and not yes:
        raise Failure("no terminal to ask on; --yes takes the defaults", ExitCode.CONFIG)
    paths = [*(files or []), *(named or [])] or _choose_files(asking)
    trial = [*TRIAL, *(overrides or [])]
    loaded = load(paths, None, trial if tiny else overrides, os.environ)

    outcome = examine(loaded)
    show_checks(outcome)
    failed = {check.name for check in outcome if check.state == "fail"}
    if failed == {"weights"} and asking and Confirm.ask("Go on with tiny random weights and few epochs?", default=True):
        loaded = load(paths, None, trial, os.environ)
        failed = set()
    if failed:
        raise typer.Exit(ExitCode.ENVIRONMENT)

    if asking and stage is None:
        answer = Prompt.ask("Stages", choices=["all", *StageName], default="all")
        stage = None if answer == "all" else StageName(answer)
    if asking and mode is None and len(loaded) > 1:
        mode = (
            "parallel"
            if Prompt.ask("Mode", choices=["sequential", "parallel"], default="sequential") == "parallel"
            else None
        )
    settings = local_settings(stage=stage, mode=mode or "sequential", max_workers=max_workers)

    print_line()
    show_plan(prepare_each(loaded, settings))
    print_line()
    if asking and not Confirm.ask("Run this?", default=True):
        raise typer.Exit(0)
    raise typer.Exit(train(loaded, settings))


def _choose_files(asking: bool) -> list[Path]:
    """The files to train: the user's choice among the examples, or all whose bars are here."""
    from kronos_operator.loading import read_models
    from kronos_operator.local import refusals
    from kronos_trainer.config import ExitCode

    models = read_models([EXAMPLES]).models if EXAMPLES.is_dir() else []
    settings = local_settings()
    ready = [one.file for one in models if not any(refusals(one, settings))]
    found = ready or [one.file for one in models]
    if not found:
        advice = "name one with --file, or create one with: kronos init"
        raise Failure(f"no KronosModel file in {EXAMPLES}; {advice}", ExitCode.INPUT_MISSING)
    if not asking:
        return found
    for index, file in enumerate(found, start=1):
        print_line(f"  {index}  {file}")
    answer = Prompt.ask("Models, by number, separated by commas", default="1")
    return _picked(answer, found)


def _picked(answer: str, found: Sequence[Path]) -> list[Path]:
    from kronos_trainer.config import ExitCode

    numbers = [part.strip() for part in answer.split(",")]
    wrong = [part for part in numbers if not part.isdecimal() or not 1 <= int(part) <= len(found)]
    if wrong:
        raise Failure(f"{', '.join(wrong)}: choose numbers from 1 to {len(found)}", ExitCode.CONFIG)
    return [found[int(part) - 1] for part in dict.fromkeys(numbers)]
