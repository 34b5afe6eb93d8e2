"""`kronos data check`: a summary of bars, findings, the windows of each split, and what a training refuses."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kronos_trainer.arguments import add_options
from kronos_trainer.commands import CHECK_OPTIONS
from kronos_trainer.config import Data, RunConfig, Source, Timeframe, Window, load_run
from kronos_trainer.data.reading.columns import parse_given
from kronos_trainer.data.reading.files import bar_files
from kronos_trainer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kronos_trainer.data.bars import Bars
    from kronos_trainer.data.quality.findings import Found
    from kronos_trainer.data.windows import Splits


@dataclass(frozen=True)
class Checked:
    """The result of a check."""

    path: Path
    timeframe: Timeframe
    window: Window
    bars: Bars | None  # without what is refused; None where that is all
    found: tuple[Found, ...]
    splits: Splits | None  # None where a split has no window
    refused: tuple[str, ...]  # why a training would not begin

    @property
    def notes(self) -> list[str]:
        """Notes that a training prints as well."""
        from kronos_trainer.data.quality.findings import notes_of

        if self.bars is None:
            return []
        later = notes_of([one for one in self.found if one not in self.bars.found])
        return [*self.bars.notes, *later, *(self.splits.notes if self.splits else ())]


def add_check(commands: Any) -> None:
    """Adds the command to the parsers of `kronos data`."""
    check = commands.add_parser("check", help="read bars as a training would, and say what it would find")
    add_options(check, CHECK_OPTIONS, {"timeframe": _timeframe})
    check.set_defaults(command=_check)


def _timeframe(text: str) -> Timeframe:
    try:
        return Timeframe(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(Timeframe)}; found {text!r}") from None


def _check(arguments: argparse.Namespace) -> None:
    path, timeframe, data, window, run = _asked(arguments)
    bar_files(path)
    from kronos_trainer.data.commands.check_text import document, lines

    checked = check_bars(path, timeframe, data, window, run)
    if arguments.json:
        print(json.dumps(document(checked), indent=2))
    else:
        for line in lines(checked):
            print(line)
    if arguments.plot is not None and checked.bars is not None:
        from kronos_trainer.data.commands.check_plot import overview_png
        from kronos_trainer.storage import durable

        durable.write_bytes(arguments.plot, overview_png(checked))
    if len(checked.refused) > 1:
        raise DataError(f"{path}: refused for {len(checked.refused)} reasons; the first: {checked.refused[0]}")
    if checked.refused:
        raise DataError(checked.refused[0])


def check_bars(path: Path, timeframe: Timeframe, data: Data, window: Window, run: RunConfig | None = None) -> Checked:
    """Reads bars like a training, but reports and skips what that would refuse. Raises InputMissing, ConfigError."""
    from kronos_trainer.data.bars import read_bars, sound_bars
    from kronos_trainer.data.reading.table_reader import DROP
    from kronos_trainer.data.series import ahead
    from kronos_trainer.data.windows import split_bars

    refused: list[str] = []
    bars: Bars | None
    try:
        bars = read_bars(path, timeframe, data)
    except DataError as error:
        bars, refused = sound_bars(path, timeframe, data)
        if not any(one.startswith(str(error).removesuffix(DROP)) for one in refused):
            refused.insert(0, str(error))
    if bars is None:
        return Checked(path, timeframe, window, None, (), None, tuple(refused))
    splits = None
    try:
        splits = split_bars(bars, data, window)
        if run is not None:
            _steps(run, len(splits.train))
    except DataError as error:
        refused.append(str(error))
    found = (*bars.found, *ahead(bars.series, time.time_ns()))
    return Checked(path, timeframe, window, bars, found, splits, tuple(refused))


def _steps(run: RunConfig, windows: int) -> None:
    from kronos_trainer.training.batching import steps_per_epoch

    for config in run.weights_stages().values():
        if config.runs:
            limit = run.training.windows_per_epoch
            steps_per_epoch(windows=windows, windows_per_epoch=limit, batch=config.batch_size)


def _asked(arguments: argparse.Namespace) -> tuple[Path, Timeframe, Data, Window, RunConfig | None]:
    if arguments.run is not None:
        try:
            run = load_run(arguments.run)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return Path(run.bars), run.timeframe, run.data, run.window, run
    if arguments.path is None or arguments.timeframe is None:
        raise ConfigError("name a file or directory of bars and its --timeframe, or a --run run.json")
    given = {name: getattr(arguments, name) for name in ("lookback", "horizon")}
    options = {name: getattr(arguments, name) for name in ("time_zone", "bad_rows", "label", "adjust")}
    try:
        window = Window(max_context=8192, **{name: value for name, value in given.items() if value is not None})
        data = Data(source=Source(path=str(arguments.path)), columns=parse_given(arguments.columns), **options)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError("; ".join(problems)) from None
    return arguments.path, arguments.timeframe, data, window, None
