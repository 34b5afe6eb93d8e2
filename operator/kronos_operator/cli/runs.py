"""`kronos runs`: every run of a model on this machine, and how it ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos_operator.cli.options import AsJson, ModelName
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.status import document_of, states_of
from kronos_operator.cli.terminal import number, print_json, print_table
from kronos_operator.durations import duration

if TYPE_CHECKING:
    from kronos_operator.local import ModelState

HEADERS = ("run", "stage", "hash", "started", "state", "time", "epochs", "val loss", "verdict", "published")
RIGHT = frozenset({"time", "epochs", "val loss"})


def runs(
    name: ModelName,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Its namespace.", show_default="default")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a model on this machine, newest first, a line for each stage that a run has done.

    A stage that was reused is listed with the run that trained it. For models in a cluster, use kronos status.
    """
    from kronos_operator.local import read_runs
    from kronos_trainer.config import ModelRef

    (latest,) = states_of(name, namespace)
    found = read_runs(local_settings().output_root, ModelRef(namespace=latest.namespace, name=latest.name))
    if as_json:
        print_json([_document(state) for state in found])
        return
    shown, rows = "", []
    for state in found:
        rows.append(_row(state, first=state.run != shown))
        shown = state.run
    print_table(HEADERS, rows, right=RIGHT)


def _row(state: ModelState, *, first: bool) -> list[str]:
    from kronos_trainer.config import StageResult

    result = state.results.get(state.stage, StageResult())
    begun = None if state.started_at is None else state.started_at.astimezone()
    return [
        state.run if first else "",
        state.stage.value,
        state.hash[:8],
        "-" if begun is None else f"{begun:%Y-%m-%d %H:%M}",
        state.state if not state.exit_code else f"{state.state} ({state.exit_code})",
        duration(_seconds(state)),
        "-" if result.epochs is None else str(result.epochs),
        number(result.best_validation_loss),
        "-" if result.evaluation is None else result.evaluation.verdict or "-",
        "yes" if first and state.published == state.run else "",
    ]


def _seconds(state: ModelState) -> float | None:
    """How long the latest attempt took, or has taken so far."""
    if state.started_at is None:
        return None
    end = datetime.now(UTC) if state.state == "running" else state.ended_at
    return None if end is None else (end - state.started_at).total_seconds()


def _document(state: ModelState) -> dict[str, Any]:
    return document_of(state) | {
        "hash": state.hash,
        "startedAt": None if state.started_at is None else state.started_at.isoformat(),
        "seconds": _seconds(state),
        "published": state.published == state.run,
    }
