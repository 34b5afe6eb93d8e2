"""Bars from a file, a forecast into a file: what the command does once its options are checked."""

from __future__ import annotations

import sys

import pandas as pd
import torch

from kronos_trainer import durable
from kronos_trainer.config import Window
from kronos_trainer.errors import BadEnvironment, ConfigError, OutOfMemory
from kronos_trainer.forecast.candles import candles_png
from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.future import infer_future
from kronos_trainer.forecast.future_file import read_future
from kronos_trainer.forecast.request import Request
from kronos_trainer.model.weights import load_predictor, load_tokenizer
from kronos_trainer.readers import read_frame
from kronos_trainer.resample import resampled_frame


def write_forecast(request: Request) -> None:
    """Writes the CSV file and, if asked for, the plot; notes go to standard error. Raises TrainerError."""
    device = _device(request.device)
    weights, horizon = request.weights, request.horizon
    bars, notes = read_frame(
        request.input,
        symbol=request.symbol,
        time_zone=weights.time_zone,
        bad_rows=request.bad_rows,
        label=weights.label,
        adjust=weights.adjust,
    )
    zone = bars.attrs["zone"]
    if weights.timeframe is not None:
        read, bars = len(bars), resampled_frame(bars, weights.timeframe, request.symbol or request.input.stem)
        if len(bars) != read:
            notes.append(f"resampled from {read} bars to {len(bars)} of the model's timeframe {weights.timeframe}")
    history = bars.tail(_lookback(request.lookback, weights.window, len(bars), request.max_context, notes))
    times = pd.DatetimeIndex(bars["timestamps"])
    if request.future is not None:
        future = read_future(
            request.future,
            horizon,
            after=times[-1],
            history=request.input,
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
        max_context=request.max_context,
        clip=weights.clip,
        device=device,
    )
    try:
        forecast = forecaster.forecast(history, future, request.sampling)
    except torch.OutOfMemoryError:
        raise OutOfMemory(
            "the device has too little memory; lower --samples or --max-context, or use --device cpu"
        ) from None
    durable.write_text(request.output, forecast.to_csv(index=False))
    if request.plot is not None:
        title = f"{request.title}: {horizon} bars after {times[-1]}, from {len(history)} bars of history"
        durable.write_bytes(request.plot, candles_png(bars, forecast, title))
    print(f"{request.output}: {horizon} bars, {future[0]} to {future[-1]}")


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
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadEnvironment(
            f"--device {name}: {torch.cuda.device_count()} CUDA device(s) are usable here; use --device cpu, or see "
            "`kronos doctor`"
        )
    return device
