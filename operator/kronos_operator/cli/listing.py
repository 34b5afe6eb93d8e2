"""`kronos list`: the models of this machine, those that were trained and those that files describe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kronos_operator.cli.models import Files, NamedFiles, load
from kronos_operator.cli.options import AsJson, Overrides
from kronos_operator.cli.preparation import local_settings, prepare_each
from kronos_operator.cli.status import document_of, note_no_runs, states_of, verdict_of
from kronos_operator.cli.terminal import print_json, print_line, print_table

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded
    from kronos_operator.local import LocalRun, ModelState

HEADERS = ("model", "state", "latest run", "published run", "verdict")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A model that a file describes or that was trained; `message` is why it cannot be run."""

    key: str
    state: str
    run: str | None
    published: str | None
    verdict: str | None  # of the latest run
    file: str | None = None
    message: str = ""


def list_models(
    files: Files = None, named: NamedFiles = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """List the models trained here, what each has published, and the verdict on its latest run.

    With files, the models that they describe come first: trained, changed, not trained, or how the last run ended.
    """
    if not (files or named):
        _list_states(states_of(None, None), as_json=as_json)
        return
    loaded = load(files, named, overrides, os.environ)
    rows = list(_listed(loaded))
    if as_json:
        print_json([_document(row) for row in rows])
        return
    print_table(
        (*HEADERS, "file"),
        [
            [row.key, row.state, row.run or "-", row.published or "-", row.verdict or "-", row.file or "-"]
            for row in rows
        ],
    )
    for row in rows:
        if row.message:
            print_line(f"note: {row.message}", stderr=True)


def _list_states(states: Sequence[ModelState], *, as_json: bool) -> None:
    if as_json:
        print_json([document_of(state) for state in states])
        return
    rows = [[state.key, state.state, state.run, state.published or "-", verdict_of(state) or "-"] for state in states]
    print_table(HEADERS, rows)
    if not rows:
        note_no_runs()


def _listed(loaded: Sequence[Loaded]) -> Iterator[Listed]:
    from kronos_operator.local import read_states

    settings = local_settings()
    roots = dict.fromkeys([settings.output_root.absolute(), *(settings.root(one.model.spec) for one in loaded)])
    states = {(root, state.namespace, state.name): state for root in roots for state in read_states(root)}
    for one in prepare_each(loaded, settings):
        model = one.loaded.model
        state = states.pop((settings.root(model.spec), model.ref.namespace, model.ref.name), None)
        yield Listed(
            key=model.ref.key,
            state="cannot run" if one.run is None else _state(one.run, state),
            run=state.run if state else None,
            published=state.published or None if state else None,
            verdict=verdict_of(state) if state else None,
            file=str(one.loaded.file),
            message="" if one.error is None else str(one.error),
        )
    for state in states.values():
        yield Listed(
            key=state.key,
            state=state.state,
            run=state.run,
            published=state.published or None,
            verdict=verdict_of(state),
        )


def _state(run: LocalRun, state: ModelState | None) -> str:
    """The state of a model, compared with its file."""
    if state is not None and state.state == "running":
        return "running"
    if not any(one.due for one in run.stages):
        return "trained"
    if state is None:
        return "not trained"
    if state.run != run.run:
        return "changed"
    return (
        f"{state.stage} {'trained' if state.stage.has_weights else 'done'}"
        if state.state == "succeeded"
        else state.state
    )


def _document(row: Listed) -> dict[str, Any]:
    return {
        "name": row.key,
        "state": row.state,
        "run": row.run,
        "published": row.published,
        "verdict": row.verdict,
        "file": row.file,
        "message": row.message,
    }
