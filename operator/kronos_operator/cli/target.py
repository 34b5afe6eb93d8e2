"""Where a command looks for models: on this machine, unless its options mean a cluster."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from kronos_operator.cli.failure import Failure

_PANEL = "Which models (default: local runs on this machine)"
_CLUSTER_PANEL = "Which cluster"

OnCluster = Annotated[
    bool,
    typer.Option("--cluster", help="Models in the Kubernetes cluster of the current context.", rich_help_panel=_PANEL),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Models in the cluster of this kubeconfig; implies --cluster.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        help="Models in the cluster of this context of the kubeconfig; implies --cluster.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="Models of this namespace.",
        show_default="default; in a cluster, the context's own",
        rich_help_panel=_PANEL,
    ),
]
# Of commands that always mean a cluster: --cluster is taken, and is what they do without it.
TheCluster = Annotated[
    bool,
    typer.Option(
        "--cluster",
        help="The cluster of the current context, which is the default.",
        rich_help_panel=_CLUSTER_PANEL,
    ),
]
TheKubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Kubeconfig of the cluster.",
        show_default="$KUBECONFIG, else ~/.kube/config",
        rich_help_panel=_CLUSTER_PANEL,
    ),
]
TheContext = Annotated[
    str | None,
    typer.Option(
        "--context",
        help="Context of the kubeconfig.",
        show_default="the current one",
        rich_help_panel=_CLUSTER_PANEL,
    ),
]
SubmitNamespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="Namespace of models whose file names none.",
        show_default="the context's own",
        rich_help_panel=_CLUSTER_PANEL,
    ),
]


TheNamespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="Namespace of the claim or the model.",
        show_default="the context's own",
        rich_help_panel=_CLUSTER_PANEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A cluster, as options name it; None stands for the default of the kubeconfig."""

    kubeconfig: Path | None
    context: str | None
    namespace: str | None


def target_of(on_cluster: bool, kubeconfig: Path | None, context: str | None, namespace: str | None) -> Target | None:
    """The cluster that the options mean; None means this machine. A namespace exists in both and decides nothing."""
    if not on_cluster and kubeconfig is None and context is None:
        return None
    return Target(kubeconfig=kubeconfig, context=context, namespace=namespace)


def here_only(instead: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command that works on files of this machine the options that mean a cluster, hidden: it answers them with
    what to do `instead`. Raises Failure (64) then."""

    def refusing(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def here(*, on_cluster: bool, kubeconfig: Path | None, context: str | None, **options: Any) -> None:
            if target_of(on_cluster, kubeconfig, context, None) is not None:
                from kronos_trainer.config import ExitCode

                raise Failure(instead, ExitCode.CONFIG)
            command(**options)

        options = (
            ("on_cluster", False, Annotated[bool, typer.Option("--cluster", hidden=True)]),
            ("kubeconfig", None, Annotated[Path | None, typer.Option("--kubeconfig", hidden=True)]),
            ("context", None, Annotated[str | None, typer.Option("--context", hidden=True)]),
        )
        hidden = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, default, kind in options
        ]
        parameters = [*inspect.signature(command).parameters.values(), *hidden]
        here.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        here.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return here

    return refusing
