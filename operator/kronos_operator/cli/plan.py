"""`kronos plan`: what a run would do, and where every value comes from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos_operator.cli.models import Files, NamedFiles, load
from kronos_operator.cli.options import AsJson, Force, OneStage, Overrides
from kronos_operator.cli.preparation import Prepared, first_exit_code, local_settings, prepare_each
from kronos_operator.cli.terminal import near, print_json, print_line, print_table
from kronos_operator.cli.values import effective_values, value_text

if TYPE_CHECKING:
    from kronos_operator.local import LocalRun


def plan(
    files: Files = None,
    named: NamedFiles = None,
    overrides: Overrides = None,
    stage: OneStage = None,
    force: Force = False,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write DIR/MODEL/STAGE.json for direct use with torchrun.", show_default=False
        ),
    ] = None,
    every_value: Annotated[bool, typer.Option("--all", help="List every value, defaults included.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what would be trained or reused and why, and where every value comes from. Trains nothing."""
    loaded = load(files, named, overrides, os.environ)
    prepared = prepare_each(loaded, local_settings(stage=stage, force=force))
    show_plan(prepared, defaults=every_value, as_json=as_json)
    if write is not None:
        _write([one.run for one in prepared if one.run is not None], write)
    raise typer.Exit(first_exit_code(prepared))


def show_plan(prepared: Sequence[Prepared], *, defaults: bool = False, as_json: bool = False) -> None:
    """Print the plan of every model."""
    documents = [_document(one, defaults=defaults) for one in prepared]
    if as_json:
        print_json(documents)
        return
    for index, document in enumerate(documents):
        if index:
            print_line()
        _show(document)


def _document(one: Prepared, *, defaults: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"model": one.loaded.model.metadata.name, "file": str(one.loaded.file)}
    if one.error is not None:
        document["error"] = str(one.error)
    if (run := one.run) is not None:
        document |= {
            "run": run.run,
            "steps": [{"stage": one.stage.value, "action": one.action, "reason": one.reason} for one in run.stages],
            "bars": run.bars,
            "results": str(run.paths.run_dir),
            "notes": list(run.notes),
        }
    return document | {"values": effective_values(one.loaded, defaults=defaults)}


def _show(document: dict[str, Any]) -> None:
    heading = f"{document['model']}  ({document['file']})"
    print_line(heading, style="bold")
    if "error" in document:
        print_line(f"  cannot run: {document['error']}", style="red")
    else:
        for label in ("run", "bars", "results"):
            print_line(f"  {label:<8} {near(document[label])}")
        for note in document["notes"]:
            print_line(f"  note     {note}")
        print_line()
        print_table(
            ["stage", "plan", "why"], [[step["stage"], step["action"], step["reason"]] for step in document["steps"]]
        )
    print_line()
    print_table(
        ["field", "value", "from"],
        [[one["field"], value_text(one["value"]), one["where"]] for one in document["values"]],
    )


def _write(runs: Sequence[LocalRun], directory: Path) -> None:
    from kronos_operator.local import write_run_configs

    for run in runs:
        for path in write_run_configs(run, directory / run.model.metadata.name):
            print_line(f"wrote {path}", stderr=True)
