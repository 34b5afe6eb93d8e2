"""`kronos diff`: what a file would change, of the model itself and of what is trained."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kronos_operator.cli.changes import Change, StageEffect, body_of, changes, show_changes, show_effects
from kronos_operator.cli.failure import USAGE, Failure, report
from kronos_operator.cli.models import Files, NamedFiles, load
from kronos_operator.cli.options import AsJson, Overrides
from kronos_operator.cli.preparation import local_settings, prepare_each
from kronos_operator.cli.target import Context, Kubeconfig, Namespace, OnCluster, Target, target_of
from kronos_operator.cli.terminal import print_json, print_line

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded


Against = Annotated[
    str | None,
    typer.Option("--against", metavar="REF", help="Compare with the files of this Git commit.", show_default=False),
]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="With --against: print a comment for a pull request.")]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a file would change of one model; `remark` is set where it does not take effect at once."""

    model: str
    new: bool
    changes: tuple[Change, ...]
    stages: tuple[StageEffect, ...]
    remark: str


def diff(
    files: Files = None,
    named: NamedFiles = None,
    overrides: Overrides = None,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
    ref: Against = None,
    as_markdown: AsMarkdown = False,
) -> None:
    """Show what files would change: fields, and stages that would be trained again, by their hashes.

    Compared with the object in a cluster, by a dry run of the server, or with the latest local run; with --against with
    the files of a Git commit, and for how many GPU hours.
    """
    target = target_of(on_cluster, kubeconfig, context, namespace)
    if ref is not None:
        _show_merge([*(named or []), *(files or [])], overrides, ref, target, as_json=as_json, as_markdown=as_markdown)
        return
    if as_markdown:
        raise Failure("--markdown is of --against REF", USAGE)
    if target is None:
        found = _local(load(files, named, overrides, os.environ))
    else:
        found = _in_cluster(load(files, named, overrides), target)
    code, documents = 0, []
    for one in found:
        if isinstance(one, Failure):
            code = code or report(one)
            continue
        documents.append(asdict(one))
        if not as_json:
            _show(one)
    if as_json:
        print_json(documents)
    raise typer.Exit(code)


def _show_merge(
    paths: list[Path],
    overrides: list[str] | None,
    ref: str,
    target: Target | None,
    *,
    as_json: bool,
    as_markdown: bool,
) -> None:
    from kronos_operator.cli.against import markdown, merged
    from kronos_operator.cli.costs import measured_here, measured_in_cluster
    from kronos_operator.cli.revisions import models_at, models_now

    if overrides or not paths or Path("-") in paths:
        raise Failure("--against compares files that are in Git: name them, without --set", USAGE)
    now = models_now(paths)
    if target is None:
        measured = measured_here(local_settings().output_root, [model.ref for model in now.values()])
    else:
        measured = measured_in_cluster(target)
    found = merged(models_at(ref, paths), now, measured)
    if as_json:
        print_json([asdict(one) for one in found])
    elif as_markdown:
        typer.echo(markdown(found), nl=False)
    else:
        for one in found:
            print_line(f"{one.model}: {one.change}", style="bold")
            if one.changes:
                show_changes(one.changes)
            if one.stages and one.change != "unchanged":
                show_effects(one.stages)
                print_line(f"GPU hours: {one.cost.in_words}")


def _show(one: Difference) -> None:
    due = any(effect.action in ("train", "score") for effect in one.stages)
    unchanged = "no field changes" if due else "nothing changes"
    what = "new" if one.new else "would change" if one.changes else unchanged
    print_line(f"{one.model}: {what}", style="bold")
    if one.changes and not one.new:
        show_changes(one.changes)
    show_effects(one.stages)
    if one.remark:
        print_line(one.remark)


def _in_cluster(loaded: Sequence[Loaded], target: Target) -> Iterator[Difference | Failure]:
    from kronos_operator.cli.cluster.submitting import apply_each

    # By force, so that fields of other tools are compared and not refused; nothing is written.
    for one in apply_each(loaded, target, dry_run=True, force=True):
        if isinstance(one, Failure):
            yield one
        else:
            yield Difference(
                model=f"{one.namespace}/{one.name}",
                new=one.created,
                changes=one.changes,
                stages=one.effects,
                remark=one.remark,
            )


def _local(loaded: Sequence[Loaded]) -> Iterator[Difference | Failure]:
    from kronos_operator.local import stored_model

    settings = local_settings()
    for one in prepare_each(loaded, settings):
        if one.error is not None:
            yield Failure(str(one.error), one.error.exit_code)
        if (run := one.run) is None:
            continue
        before = stored_model(settings.output_root, run.model.ref)
        effects = tuple(StageEffect(stage=one.stage.value, action=one.action, reason=one.reason) for one in run.stages)
        old = None if before is None else body_of(before.model)
        yield Difference(
            model=run.key,
            new=before is None,
            changes=tuple(changes(old, body_of(run.stored))),
            stages=effects,
            remark="",
        )
