"""The command: `python -m kronos_trainer.forecast --model NAME --input bars.csv --horizon N --output out.csv`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pandas as pd
import torch

from kronos_trainer import durable
from kronos_trainer.config import Window
from kronos_trainer.errors import BadEnvironment, ConfigError, OutOfMemory, TrainerError
from kronos_trainer.forecast.candles import candles_png
from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.future import infer_future
from kronos_trainer.forecast.future_file import read_future
from kronos_trainer.forecast.published import Weights, published_weights
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.weights import load_predictor, load_tokenizer
from kronos_trainer.readers import read_frame
from kronos_trainer.resample import resampled_frame

MAX_CONTEXT = 512  # of every released model but mini


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the forecast and returns the exit code; a failure is one line on standard error."""
    try:
        _forecast(_parser().parse_args(arguments))
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _forecast(options: argparse.Namespace) -> None:
    sampling = Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        samples=options.samples,
        seed=options.seed,
    )
    if options.plot is not None and options.plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {options.plot}: must end with .png")
    device = _device(options.device)
    weights = _weights(options)
    window = weights.window
    horizon: int | None = options.horizon or (window.horizon if window else None)
    if horizon is None:
        raise ConfigError("give --horizon, the number of bars to forecast")
    max_context: int = options.max_context or (window.max_context if window else MAX_CONTEXT)
    bars, notes = read_frame(
        options.input, symbol=options.symbol, time_zone=weights.time_zone, bad_rows=options.bad_rows
    )
    zone = bars.attrs["zone"]
    if weights.timeframe is not None:
        read, bars = len(bars), resampled_frame(bars, weights.timeframe, options.symbol or options.input.stem)
        if len(bars) != read:
            notes.append(f"resampled from {read} bars to {len(bars)} of the model's timeframe {weights.timeframe}")
    history = bars.tail(_lookback(options.lookback, window, len(bars), max_context, notes))
    times = pd.DatetimeIndex(bars["timestamps"])
    if options.future is not None:
        future = read_future(
            options.future,
            horizon,
            after=times[-1],
            history=options.input,
            zone=zone,
            time_zone=weights.time_zone,
        )
    else:
        future = infer_future(times, horizon)
        notes.append(
            "future timestamps are inferred from the history; holidays are unknown, --future names them exactly"
        )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)

    forecaster = Forecaster(
        load_tokenizer(weights.tokenizer),
        load_predictor(weights.predictor),
        max_context=max_context,
        clip=weights.clip,
        device=device,
    )
    try:
        forecast = forecaster.forecast(history, future, sampling)
    except torch.OutOfMemoryError:
        raise OutOfMemory(
            "the device has too little memory; lower --samples or --max-context, or use --device cpu"
        ) from None
    durable.write_text(options.output, forecast.to_csv(index=False))
    if options.plot is not None:
        name = options.symbol or options.model or options.input.stem
        title = f"{name}: {horizon} bars after {times[-1]}, from {len(history)} bars of history"
        durable.write_bytes(options.plot, candles_png(bars, forecast, title))
    print(f"{options.output}: {horizon} bars, {future[0]} to {future[-1]}")


def _weights(options: argparse.Namespace) -> Weights:
    directories = (options.tokenizer, options.predictor)
    if (options.model is None) == (directories == (None, None)):
        raise ConfigError("give either --model, or --tokenizer and --predictor")
    if options.model is not None:
        return published_weights(options.root, options.namespace, options.model)
    if None in directories:
        raise ConfigError("--tokenizer and --predictor go together: a predictor knows the tokens of one tokenizer")
    return Weights(tokenizer=options.tokenizer, predictor=options.predictor)


def _lookback(asked: int | None, window: Window | None, rows: int, max_context: int, notes: list[str]) -> int:
    """Rows of history to use."""
    if asked is not None and asked > rows:
        raise ConfigError(f"--lookback {asked} exceeds the {rows} row(s) of the input")
    if asked is not None:
        return asked
    trained = window.lookback if window else max_context
    if window and trained > rows:
        notes.append(f"the model was trained with {trained} bars of history, and the input has only {rows}")
    return min(rows, trained)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"--device {name}: choose auto, cpu, cuda, or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadEnvironment(
            f"--device {name}: {torch.cuda.device_count()} CUDA device(s) are usable here; use --device cpu, or see "
            "`kronos doctor`"
        )
    return device


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
