"""`kronos data`: hands its options to `python -m kronos_trainer.data`, which needs pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kronos_operator.cli.children import flags, run_tool
from kronos_operator.cli.options import Image
from kronos_operator.cli.target import Target, TheCluster, TheContext, TheKubeconfig, TheNamespace

OwnColumns = Annotated[
    str | None,
    typer.Option(metavar="FIELD=NAME,...", help="Own names of columns, as close=Price.", show_default=False),
]

data = typer.Typer(no_args_is_help=True, help="Get bars to train on, and look at them.")


@data.command("sample")
def sample(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory to write under.", show_default="data")
    ] = None,
) -> None:
    """Write real bars to try things with: five US stocks by day, EURUSD by hour."""
    raise typer.Exit(_tool("sample", flags(context.params)))


@data.command("import")
def import_(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Files and directories of bars, train_data.pkl, ...", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory for one file per symbol.", show_default=False)],
    layout: Annotated[
        str | None, typer.Option(metavar="NAME", help="The layout to expect.", show_default="recognised")
    ] = None,
    format: Annotated[
        Literal["parquet", "csv"] | None, typer.Option(help="Kind of file.", show_default="parquet")
    ] = None,
    columns: OwnColumns = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA zone of the exchange.", show_default=False)] = None,
    bad_rows: Annotated[
        Literal["refuse", "drop"] | None, typer.Option(help="What to do with bad rows.", show_default="refuse")
    ] = None,
) -> None:
    """Convert bars as vendors, exchanges and libraries write them, and say what was recognised.

    Pickles of upstream's finetune scripts are read too; nothing in them is executed.
    """
    options = {name: value for name, value in context.params.items() if name != "files"}
    raise typer.Exit(_tool("import", [*flags(options), "--", *map(str, files)]))


@data.command("check")
def check(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="File or directory of bars.", show_default=False)
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A run.json (kronos plan --write) that names the bars and all options.",
            show_default=False,
        ),
    ] = None,
    timeframe: Annotated[str | None, typer.Option(help="Length of a bar, e.g. 1d.", show_default=False)] = None,
    lookback: Annotated[int | None, typer.Option(min=1, help="Bars of history.", show_default=False)] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Bars to predict.", show_default=False)] = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA zone of the exchange.", show_default=False)] = None,
    columns: OwnColumns = None,
    bad_rows: Annotated[
        Literal["refuse", "drop"] | None,
        typer.Option(help="What to do with bad rows.", show_default="refuse"),
    ] = None,
    label: Annotated[
        Literal["left", "right"] | None,
        typer.Option(help="Which end of its bar a timestamp is.", show_default="left"),
    ] = None,
    adjust: Annotated[
        Literal["none", "splits"] | None,
        typer.Option(help="splits: adjust the bars for clear splits.", show_default="none"),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the bars, what was found and the splits.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read bars as a training would: what is there, what is odd about it, the windows of each split, what is refused.

    Ends with 65 when a training would refuse the bars.
    """
    options = {name: value for name, value in context.params.items() if name not in ("path", "as_json")}
    where = [] if path is None else ["--", str(path)]
    raise typer.Exit(_tool("check", [*flags(options | {"json": as_json}), *where]))


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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that hold something else.")] = False,
    image: Image = None,
    on_cluster: TheCluster = False,
    kubeconfig: TheKubeconfig = None,
    context: TheContext = None,
    namespace: TheNamespace = None,
) -> None:
    """Copy bars onto a claim of a cluster, by a short pod.

    A training never reads half of it. Running it again sends only what is not there yet. kronos data check first.
    """
    from kronos_operator.cli.cluster import pushing

    target = Target(kubeconfig=kubeconfig, context=context, namespace=namespace)
    pushing.push(target, source, claim=claim, path=path, overwrite=overwrite, image=image)


def _tool(command: str, arguments: list[str]) -> int:
    needs = ("pandas", "pyarrow", *(("matplotlib",) if "--plot" in arguments else ()))
    return run_tool("kronos_trainer.data", [command, *arguments], needs=needs)
