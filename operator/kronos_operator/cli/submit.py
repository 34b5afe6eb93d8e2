"""`kronos submit`: makes KronosModel files the objects of a cluster, whose operator trains them."""

from __future__ import annotations

from typing import Annotated

import typer

from kronos_operator.cli.failure import Failure, report
from kronos_operator.cli.models import Files, NamedFiles, load
from kronos_operator.cli.options import Overrides
from kronos_operator.cli.target import SubmitNamespace, Target, TheCluster, TheContext, TheKubeconfig
from kronos_operator.cli.terminal import print_line


def submit(
    files: Files = None,
    named: NamedFiles = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the server check everything and change nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that another tool has set, e.g. kubectl.")
    ] = False,
    on_cluster: TheCluster = False,
    kubeconfig: TheKubeconfig = None,
    context: TheContext = None,
    namespace: SubmitNamespace = None,
) -> None:
    """Train models in a cluster: check their files, then apply them there (server-side). On this machine: kronos run.

    A refused model does not stop the others; the exit code is that of the first refused model.
    """
    from kronos_operator.cli.cluster.submitting import apply_each

    # The environment of this machine is not the cluster's.
    loaded = load(files, named, overrides)
    target = Target(kubeconfig=kubeconfig, context=context, namespace=namespace)
    code = 0
    for one in apply_each(loaded, target, dry_run=dry_run, force=force):
        if isinstance(one, Failure):
            code = code or report(one)
            continue
        what = "created" if one.created else "changed" if one.changes else "unchanged"
        plan = ""
        for action, done in (("train", "trained"), ("score", "scored")):
            due = [effect.stage for effect in one.effects if effect.action == action]
            plan += f"; to be {done}: {', '.join(due)}" if due else ""
        print_line(f"{one.namespace}/{one.name} {what}{' (dry run)' if dry_run else ''}{plan}")
        if one.remark:
            print_line(f"  {one.remark}")
    raise typer.Exit(code)
