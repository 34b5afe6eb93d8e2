"""The options of the trainer's own commands, declared once, for whichever library parses them.

`kronos forecast`, `data`, `report`, `backtest` and the commands for the models of an output root build their command
lines from these tables (typer), and so do `kronos_trainer.forecast`, `.data`, `.report`, `.backtest` and `.collection`,
which they start (argparse). It imports nothing, for the help of `kronos` is to be there at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

MAX_CONTEXT = 512  # of every released model but mini
LEAST_HISTORY = 2  # bars; the deviation of one is 0


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option; with `positional` an argument. `default_text` is what help shows where the default depends on more."""

    name: str  # as Python spells it
    help: str
    kind: type = str  # a bool is a flag
    default: Any = None
    default_text: str | None = None
    metavar: str | None = None
    short: str | None = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    required: bool = False
    positional: bool = False
    many: bool = False  # of an argument: one or more
    group: str | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """How a command line writes it."""
        long = f"--{self.name.replace('_', '-')}"
        return (long,) if self.short is None else (long, self.short)

    @property
    def shown_default(self) -> str | None:
        """What help names as the default, None for nothing."""
        if self.default_text is None and self.default is not None:
            return str(self.default)
        return self.default_text


_WEIGHTS, _BARS, _SAMPLING = "Weights", "Bars", "Sampling"

_BAD_ROWS = Option(name="bad_rows", choices=("refuse", "drop"), default="refuse", help="What to do with bad rows.")
_TIME_ZONE = Option(name="time_zone", help="IANA zone of the exchange.")
_COLUMNS = Option(name="columns", metavar="FIELD=NAME,...", help="Names of your columns, e.g. close=Price.")

FORECAST_OPTIONS = (
    Option(
        name="input",
        kind=Path,
        metavar="PATH",
        required=True,
        group=_BARS,
        help="The history: a file or a directory of bars.",
    ),
    Option(
        name="output",
        kind=Path,
        metavar="PATH",
        required=True,
        group=_BARS,
        help="The predicted bars: Parquet if it ends with .parquet, else CSV; or a directory, one file per symbol.",
    ),
    Option(name="model", metavar="NAME", group=_WEIGHTS, help="A model trained here."),
    Option(
        name="run",
        metavar="RUN",
        group=_WEIGHTS,
        help="Which of its runs: an id, published, previous or candidate.",
        default_text="published",
    ),
    Option(
        name="namespace",
        short="-n",
        metavar="NAME",
        group=_WEIGHTS,
        help="Its namespace.",
        default_text="the only one that has it; in a cluster, the context's own",
    ),
    Option(
        name="root",
        kind=Path,
        metavar="DIR",
        group=_WEIGHTS,
        help="Where runs leave results.",
        default=Path("outputs"),
    ),
    Option(name="tokenizer", kind=Path, metavar="DIR", group=_WEIGHTS, help="Directory of tokenizer weights."),
    Option(name="predictor", kind=Path, metavar="DIR", group=_WEIGHTS, help="Directory of predictor weights."),
    Option(name="symbol", metavar="NAME", group=_BARS, help="Only this symbol, if the input has several."),
    replace(_BAD_ROWS, group=_BARS),
    Option(
        name="columns",
        metavar="FIELD=NAME",
        group=_BARS,
        help="Names of your columns, e.g. close=Price,volume=Vol.",
        default_text="the model's",
    ),
    Option(
        name="horizon",
        kind=int,
        least=1,
        group=_BARS,
        help="Bars to predict.",
        default_text="as many as --future names, else the model's",
    ),
    Option(
        name="lookback",
        kind=int,
        least=LEAST_HISTORY,
        group=_BARS,
        help="Number of most recent bars to use as history.",
        default_text="the model's, else as many as fit",
    ),
    Option(
        name="future",
        kind=Path,
        metavar="FILE",
        group=_BARS,
        help="CSV or Parquet with the future timestamps.",
        default_text="by the calendar, else spaced as the history",
    ),
    Option(
        name="calendar",
        metavar="NAME",
        group=_BARS,
        help="Exchange whose calendar gives the timestamps, such as XNYS.",
        default_text="the model's",
    ),
    Option(name="strict", kind=bool, group=_BARS, help="Fail if one of several symbols cannot be forecast."),
    Option(name="plot", kind=Path, metavar="PATH", group=_BARS, help="Plot the candles to this PNG file or directory."),
    Option(
        name="max_context",
        kind=int,
        least=1,
        group=_SAMPLING,
        help="Longest context, in bars.",
        default_text=f"the model's, else {MAX_CONTEXT}",
    ),
    Option(name="samples", kind=int, least=1, default=1, group=_SAMPLING, help="Sampled paths to average."),
    Option(name="paths", kind=bool, group=_SAMPLING, help="Write every path instead of their average."),
    Option(
        name="quantiles",
        metavar="Q,Q",
        group=_SAMPLING,
        help="Write quantiles instead, such as 0.05,0.5,0.95: columns close_q05, ..., calibrated if the model is.",
    ),
    Option(
        name="raw",
        kind=bool,
        group=_SAMPLING,
        help="Leave what was sampled: no repair of bars such as a high below the close, no calibration.",
    ),
    Option(
        name="temperature",
        kind=float,
        default_text="1.0; with --quantiles the calibrated one",
        group=_SAMPLING,
        help="Flattens (> 1) or sharpens (< 1) the distribution of tokens.",
    ),
    Option(
        name="top_p",
        kind=float,
        default_text="0.9; with --quantiles the calibrated one",
        group=_SAMPLING,
        help="Keep the most likely tokens up to this total probability.",
    ),
    Option(
        name="top_k",
        kind=int,
        default=0,
        group=_SAMPLING,
        help="Keep this many most likely tokens; 0: all, 1: deterministic.",
    ),
    Option(name="seed", kind=int, default=0, group=_SAMPLING, help="Random seed."),
    Option(
        name="device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        group=_SAMPLING,
        help="Device to compute on.",
    ),
)

