"""The command: `python -m kronos_trainer.forecast --model NAME --input bars.csv --horizon N --output out.csv`.

A mistake that shows without torch and pandas is reported before they are imported, which takes seconds.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kronos_trainer import threads
from kronos_trainer.errors import ConfigError, InputMissing, TrainerError
from kronos_trainer.files import bar_files
from kronos_trainer.forecast.published import Weights, published_weights
from kronos_trainer.forecast.request import Request
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.directory import CONFIG, WEIGHTS, present

MAX_CONTEXT = 512  # of every released model but mini


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the forecast and returns the exit code; a failure is one line on standard error."""
    try:
        request = _request(_parser().parse_args(arguments))
        threads.sleep_while_waiting(os.environ)
        from kronos_trainer.forecast.command import write_forecast

        write_forecast(request)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _request(options: argparse.Namespace) -> Request:
    sampling = Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        samples=options.samples,
        seed=options.seed,
    )
    if options.plot is not None and options.plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {options.plot}: must end with .png")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", options.device):
        raise ConfigError(f"--device {options.device}: choose auto, cpu, cuda, or cuda:N")
    weights = _weights(options)
    window = weights.window
    horizon: int | None = options.horizon or (window.horizon if window else None)
    if horizon is None:
        raise ConfigError("give --horizon, the number of bars to forecast")
    bar_files(options.input)
    if options.future is not None and not options.future.exists():
        raise InputMissing(f"{options.future}: no such file of future timestamps")
    for directory in (weights.tokenizer, weights.predictor):
        for name in (CONFIG, WEIGHTS):
            present(directory, name)
    return Request(
        weights=weights,
        input=options.input,
        symbol=options.symbol,
        bad_rows=options.bad_rows,
        lookback=options.lookback,
        max_context=options.max_context or (window.max_context if window else MAX_CONTEXT),
        horizon=horizon,
        future=options.future,
        sampling=sampling,
        device=options.device,
        output=options.output,
        plot=options.plot,
        title=options.symbol or options.model or options.input.stem,
    )


def _weights(options: argparse.Namespace) -> Weights:
    directories = (options.tokenizer, options.predictor)
    if (options.model is None) == (directories == (None, None)):
        raise ConfigError("give either --model, or --tokenizer and --predictor")
    if options.model is not None:
        return published_weights(options.root, options.namespace, options.model)
    if None in directories:
        raise ConfigError("--tokenizer and --predictor go together: a predictor knows the tokens of one tokenizer")
    return Weights(tokenizer=options.tokenizer, predictor=options.predictor)


class _Parser(argparse.ArgumentParser):
    """Reports a bad option as every other error is reported."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (--help lists the options)")


def _parser() -> argparse.ArgumentParser:
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
    bars.add_argument("--input", metavar="FILE", type=Path, required=True, help="CSV or Parquet file")
    bars.add_argument("--symbol", metavar="NAME", help="which symbol, where the input holds several")
    bars.add_argument(
        "--bad-rows", choices=["refuse", "drop"], default="refuse", help="what to do with bad rows (%(default)s)"
    )
    bars.add_argument(
        "--lookback",
        metavar="N",
        type=_count,
        help="last rows that are the history (the model's, else up to max-context)",
    )
    bars.add_argument(
        "--max-context", metavar="N", type=_count, help=f"bars the predictor sees (the model's, else {MAX_CONTEXT})"
    )
    bars.add_argument("--horizon", metavar="N", type=_count, help="bars to forecast (the model's)")
    bars.add_argument(
        "--future", metavar="FILE", type=Path, help="CSV file with a column timestamps; without it they are inferred"
    )

    draw = parser.add_argument_group("drawing")
    draw.add_argument("--samples", metavar="N", type=int, default=1, help="paths that are averaged (%(default)s)")
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

    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="PNG file to draw the candles into")
    return parser


def _count(text: str) -> int:
    """A whole number of bars."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bars, 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
