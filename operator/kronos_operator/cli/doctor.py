"""`kronos doctor`: checks this machine and prints how to fix what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from kronos_operator.cli import checks
from kronos_operator.cli.checks import Check, HubWeights
from kronos_operator.cli.models import Files, NamedFiles, load
from kronos_operator.cli.options import AsJson, Overrides
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.terminal import console, draws, near, print_json, print_line

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    files: Files = None,
    named: NamedFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check Python, torch, GPUs, disk, data and weights, and print how to fix what is wrong.

    With files, checks what these models need. Exits with 78 if something is missing.
    """
    from kronos_trainer.config import ExitCode

    loaded = load(files, named, overrides, os.environ) if files or named else []
    outcome = examine(loaded)
    if as_json:
        print_json([asdict(check) for check in outcome])
    else:
        show(outcome)
    if any(check.state == "fail" for check in outcome):
        raise typer.Exit(ExitCode.ENVIRONMENT)


def examine(loaded: Sequence[Loaded]) -> list[Check]:
    """Every check that applies to these models; without models, the checks of the machine alone."""
    settings = local_settings()
    wanted: list[Callable[[], list[Check]]] = [
        partial(_one, checks.check_python),
        checks.check_compute,
        partial(_one, checks.check_libraries),
    ]
    roots = dict.fromkeys(settings.root(one.model.spec) for one in loaded)
    wanted += [partial(checks.check_output, Path(near(str(root)))) for root in roots or [settings.output_root]]
    if not loaded:
        wanted.append(partial(_one, checks.check_data, settings.data_root))
    for weights in _hub_weights(loaded):
        wanted.append(partial(_one, checks.check_weights, weights))
    inputs = [check for one in loaded for check in checks.check_inputs(one, settings)]
    wanted.append(lambda: list(dict.fromkeys(inputs)))
    reports = any(one.model.spec.comet is not None for one in loaded)
    wanted.append(partial(_one, checks.check_comet, os.environ, wanted=reports))

    target = console(stderr=True)
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda check: check(), wanted)
        if draws(target):
            with target.status("checking this machine"):
                return [check for group in answers for check in group]
        return [check for group in answers for check in group]


def show(outcome: Sequence[Check]) -> None:
    """Print a line per check, and below it the fix for what is wrong."""
    target = console()
    for check in outcome:
        target.print(
            Text.assemble((f"{check.state:<5}", _STYLES[check.state]), f"{check.name:<10} {check.found}"),
            soft_wrap=True,
        )
        if check.mend and check.state != "ok":
            print_line(f"{'':<16}{check.mend}", style="dim")
    counts = {state: sum(check.state == state for check in outcome) for state in _STYLES}
    print_line()
    if counts["fail"]:
        print_line(f"{counts['fail']} to fix before training, {counts['warn']} to note")
    else:
        print_line("ready to train" + (f", {counts['warn']} to note" if counts["warn"] else ""))


def _one(check: Callable[..., Check], *arguments: object, **options: object) -> list[Check]:
    return [check(*arguments, **options)]


def _hub_weights(loaded: Sequence[Loaded]) -> list[HubWeights]:
    """The hub repositories that the models start from; without models, those of the usual size."""
    from kronos_trainer.config import STARTS

    usual = STARTS["small"]
    stages = [stage for one in loaded for stage in one.model.spec.weights_stages().values()]
    hubs = [stage.init.hub for stage in stages or (usual.tokenizer, usual.predictor)]
    return list(dict.fromkeys(HubWeights(hub.repo, hub.revision) for hub in hubs if hub))