SAMPLE_OPTIONS = (
    Option(
        name="out",
        kind=Path,
        metavar="DIR",
        default=Path("data"),
        help="Directory to write under.",
    ),
)

IMPORT_OPTIONS = (
    Option(
        name="files",
        kind=Path,
        positional=True,
        many=True,
        metavar="FILE...",
        help="Files and directories of bars, train_data.pkl, ...",
    ),
    Option(name="out", kind=Path, metavar="DIR", required=True, help="Directory for one file per symbol."),
    Option(name="layout", metavar="NAME", help="The layout to expect.", default_text="recognised"),
    Option(name="format", choices=("parquet", "csv"), default="parquet", help="Kind of file."),
    _COLUMNS,
    _TIME_ZONE,
    _BAD_ROWS,
)

CHECK_OPTIONS = (
    Option(name="path", kind=Path, positional=True, metavar="PATH", help="File or directory of bars."),
    Option(
        name="run",
        kind=Path,
        metavar="FILE",
        help="A run.json (kronos plan --write) that names the bars and all options.",
    ),
    Option(name="timeframe", help="Length of a bar, e.g. 1d."),
    Option(name="lookback", kind=int, least=1, help="Bars of history."),
    Option(name="horizon", kind=int, least=1, help="Bars to predict."),
    _TIME_ZONE,
    _COLUMNS,
    _BAD_ROWS,
    Option(
        name="label",
        choices=("left", "right"),
        default="left",
        help="Which end of its bar a timestamp is.",
    ),
    Option(
        name="adjust",
        choices=("none", "splits"),
        default="none",
        help="splits: adjust the bars for clear splits.",
    ),
    Option(
        name="plot",
        kind=Path,
        metavar="FILE.png",
        help="Plot the bars, the findings and the splits.",
    ),
    Option(name="json", kind=bool, help="Print JSON."),
)

_NAMESPACE = Option(
    name="namespace", short="-n", metavar="NAME", help="Its namespace.", default_text="the only one that has it"
)
_ROOT = Option(name="root", kind=Path, metavar="DIR", help="Where runs leave results.", default=Path("outputs"))
_RUN = Option(name="run", metavar="RUN", help="Id of another run.", default_text="the latest")

