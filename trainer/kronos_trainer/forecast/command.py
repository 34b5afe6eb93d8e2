"""The forecast command once its options are checked: bars from files, forecasts to files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kronos_trainer.config import clash, is_folder
from kronos_trainer.data.calendars import check_calendar
from kronos_trainer.data.quality.findings import some
from kronos_trainer.data.quality.trading_hours import spacing
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.data.resample import resampled_frame
from kronos_trainer.errors import ConfigError, DataError
from kronos_trainer.forecast.consistency import total
from kronos_trainer.forecast.drawing import Drawn
from kronos_trainer.forecast.future_file import FutureFile
from kronos_trainer.forecast.histories import Histories, read_histories, read_history
from kronos_trainer.forecast.lengths import beyond_training, lookback_of
from kronos_trainer.forecast.nets import forecaster_of
from kronos_trainer.forecast.outcome import columns_of
from kronos_trainer.forecast.output import Written, files_in, write_one
from kronos_trainer.forecast.quantiles import column, not_calibrated
from kronos_trainer.forecast.request import Request
from kronos_trainer.forecast.times import next_times
from kronos_trainer.storage import durable

MOST_SAID = 10  # symbols that failed, each with a line of its own


@dataclass(frozen=True)
class _Task:
    bars: pd.DataFrame
    history: pd.DataFrame  # its last bars, which the model sees
    future: pd.DatetimeIndex


def write_forecast(request: Request) -> None:
    """Writes the forecasts and, if asked for, the plots; notes go to standard error.

    Symbols that cannot be forecast are reported at the end. Raises TrainerError if none can be, if `strict` requires
    all, and for errors that concern all of them.
    """
    check_calendar(request.calendar)
    notes: dict[str, list[str]] = {}  # and the symbols that each is about
    histories = _histories(request)
    many = request.symbol is None and (request.input.is_dir() or len(histories.bars) + len(histories.failed) > 1)
    future = FutureFile(request.future) if request.future is not None else None
    horizon = request.horizon or (len(future) if future else 0) or _trained_horizon(request)
    if horizon > request.max_context:
        raise ConfigError(
            f"horizon {horizon} exceeds the context of {request.max_context} bars; lower --horizon, or raise "
            "--max-context if the model was trained with more"
        )
    tasks: dict[str, _Task] = {}
    for symbol, bars in histories.bars.items():
        try:
            tasks[symbol] = _task(request, symbol, bars, horizon, future, notes)
        except (DataError, ConfigError) as error:
            if not many:
                raise
            histories.failed[symbol] = str(error)
    if not tasks:
        raise DataError(_only(histories.failed))

    lengths = [(symbol, len(task.history)) for symbol, task in tasks.items()]
    beyond = beyond_training(horizon, request.lookback, request.max_context, request.weights.window, lengths)
    about = [note if len(tasks) == 1 or not names else f"{note}: {some(names)}" for note, names in notes.items()]
    for note in [*histories.notes, *about, *beyond, *request.kind.notes(horizon)]:
        print(f"note: {note}", file=sys.stderr)

    outputs = _places(request, list(tasks), many)
    drawn = _drawn(request, tasks)
    _write(request, tasks, drawn, outputs, many)
    _say(tasks, outputs, horizon, histories.failed)
    if histories.failed and request.strict:
        raise DataError(
            f"{len(histories.failed)} of {len(histories.failed) + len(tasks)} symbols were not forecast (--strict)"
        )


def _histories(request: Request) -> Histories:
    if request.symbol is not None:
        return read_history(request.input, request.symbol, request.weights, request.bad_rows)
    return read_histories(request.input, request.weights, request.bad_rows)


def _trained_horizon(request: Request) -> int:
    if request.weights.window is None:
        raise ConfigError("set --horizon, the number of bars to forecast")
    return request.weights.window.horizon


def _task(
    request: Request,
    symbol: str,
    bars: pd.DataFrame,
    horizon: int,
    future: FutureFile | None,
    notes: dict[str, list[str]],
) -> _Task:
    weights, zone = request.weights, bars.attrs["zone"]
    if weights.timeframe is not None:
        read, bars = len(bars), resampled_frame(bars, weights.timeframe, symbol)
        if len(bars) != read:
            one = f"resampled from {read} bars to {len(bars)} of the model's timeframe {weights.timeframe}"
            notes.setdefault(one, []).append(symbol)
    history = bars.tail(lookback_of(len(bars), request.lookback, weights.window, request.max_context))
    past = pd.DatetimeIndex(bars["timestamps"])
    if future is not None:
        times = future.times(
            horizon,
            after=past[-1],
            history=request.input,
            zone=zone,
            time_zone=weights.reading.time_zone,
            step=spacing(past.as_unit("ns").asi8) if weights.reading.label == "right" else None,
        )
    else:
        times, note = next_times(past, horizon, request.calendar, zone)
        if note is not None:
            notes.setdefault(note, [])
    return _Task(bars, history, times)


def _only(failed: Mapping[str, str]) -> str:
    """Why nothing could be forecast."""
    reasons = list(failed.items())
    if len(reasons) == 1:
        return reasons[0][1]
    return f"none of {len(reasons)} symbols can be forecast; the first, {reasons[0][0]}: {reasons[0][1]}"


def _places(request: Request, symbols: list[str], many: bool) -> dict[str, dict[str, Path]]:
    """Where `--output` and `--plot` of each symbol go. Raises ConfigError for what would overwrite something."""
    places: dict[str, dict[str, Path]] = {}
    for option, place, suffix in (("--output", request.output, ".csv"), ("--plot", request.plot, ".png")):
        if place is None:
            continue
        if is_folder(place, request.input):
            places[option] = files_in(place, symbols, suffix)
        elif option == "--plot" and many:
            raise ConfigError(f"--plot {place}: {len(symbols)} symbols need as many plots; set a directory")
        else:
            places[option] = dict.fromkeys(symbols, place)
    files = ((option, file) for option, its in places.items() for file in its.values())
    problem = clash(files, request.input, request.inputs())
    if problem is not None:
        raise ConfigError(problem)
    return places


def _drawn(request: Request, tasks: Mapping[str, _Task]) -> dict[str, Drawn]:
    forecaster = forecaster_of(request.weights, max_context=request.max_context, device=request.device)
    kind = request.kind
    drawn = forecaster.drawer.draw(
        [task.history for task in tasks.values()],
        [task.future for task in tasks.values()],
        kind.sampling,
        raw=kind.raw,
    )
    repaired = total(one.repairs for one in drawn if one.repairs is not None).note()
    for note in filter(None, [not_calibrated(drawn, kind), repaired]):
        print(f"note: {note}", file=sys.stderr)
    return dict(zip(tasks, drawn, strict=True))


def _write(
    request: Request,
    tasks: Mapping[str, _Task],
    drawn: Mapping[str, Drawn],
    outputs: Mapping[str, Mapping[str, Path]],
    many: bool,
) -> None:
    written = {}
    for symbol, task in tasks.items():
        rows, bar = columns_of(drawn[symbol], request.kind)
        rows.insert(0, "timestamps", task.future[bar])
        written[symbol] = Written(rows, task.history)
    files = outputs["--output"]
    for file in dict.fromkeys(files.values()):
        together = {symbol: one for symbol, one in written.items() if files[symbol] == file}
        write_one(file, together, with_symbol=many and not is_folder(request.output, request.input))
    if "--plot" not in outputs:
        return
    from kronos_trainer.forecast.candles import candles_png

    for symbol, task in tasks.items():
        average = pd.DataFrame(drawn[symbol].average, columns=list(FEATURES))
        average.insert(0, "timestamps", task.future)
        rows = written[symbol].rows
        fan = {one: rows[column("close", one)].to_numpy(np.float64) for one in request.kind.quantiles}
        png, note = candles_png(task.bars, average, symbol, fan)
        if note is not None:
            print(f"note: {note}", file=sys.stderr)
        durable.write_bytes(outputs["--plot"][symbol], png)


def _say(
    tasks: Mapping[str, _Task], outputs: Mapping[str, Mapping[str, Path]], horizon: int, failed: Mapping[str, str]
) -> None:
    files = list(dict.fromkeys(outputs["--output"].values()))
    first, last = min(task.future[0] for task in tasks.values()), max(task.future[-1] for task in tasks.values())
    where = str(files[0]) if len(files) == 1 else f"{files[0].parent}: {len(files)} files"
    of = f" of each of {len(tasks)} symbols" if len(tasks) > 1 else ""
    print(f"{where}: {horizon} bars{of}, {first} to {last}")
    if failed:
        print(f"warning: {len(failed)} of {len(failed) + len(tasks)} symbols were not forecast", file=sys.stderr)
    for symbol, reason in list(failed.items())[:MOST_SAID]:
        print(f"warning: {symbol}: {reason}", file=sys.stderr)
    if len(failed) > MOST_SAID:
        print(f"warning: and {len(failed) - MOST_SAID} more", file=sys.stderr)
