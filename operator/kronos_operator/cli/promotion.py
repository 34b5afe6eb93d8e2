"""`kronos promote` and `kronos rollback`: which run of a model is published, here or in a cluster."""

from __future__ import annotations

from functools import partial
from typing import Annotated, NoReturn

import typer

from kronos_operator.cli.children import flags, run_tool
from kronos_operator.cli.operations import operation
from kronos_operator.cli.options import ModelName
from kronos_operator.cli.preparation import local_settings
from kronos_operator.cli.target import Context, Kubeconfig, Namespace, OnCluster, target_of

RunToPromote = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="Id of the run, or previous.",
        show_default="the newest run that was judged and held",
    ),
]


def promote(
    name: ModelName,
    run: RunToPromote = None,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Publish a run, whatever the promotion gate has decided.

    It stays published until a run is judged anew and passes the gate, or until kronos rollback.
    """
    target = target_of(on_cluster, kubeconfig, context, namespace)
    if target is None:
        _here("promote", name, namespace, run=run)
    from kronos_operator.cli.cluster import operations

    operations.promote(target, name, run)


def _here(command: str, name: str, namespace: str | None, **options: str | None) -> NoReturn:
    """On this machine, by the trainer's own command."""
    where = flags({"root": local_settings().output_root, "namespace": namespace, "model": name})
    raise typer.Exit(run_tool("kronos_trainer.promotion", [command, *where, *flags(options)], needs=()))


rollback = operation(
    "rollback",
    partial(_here, "rollback"),
    """Publish again the run that was published before.

    The replaced run becomes the previous one: a second rollback comes back to it. It is not published again by itself
    until it is judged anew.
    """,
)
