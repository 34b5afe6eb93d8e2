"""`kronos pull`: brings what a cluster has trained to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kronos_operator.cli.options import Image, ModelName
from kronos_operator.cli.target import Target, TheCluster, TheContext, TheKubeconfig, TheNamespace


def pull(
    name: ModelName,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Directory to copy it to.", show_default=False)],
    image: Image = None,
    on_cluster: TheCluster = False,
    kubeconfig: TheKubeconfig = None,
    context: TheContext = None,
    namespace: TheNamespace = None,
) -> None:
    """Copy a cluster's published model here: weights of both stages, results, report and backtest.

    The weights are verified by the digests in its status. kronos forecast --root DIR then finds it.
    """
    from kronos_operator.cli.cluster import pulling

    pulling.pull(Target(kubeconfig=kubeconfig, context=context, namespace=namespace), name, to=to, image=image)
