"""The options of the forecast command, and what each of them may be; known without torch and pandas."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

from kronos_trainer.errors import ConfigError

MAX_CONTEXT = 512  # of every released model but mini
LEAST_HISTORY = 2  # bars; the deviation of one is 0


class _Parser(argparse.ArgumentParser):
    """Reports a bad option as every other error is reported."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (--help lists the options)")


def parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kronos forecast", description="Continue a series of bars.", allow_abbrev=False)
    weights = parser.add_argument_group("weights: a published model, or two directories")
    weights.add_argument("--model", metavar="NAME", help="name of a published model")
    weights.add_argument("--namespace", metavar="NAME", help="the model's namespace (the only one that has it)")
    root = Path(os.environ.get("KRONOS_OUTPUT_PATH", "outputs"))
    weights.add_argument(
        "--root", metavar="DIR", type=Path, default=root, help="where runs leave their results (%(default)s)"
    )
    weights.add_argument(
        "--tokenizer", metavar="DIR", type=Path, help="directory with config.json and model.safetensors"
    )
    weights.add_argument(
        "--predictor", metavar="DIR", type=Path, help="directory with config.json and model.safetensors"
    )

    bars = parser.add_argument_group("bars")
    bars.add_argument("--input", metavar="PATH", type=Path, required=True, help="file of bars, or a directory")
    bars.add_argument("--symbol", metavar="NAME", help="only this symbol, where the input holds several")
    bars.add_argument(
        "--bad-rows", choices=["refuse", "drop"], default="refuse", help="what to do with bad rows (%(default)s)"
    )
    bars.add_argument(
        "--columns", metavar="FIELD=NAME", help="own names of columns, as close=Price,volume=Vol. (the model's)"
    )
    bars.add_argument(
        "--lookback",
        metavar="N",
        type=_history,
        help="last bars that are the history (the model's, else up to max-context)",
    )
    bars.add_argument(
        "--max-context", metavar="N", type=_count, help=f"bars the predictor sees (the model's, else {MAX_CONTEXT})"
    )
    bars.add_argument(
        "--horizon", metavar="N", type=_count, help="bars to forecast (as many as --future names, else the model's)"
    )
    bars.add_argument(
        "--future", metavar="FILE", type=Path, help="CSV or Parquet file with the times of the bars to forecast"
    )
    bars.add_argument(
        "--calendar", metavar="NAME", help="exchange whose calendar gives these times, such as XNYS (the model's)"
    )
    bars.add_argument(
        "--strict", action="store_true", help="end with an error if one of several symbols cannot be forecast"
    )

    draw = parser.add_argument_group("drawing")
    draw.add_argument("--samples", metavar="N", type=int, default=1, help="paths that are averaged (%(default)s)")
    draw.add_argument("--paths", action="store_true", help="every path instead of their average")
    draw.add_argument(
        "--quantiles",
        metavar="Q,Q",
        type=_quantiles,
        help="quantiles of the paths instead of their average: 0.05,0.5,0.95",
    )
    draw.add_argument(
        "--raw", action="store_true", help="leave bars that contradict themselves as they were drawn, as with --top-k 1"
    )
    draw.add_argument(
        "--temperature", metavar="T", type=float, default=1.0, help="below 1: sharper, above 1: flatter (%(default)s)"
    )
    draw.add_argument(
        "--top-k",
        metavar="K",
        type=int,
        default=0,
        help="among the k likeliest tokens; 0: all; 1: deterministic (%(default)s)",
    )
    draw.add_argument(
        "--top-p",
        metavar="P",
        type=float,
        default=0.9,
        help="among the likeliest that together exceed this (%(default)s)",
    )
    draw.add_argument(
        "--seed", metavar="SEED", type=int, default=0, help="the same seed gives the same forecast (%(default)s)"
    )
    draw.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")

    parser.add_argument(
        "--output",
        metavar="PATH",
        type=Path,
        required=True,
        help="file to write, Parquet if it ends with .parquet, else CSV; or a directory, for a file of each symbol",
    )
    parser.add_argument("--plot", metavar="PATH", type=Path, help="PNG file, or directory, to draw the candles into")
    return parser


def _count(text: str) -> int:
    """A whole number of bars."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bars, 1 or more")
    return int(text)


def _history(text: str) -> int:
    """A number of bars that have a deviation."""
    if _count(text) < LEAST_HISTORY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bars, {LEAST_HISTORY} or more")
    return int(text)


def _quantiles(text: str) -> tuple[float, ...]:
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers between 0 and 1, as 0.05,0.5,0.95") from None
