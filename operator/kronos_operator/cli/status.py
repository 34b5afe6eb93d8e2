"""`kronos status`: the state of local runs, read from their files, or of the models of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos_operator.cli.completion import model_names
from kronos_operator.cli.failure import Failure
from kronos_operator.cli.options import AsJson
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.target import Context, Kubeconfig, Namespace, OnCluster, target_of
from kronos_operator.cli.terminal import near, number, print_json, print_line, print_table
from kronos_operator.cli.verdicts import evaluated, verdict_lines
from kronos_operator.cli.watching import watch_table
from kronos_operator.durations import duration

if TYPE_CHECKING:
    from kronos_operator.local import ModelState

HEADERS = ("model", "run", "stage", "state", "done", "epoch", "val loss", "eta", "verdict")
RIGHT = frozenset({"done", "epoch", "val loss", "eta"})


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Only this model, in detail.", show_default=False, autocompletion=model_names
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show changes until Ctrl-C.")] = False,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Show the state of the models trained here, also while another terminal trains them, or of those in a cluster.

    In a cluster, --json prints the objects.
    """
    target = target_of(on_cluster, kubeconfig, context, namespace)
    if target is not None:
        from kronos_operator.cli.cluster import status as in_cluster

        in_cluster.show(target, name, watch=watch, as_json=as_json)
        return
    if watch:
        watch_table(HEADERS, lambda: [_row(state) for state in states_of(name, namespace)], right=RIGHT)
    states = states_of(name, namespace)
    if as_json:
        print_json([document_of(state) for state in states])
        return
    print_table(HEADERS, [_row(state) for state in states], right=RIGHT)
    if not states:
        note_no_runs()
    if name is not None:
        for state in states:
            _detail(state)


def note_no_runs() -> None:
    """Names the directory that was searched."""
    root = local_settings().output_root
    print_line(f"note: nothing has been run in {root}; set KRONOS_OUTPUT_PATH for another directory", stderr=True)


def states_of(name: str | None, namespace: str | None) -> list[ModelState]:
    """The models below the output directory, or the one that is named. Raises Failure (66) if it does not exist."""
    from kronos_operator.local import read_states
    from kronos_trainer.config import ExitCode

    root = local_settings().output_root
    states = read_states(root)
    if name is None:
        return [state for state in states if namespace in (None, state.namespace)]
    chosen = [state for state in states if (state.namespace, state.name) == (namespace or "default", name)]
    if not chosen:
        raise Failure(f"no model {name} in {root}{_hint(name, states)}", ExitCode.INPUT_MISSING)
    return chosen


def _hint(name: str, states: Sequence[ModelState]) -> str:
    """Where else the model may be: in another namespace, under a similar name, or in another directory."""
    elsewhere = [state.namespace for state in states if state.name == name]
    if elsewhere:
        return f"; it exists in another namespace: --namespace {' or '.join(elsewhere)}"
    from kronos_operator.problems import nearest

    known = ", ".join(state.key for state in states) or "none"
    similar = nearest(name, [state.name for state in states])
    return f" (found: {known}){similar or '; set KRONOS_OUTPUT_PATH for another directory'}"


def _row(state: ModelState) -> list[str]:
    from kronos_trainer.config import ProgressEvent

    progress = state.progress or ProgressEvent(event="progress")
    result = state.results.get(state.stage)
    running = state.state == "running"
    loss = progress.validation_loss if result is None else result.best_validation_loss
    epoch = "-" if None in (progress.epoch, progress.epochs) else f"{progress.epoch}/{progress.epochs}"
    return [
        state.key,
        state.run,
        state.stage.value,
        progress.phase or "starting" if running else state.state,
        "100%" if result else "-" if progress.percent is None else f"{progress.percent:.0f}%",
        epoch,
        number(loss),
        duration(progress.eta_seconds) if running else "-",
        verdict_of(state) or "-",
    ]


def _detail(state: ModelState) -> None:
    print_line()
    if state.message:
        print_line(state.message, style="red")
    for stage, result in state.results.items():
        if not stage.has_weights:
            print_line(f"{stage.value:<10} {duration(result.seconds)}")
            continue
        before, after = number(result.initial_validation_loss), number(result.best_validation_loss)
        print_line(f"{stage.value:<10} val loss {before} → {after}, {duration(result.seconds)}")
    read = [result.data for result in state.results.values() if result.data is not None]
    for note in dict.fromkeys(note for bars in read for note in bars.notes):
        print_line(f"{'note':<10} {note}")
    found = evaluated(state.run, state.results)
    for label, text in [] if found is None else verdict_lines(found):
        print_line(f"{label:<10} {text}")
    if state.report is not None:
        print_line(f"{'report':<10} {near(str(state.report))}")
    if state.published:
        print_line(f"{'published':<10} {state.published}")
    if state.log is not None:
        print_line(f"{'log':<10} {near(str(state.log))}")


def verdict_of(state: ModelState) -> str | None:
    """The verdict on the latest run of a model; None while there is none."""
    found = evaluated(state.run, state.results)
    return None if found is None else found.verdict or None


def document_of(state: ModelState) -> dict[str, Any]:
    """The state as JSON shows it."""
    return {
        "namespace": state.namespace,
        "name": state.name,
        "run": state.run,
        "stage": state.stage.value,
        "attempt": state.attempt,
        "state": state.state,
        "exitCode": state.exit_code,
        "message": state.message,
        "progress": state.progress and state.progress.wire,
        "results": {stage.value: result.wire for stage, result in state.results.items()},
        "published": state.published or None,
        "verdict": verdict_of(state),
        "report": None if state.report is None else str(state.report),
        "log": None if state.log is None else str(state.log),
    }
