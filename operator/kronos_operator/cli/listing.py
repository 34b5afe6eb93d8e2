"""`kronos list`: the models of this machine, those that were trained and those that files describe; or of a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.models import Files, NamedFiles, load
from kronos_operator.cli.options import AsJson, Overrides
from kronos_operator.cli.preparation import local_settings, prepare_each
from kronos_operator.cli.status import document_of, note_no_runs
from kronos_operator.cli.target import Context, Kubeconfig, Namespace, OnCluster, target_of
from kronos_operator.cli.terminal import number, print_json, print_line, print_table, size_text
from kronos_operator.cli.verdicts import evaluated
from kronos_operator.durations import round_duration

if TYPE_CHECKING:
    from kronos_operator.api import Evaluated
    from kronos_operator.loading import Loaded
    from kronos_operator.local import Entry, LocalRun, ModelState

HEADERS = ("model", "state", "published", "verdict", "improved", "age", "data to", "size")
RIGHT = frozenset({"improved", "age", "size"})


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A model that a file describes or that is here; `message` is why it cannot be run."""

    key: str
    state: str
    entry: Entry | None
    file: str | None = None
    message: str = ""

    @property
    def evaluated(self) -> Evaluated | None:
        """The evaluation of the published run; where nothing is published, of the latest."""
        return None if self.entry is None else evaluated(self.entry.run, self.entry.results)


def list_models(
    files: Files = None,
    named: NamedFiles = None,
    overrides: Overrides = None,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """List all models: what each has published, the verdict on it, its age, the bars it has seen, and its size.

    Where nothing is published, verdict and age are the latest run's. With files, the models that they describe come
    first: trained, changed, not trained, or how the last run ended.
    """
    target = target_of(on_cluster, kubeconfig, context, namespace)
    given = bool(files or named)
    if target is not None:
        if given:
            from kronos_trainer.config import ExitCode

            raise Failure("a cluster lists its own models: leave out the files, or use kronos diff", ExitCode.CONFIG)
        from kronos_operator.cli.cluster import listing as in_cluster

        in_cluster.show(target, as_json=as_json)
        return
    rows = list(_described(load(files, named, overrides, os.environ)) if given else _here(namespace))
    if as_json:
        print_json([_document(row, described=given) for row in rows])
        return
    headers = (*HEADERS, "file") if given else HEADERS
    print_table(headers, [_row(row)[: len(headers)] for row in rows], right=RIGHT)
    if not rows and not given:
        note_no_runs()
    for row in rows:
        if row.message:
            print_line(f"note: {row.message}", stderr=True)


def improvement_text(share: float | None) -> str:
    """The improvement that a verdict rests on, for a table."""
    return "-" if share is None else f"{number(100 * share, '+.1f')} %"


def age_text(since: datetime | None) -> str:
    """How long ago that was, for a table."""
    return "-" if since is None else round_duration((datetime.now(UTC) - since).total_seconds())


def _here(namespace: str | None) -> Iterator[Listed]:
    from kronos_operator.local import read_catalogue
    from kronos_operator.names import OUTPUT_PATH_ENV
    from kronos_trainer.config import ExitCode

    if "://" in (given := os.environ.get(OUTPUT_PATH_ENV, "")):
        raise Failure(
            f"{OUTPUT_PATH_ENV} is {given}: a list is of a directory; for what a cluster keeps there use --cluster",
            ExitCode.CONFIG,
        )
    for entry in read_catalogue(local_settings().output_root):
        if namespace in (None, entry.model.namespace):
            yield _unnamed(entry)


def _unnamed(entry: Entry) -> Listed:
    state = "copied" if entry.state is None else entry.state.state
    return Listed(key=entry.model.key, state=state, entry=entry)


def _described(loaded: Sequence[Loaded]) -> Iterator[Listed]:
    from kronos_operator.local import read_catalogue

    settings = local_settings()
    roots = dict.fromkeys([settings.output_root.absolute(), *(settings.root(one.model.spec) for one in loaded)])
    entries = {(root, entry.model): entry for root in roots for entry in read_catalogue(root)}
    for one in prepare_each(loaded, settings):
        model = one.loaded.model
        entry = entries.pop((settings.root(model.spec), model.ref), None)
        yield Listed(
            key=model.ref.key,
            state="cannot run" if one.run is None else _state(one.run, None if entry is None else entry.state),
            entry=entry,
            file=str(one.loaded.file),
            message="" if one.error is None else str(one.error),
        )
    yield from map(_unnamed, entries.values())


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


def _row(row: Listed) -> list[str]:
    entry, found = row.entry, row.evaluated
    return [
        row.key,
        row.state,
        "-" if entry is None else entry.published or "-",
        "-" if found is None else found.verdict or "-",
        improvement_text(None if found is None else found.improvement),
        age_text(None if entry is None else entry.since),
        "-" if entry is None else entry.through or "-",
        "-" if entry is None else size_text(entry.bytes),
        row.file or "-",
    ]


def _document(row: Listed, *, described: bool) -> dict[str, Any]:
    entry, found = row.entry, row.evaluated
    state = None if entry is None else entry.state
    offered = {
        "published": None if entry is None else entry.published or None,
        "verdict": None if found is None else found.verdict or None,
        "against": None if found is None else found.against,
        "improvement": None if found is None else found.improvement,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
        "since": None if entry is None or entry.since is None else entry.since.isoformat(),
        "dataThrough": None if entry is None else entry.through or None,
        "bytes": 0 if entry is None else entry.bytes,
    }
    if described:
        run = None if state is None else state.run
        shown = {"name": row.key, "state": row.state, "run": run, "file": row.file, "message": row.message}
    elif state is not None:
        shown = document_of(state)
    else:
        assert entry is not None
        shown = {"namespace": entry.model.namespace, "name": entry.model.name, "run": None, "state": row.state}
    return shown | offered
