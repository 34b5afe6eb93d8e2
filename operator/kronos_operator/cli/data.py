"""`kronos data`: hands its options to `python -m kronos_trainer.data`, which needs pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from kronos_operator.cli.children import flags, run_tool
from kronos_operator.cli.declared import takes
from kronos_operator.cli.options import Image
from kronos_operator.cli.target import Target, TheCluster, TheContext, TheKubeconfig, TheNamespace
from kronos_trainer.commands import CHECK_OPTIONS, IMPORT_OPTIONS, SAMPLE_OPTIONS

data = typer.Typer(no_args_is_help=True, help="Get, convert and check bars.")


@data.command("sample")
@takes(SAMPLE_OPTIONS)
def sample(**options: Any) -> None:
    """Write real sample bars: five US stocks by day, EURUSD by hour."""
    _start("sample", options)


@data.command("import")
@takes(IMPORT_OPTIONS)
def import_(*, files: list[Path], **options: Any) -> None:
    """Convert bars as vendors, exchanges and libraries write them, and report what was recognised.

    Pickles of upstream's finetune scripts are read too; nothing in them is executed.
    """
    _start("import", options, files)


@data.command("check")
@takes(CHECK_OPTIONS)
def check(*, path: Path | None, **options: Any) -> None:
    """Read bars as a training would: report what they are, what is odd, the windows of each split, and what is refused.

    Ends with 65 if a training would refuse the bars.
    """
    _start("check", options, [] if path is None else [path])


@data.command("push")
def push(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory with files of bars, or one file.", show_default=False)
    ],
    claim: Annotated[
        str, typer.Option(metavar="NAME", help="PersistentVolumeClaim to copy them to.", show_default=False)
    ],
    path: Annotated[
        str, typer.Option(metavar="PATH", help="Directory on the claim, e.g. us/daily.", show_default="its root")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files whose content differs.")] = False,
    image: Image = None,
    on_cluster: TheCluster = False,
    kubeconfig: TheKubeconfig = None,
    context: TheContext = None,
    namespace: TheNamespace = None,
) -> None:
    """Copy bars to a claim in a cluster, through a short-lived pod.

    A training never reads an incomplete copy. Running it again sends only what is missing. Run kronos data check first.
    """
    from kronos_operator.cli.cluster import pushing

    target = Target(kubeconfig=kubeconfig, context=context, namespace=namespace)
    pushing.push(target, source, claim=claim, path=path, overwrite=overwrite, image=image)


def _start(command: str, options: Mapping[str, Any], files: Sequence[Path] = ()) -> NoReturn:
    """Runs a command of the trainer's and ends with its exit code."""
    needs = ("pandas", "pyarrow", *(("matplotlib",) if options.get("plot") is not None else ()))
    arguments = [command, *flags(options), *(["--", *map(str, files)] if files else [])]
    raise typer.Exit(run_tool("kronos_trainer.data", arguments, needs=needs))
