"""`kronos forecast`: hands its options to `python -m kronos_trainer.forecast`, which needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kronos_operator.cli.children import flags, run_tool
from kronos_operator.cli.completion import model_names
from kronos_operator.cli.options import Image
from kronos_operator.cli.target import Context, Kubeconfig, OnCluster, target_of

OF_CLUSTER = frozenset({"on_cluster", "kubeconfig", "kube_context", "image"})  # options that the tool does not know
_WEIGHTS, _BARS, _SAMPLING = "Weights", "Bars", "Sampling"


def forecast(
    context: typer.Context,
    input: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="PATH",
            help="Bars so far: a file or a directory.",
            rich_help_panel=_BARS,
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            metavar="PATH",
            help="The predicted bars: Parquet if it ends with .parquet, else CSV; or a directory, one file a symbol.",
            rich_help_panel=_BARS,
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A model trained here: its published run.",
            rich_help_panel=_WEIGHTS,
            show_default=False,
            autocompletion=model_names,
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAME",
            help="Its namespace.",
            rich_help_panel=_WEIGHTS,
            show_default="the only one that has it; in a cluster, the context's own",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where runs leave results.",
            rich_help_panel=_WEIGHTS,
            show_default="outputs",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Directory of tokenizer weights.", rich_help_panel=_WEIGHTS, show_default=False
        ),
    ] = None,
    predictor: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Directory of predictor weights.", rich_help_panel=_WEIGHTS, show_default=False
        ),
    ] = None,
    symbol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="This symbol alone, where the input holds several.",
            rich_help_panel=_BARS,
            show_default=False,
        ),
    ] = None,
    bad_rows: Annotated[
        Literal["refuse", "drop"] | None,
        typer.Option(help="What to do with bad rows.", rich_help_panel=_BARS, show_default="refuse"),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD=NAME",
            help="Own names of columns, as close=Price,volume=Vol.",
            rich_help_panel=_BARS,
            show_default="the model's",
        ),
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Bars to predict.",
            rich_help_panel=_BARS,
            show_default="as many as --future names, else the model's",
        ),
    ] = None,
    lookback: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Last bars to use as history.",
            rich_help_panel=_BARS,
            show_default="the model's, else as many as fit",
        ),
    ] = None,
    future: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or Parquet with the future timestamps.",
            rich_help_panel=_BARS,
            show_default="by the calendar, else as the history went on",
        ),
    ] = None,
    calendar: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Exchange whose calendar gives the timestamps, such as XNYS.",
            rich_help_panel=_BARS,
            show_default="the model's",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail if one of several symbols cannot be forecast.", rich_help_panel=_BARS),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Draw the candles into this PNG, or directory.",
            rich_help_panel=_BARS,
            show_default=False,
        ),
    ] = None,
    max_context: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Longest context, in bars.",
            rich_help_panel=_SAMPLING,
            show_default="the model's, else 512",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Sampled paths to average.", rich_help_panel=_SAMPLING, show_default="1"),
    ] = None,
    paths: Annotated[
        bool,
        typer.Option("--paths", help="Write every path instead of their average.", rich_help_panel=_SAMPLING),
    ] = False,
    quantiles: Annotated[
        str | None,
        typer.Option(
            metavar="Q,Q",
            help="Write quantiles of the paths instead, such as 0.05,0.5,0.95.",
            rich_help_panel=_SAMPLING,
            show_default=False,
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Leave bars that contradict themselves as they were drawn.", rich_help_panel=_SAMPLING
        ),
    ] = False,
    temperature: Annotated[
        float | None,
        typer.Option(help="Flattens (> 1) or sharpens (< 1).", rich_help_panel=_SAMPLING, show_default="1.0"),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Least probability kept.", rich_help_panel=_SAMPLING, show_default="0.9"),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Most likely tokens kept; 0 keeps all.", rich_help_panel=_SAMPLING, show_default="0"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the random draws.", rich_help_panel=_SAMPLING, show_default="0"),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Where to compute.", rich_help_panel=_SAMPLING, show_default="auto"),
    ] = None,
    on_cluster: OnCluster = False,
    kubeconfig: Kubeconfig = None,
    kube_context: Context = None,
    image: Image = None,
) -> None:
    """Predict the bars after a history, with a model trained here, with any weights, or with a model of a cluster.

    In a cluster a short pod computes it, on CPU; the files are of this machine all the same.
    """
    options = {name: value for name, value in context.params.items() if name not in OF_CLUSTER}
    target = target_of(on_cluster, kubeconfig, kube_context, namespace)
    if target is None:
        raise typer.Exit(run_tool("kronos_trainer.forecast", flags(options), needs=("torch", "pandas")))
    from kronos_operator.cli.cluster import forecasting

    forecasting.forecast(target, options, image=image)
