"""`kronos status` and `kronos list`: what local runs have come to, read from their files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.options import AsJson, Namespace
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.terminal import console, draws, duration, near, number, rich_table, say, say_json, say_table

if TYPE_CHECKING:
    from kronos_operator.local import ModelState

WATCH_SECONDS = 2.0
HEADERS = ("model", "run", "stage", "state", "done", "epoch", "val loss", "eta")
RIGHT = frozenset({"done", "epoch", "val loss", "eta"})


def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this model, in detail.", show_default=False)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show changes as they come, until Ctrl-C.")] = False,
    namespace: Namespace = "default",
    as_json: AsJson = False,
) -> None:
    """Show how the models trained here stand, also while another terminal trains them."""
    if watch:
        _watch(name, namespace)
        return
    states = _states(name, namespace)
    if as_json:
        say_json([_document(state) for state in states])
        return
    say_table(HEADERS, [_row(state) for state in states], right=RIGHT)
    if name is not None:
        for state in states:
            _detail(state)


def list_models(as_json: AsJson = False) -> None:
    """List the models trained here and what each has published."""
    states = _states(None, "")
    if as_json:
        say_json([_document(state) for state in states])
        return
    rows = [[_key(state), state.state, state.run, state.published or "-"] for state in states]
    say_table(("model", "state", "latest run", "published run"), rows)


def _states(name: str | None, namespace: str) -> list[ModelState]:
    """Every model below the output directory, or the one that is named. Raises Failure (66) if it is not there."""
    from kronos_operator.local import read_states
    from kronos_trainer.config import ExitCode

    root = local_settings().output
    states = read_states(root)
    if name is None:
        return states
    chosen = [state for state in states if (state.namespace, state.name) == (namespace, name)]
    if not chosen:
        known = ", ".join(_key(state) for state in states) or "none"
        raise Failure(
            f"no model {name} in {root} (found: {known}); KRONOS_OUTPUT_PATH names another directory",
            ExitCode.INPUT_MISSING,
        )
    return chosen


def _watch(name: str | None, namespace: str) -> None:
    target = console()
    if draws(target):
        with Live(console=target, auto_refresh=False) as live:
            while True:
                rows = [_row(state) for state in _states(name, namespace)]
                live.update(rich_table(HEADERS, rows, right=RIGHT), refresh=True)
                time.sleep(WATCH_SECONDS)
    before: Sequence[list[str]] = ()
    while True:
        rows = [_row(state) for state in _states(name, namespace)]
        for row in rows:
            if row not in before:
                print("  ".join(row), flush=True)
        before = rows
        time.sleep(WATCH_SECONDS)


def _row(state: ModelState) -> list[str]:
    progress = state.progress or {}
    result = state.results.get(state.stage, {})
    running = state.state == "running"
    loss = result.get("bestValidationLoss", progress.get("validationLoss"))
    epoch = f"{progress['epoch']}/{progress['epochs']}" if "epoch" in progress and "epochs" in progress else "-"
    return [
        _key(state),
        state.run,
        state.stage.value,
        f"{progress.get('phase', 'starting')}" if running else state.state,
        "100%" if result else f"{number(progress.get('percent'), '.0f')}%" if "percent" in progress else "-",
        epoch,
        number(loss),
        duration(progress.get("etaSeconds")) if running else "-",
    ]


def _detail(state: ModelState) -> None:
    say()
    if state.message:
        say(state.message, style="red")
    for stage, result in state.results.items():
        before, after = number(result.get("initialValidationLoss")), number(result.get("bestValidationLoss"))
        say(f"{stage.value:<10} val loss {before} → {after}, {duration(result.get('seconds'))}")
    if state.published:
        say(f"{'published':<10} {state.published}")
    if state.log is not None:
        say(f"{'log':<10} {near(str(state.log))}")


def _document(state: ModelState) -> dict[str, Any]:
    return {
        "namespace": state.namespace,
        "name": state.name,
        "run": state.run,
        "stage": state.stage.value,
        "attempt": state.attempt,
        "state": state.state,
        "exitCode": state.exit_code,
        "message": state.message,
        "progress": state.progress,
        "results": {stage.value: result for stage, result in state.results.items()},
        "published": state.published or None,
        "log": None if state.log is None else str(state.log),
    }


def _key(state: ModelState) -> str:
    return state.name if state.namespace == "default" else f"{state.namespace}/{state.name}"
