"""The command: `python -m kronos_trainer.forecast --model NAME --input bars.csv --horizon N --output out.csv`.

A mistake that shows without torch and pandas is reported before they are imported, which takes seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial

from kronos_trainer import threads
from kronos_trainer.commands import MAX_CONTEXT
from kronos_trainer.config import clash, is_folder
from kronos_trainer.data.reading.columns import parse_given
from kronos_trainer.errors import ConfigError, InputMissing, TrainerError
from kronos_trainer.forecast.kind import Kind
from kronos_trainer.forecast.options import parser
from kronos_trainer.forecast.published import Weights, published_weights
from kronos_trainer.forecast.request import Request
from kronos_trainer.forecast.sampling import Sampling

OTHER_FORMATS = (
    *(".json", ".jsonl", ".ndjson", ".feather", ".arrow", ".orc", ".avro", ".xls", ".xlsx", ".ods", ".h5", ".hdf5"),
    *(".pkl", ".pickle", ".npy", ".npz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".db", ".sqlite", ".png"),
    ".pdf",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the forecast and returns the exit code; a failure is one line on standard error."""
    options = parser().parse_args(arguments)
    try:
        request = _request(options)
        threads.sleep_while_waiting(os.environ)
        from kronos_trainer.forecast.command import write_forecast

        write_forecast(request)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _request(options: argparse.Namespace) -> Request:
    given = {one.name: getattr(options, one.name) for one in fields(Sampling)}
    kind = partial(Kind.asked, given, paths=options.paths, quantiles=options.quantiles or (), raw=options.raw or None)
    kind()  # a mistake in it is told before one in the weights
    weights = _weights(options)
    if (columns := parse_given(options.columns)) is not None:
        weights = replace(weights, reading=weights.reading.model_copy(update={"columns": columns.given}))
    window = weights.window
    if options.horizon is None and options.future is None and window is None:
        raise ConfigError("set --horizon (number of bars) or --future (their timestamps)")
    if options.future is not None and options.calendar is not None:
        raise ConfigError("--future and --calendar both set the timestamps: use one")
    request = Request(
        weights=weights,
        input=options.input,
        symbol=options.symbol,
        bad_rows=options.bad_rows,
        lookback=options.lookback,
        max_context=options.max_context or (window.max_context if window else MAX_CONTEXT),
        horizon=options.horizon,
        future=options.future,
        calendar=options.calendar or weights.reading.calendar,
        kind=kind(calibration=weights.calibration),
        device=options.device,
        output=options.output,
        plot=options.plot,
        strict=options.strict,
    )
    if options.future is not None and not options.future.exists():
        raise InputMissing(f"{options.future}: no such file of future timestamps")
    _check_places(request)
    weights.require()
    return request


def _check_places(request: Request) -> None:
    """Raises ConfigError where a result would replace what is read, or its name promise what it does not hold."""
    inputs = request.inputs()
    folder = is_folder(request.output, request.input)
    if not folder and request.output.name.lower().endswith(OTHER_FORMATS):
        raise ConfigError(
            f"--output {request.output}: a forecast is written as CSV (.csv, .csv.gz, .tsv) or Parquet (.parquet)"
        )
    plot = request.plot
    if plot is not None and not is_folder(plot, request.input) and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: must end with .png")
    outputs = [("--output", request.output), *([("--plot", plot)] if plot is not None else [])]
    problem = clash(outputs, request.input, inputs)
    if problem is not None:
        raise ConfigError(problem)


def _weights(options: argparse.Namespace) -> Weights:
    directories = (options.tokenizer, options.predictor)
    if (options.model is None) == (directories == (None, None)):
        raise ConfigError("set either --model, or --tokenizer and --predictor")
    if options.run is not None and options.model is None:
        raise ConfigError("--run names a run of --model: set both")
    if options.model is not None:
        return published_weights(options.root, options.namespace, options.model, options.run)
    if None in directories:
        raise ConfigError("--tokenizer and --predictor must be set together: a predictor works with one tokenizer only")
    return Weights(tokenizer=options.tokenizer, predictor=options.predictor)


if __name__ == "__main__":
    sys.exit(main())