REPORT_OPTIONS = (
    Option(
        name="name",
        positional=True,
        metavar="[NAME]",
        help="Name of the model: the report of its latest run on this machine.",
    ),
    Option(name="all", kind=bool, help="Write a page of all models instead, with columns to sort by."),
    Option(name="open", kind=bool, help="Show it in the browser."),
    Option(name="text", kind=bool, help="Print it here instead."),
    _RUN,
    _NAMESPACE,
    _ROOT,
)

BACKTEST_OPTIONS = (
    Option(
        name="name",
        positional=True,
        metavar="[NAME]",
        help="Name of the model: the evaluation of its latest run on this machine.",
    ),
    Option(
        name="strategy",
        choices=("top-k", "long-flat", "long-short"),
        help="How positions follow from forecasts.",
        default_text="the run's, else long-flat with one symbol, top-k with several",
    ),
    Option(
        name="top_k",
        kind=int,
        least=1,
        help="Symbols to hold, with long-short on each side.",
        default_text="the run's, else a fifth of the symbols",
    ),
    Option(
        name="drop_out",
        kind=int,
        least=1,
        help="Symbols to replace at a time, at most.",
        default_text="the run's, else a fifth of --top-k",
    ),
    Option(
        name="cost_bps",
        kind=float,
        metavar="BPS",
        help="Commission of a trade, in basis points of its value.",
        default_text="the run's, else 10",
    ),
    Option(
        name="slippage_bps",
        kind=float,
        metavar="BPS",
        help="How much worse than the open a trade is filled.",
        default_text="the run's, else 5",
    ),
    Option(
        name="bars", kind=Path, metavar="PATH", help="The run's bars, where they are now.", default_text="the run's"
    ),
    Option(name="open", kind=bool, help="Show the page in the browser."),
    _RUN,
    _NAMESPACE,
    _ROOT,
)

_MODEL = Option(name="name", positional=True, required=True, metavar="NAME", help="Name of the model.")
_ANY_ROOT = replace(_ROOT, kind=str, metavar="DIR|URI", default="outputs")  # a URI is no path
_DIRECTORY = replace(_ANY_ROOT, metavar="DIR")

COMPARE_OPTIONS = (
    Option(
        name="first",
        positional=True,
        required=True,
        metavar="A",
        help="A judged model, as NAME or NAME@RUN; without a run the published one.",
    ),
    Option(name="second", positional=True, required=True, metavar="B", help="The model to compare it with."),
    Option(name="html", kind=bool, help="Write a page for the browser instead, and print its path."),
    Option(name="json", kind=bool, help="Print JSON."),
    replace(_NAMESPACE, help="Their namespace, unless a name has its own, as in team/NAME."),
    _ANY_ROOT,
)

EXPORT_OPTIONS = (
    _MODEL,
    Option(
        name="to",
        metavar="DIR|hf://OWNER/NAME",
        required=True,
        help="New directory, or repository of the Hugging Face hub to upload to, with the token of HF_TOKEN.",
    ),
    Option(
        name="run",
        metavar="RUN",
        default="published",
        help="Which of its runs: an id, published, previous or candidate.",
    ),
    Option(
        name="licence",
        metavar="ID",
        help="Licence of the weights, as the hub names it.",
        default_text="that of the released weights it was finetuned from",
    ),
    Option(name="public", kind=bool, help="Make a new repository public; without it, it is private."),
    _NAMESPACE,
    _ANY_ROOT,
)

PRUNE_OPTIONS = (
    _MODEL,
    Option(name="keep", kind=int, least=1, metavar="N", required=True, help="How many of the newest runs stay."),
    Option(name="yes", short="-y", kind=bool, help="Remove them without asking."),
    _NAMESPACE,
    _DIRECTORY,
)

BACKUP_OPTIONS = (
    replace(_MODEL, required=False, metavar="[NAME]", help="Only this model."),
    Option(
        name="to",
        kind=Path,
        metavar="FILE",
        required=True,
        help="New archive: a tar, packed if it ends with .gz or .tgz.",
    ),
    _NAMESPACE,
    _DIRECTORY,
)

RESTORE_OPTIONS = (
    Option(
        name="archive",
        kind=Path,
        positional=True,
        required=True,
        metavar="FILE",
        help="Archive that kronos backup has written.",
    ),
    _DIRECTORY,
)
