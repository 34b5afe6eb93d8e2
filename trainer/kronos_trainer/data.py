"""`python -m kronos_trainer.data sample | import | check`: what `kronos data` starts.

Each command imports what it needs once its options are read, so that a mistake in them is reported at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kronos_trainer.arguments import Arguments
from kronos_trainer.columns import parse_given
from kronos_trainer.config import Data, ExitCode, Source, Timeframe, Window, load_run
from kronos_trainer.errors import ConfigError, TrainerError
from kronos_trainer.files import bar_files
from kronos_trainer.findings import some
from kronos_trainer.layouts.known import check_layout

if TYPE_CHECKING:
    import numpy as np

    from kronos_trainer.bars import Bars
    from kronos_trainer.windows import Splits


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; a failure is one line on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return ExitCode.DONE


def _parser() -> Arguments:
    parser = Arguments(prog="kronos data", description="Get, convert and check bars.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    sample = commands.add_parser("sample", help="write real sample bars: five US stocks by day, EURUSD by hour")
    sample.add_argument("--out", type=Path, default=Path("data"), help="directory to write under (default: data)")
    sample.set_defaults(command=_sample)

    take = commands.add_parser("import", help="convert bars in any known layout to one plain file a symbol")
    take.add_argument("files", type=Path, nargs="+", metavar="FILE", help="files and directories, train_data.pkl, ...")
    take.add_argument("--out", type=Path, required=True, help="directory to write one file per symbol to")
    take.add_argument("--layout", help="the layout that is expected (default: recognised)")
    take.add_argument("--format", choices=("parquet", "csv"), default="parquet", help="kind of file")
    take.add_argument("--columns", help="own names of columns: close=Price,volume=Vol.")
    take.add_argument("--time-zone", help="IANA zone of the exchange, for stamps that carry another")
    take.add_argument("--bad-rows", choices=("refuse", "drop"), default="refuse", help="what to do with bad rows")
    take.set_defaults(command=_import)

    check = commands.add_parser("check", help="read bars as a training would, and say what it would find")
    check.add_argument("path", type=Path, nargs="?", help="file or directory of bars")
    check.add_argument("--run", type=Path, help="a run.json that names the bars and all options instead")
    check.add_argument("--timeframe", choices=[item.value for item in Timeframe], help="length of a bar")
    check.add_argument("--lookback", type=int, help="bars of history")
    check.add_argument("--horizon", type=int, help="bars to predict")
    check.add_argument("--time-zone", help="IANA zone of the exchange")
    check.add_argument("--columns", help="own names of columns: close=Price,volume=Vol.")
    check.add_argument("--bad-rows", choices=("refuse", "drop"), default="refuse", help="what to do with bad rows")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(command=_check)
    return parser


def _sample(arguments: argparse.Namespace) -> None:
    from kronos_trainer.samples import write_samples

    for path in write_samples(arguments.out):
        print(path)


def _import(arguments: argparse.Namespace) -> None:
    check_layout(arguments.layout)
    columns = parse_given(arguments.columns)
    from kronos_trainer.importing import import_bars

    done = import_bars(
        arguments.files,
        arguments.out,
        arguments.format,
        layout=arguments.layout,
        columns=columns.given if columns else None,
        time_zone=arguments.time_zone,
        bad_rows=arguments.bad_rows,
    )
    for what, names in done.layouts.items():
        print(f"{some(names)}: {what}")
    for note in done.notes:
        print(f"note: {note}")
    print(f"{arguments.out}: {len(done.rows)} symbols, {sum(done.rows.values())} rows")


def _check(arguments: argparse.Namespace) -> None:
    path, timeframe, data, window = _asked(arguments)
    bar_files(path)
    from kronos_trainer.bars import read_bars
    from kronos_trainer.windows import split_bars

    bars = read_bars(path, timeframe, data)
    report = summary(bars, split_bars(bars, data, window))
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    for line in lines(path, report):
        print(line)


def _asked(arguments: argparse.Namespace) -> tuple[Path, Timeframe, Data, Window]:
    if arguments.run is not None:
        try:
            run = load_run(arguments.run)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return Path(run.bars), run.timeframe, run.data, run.window
    if arguments.path is None or arguments.timeframe is None:
        raise ConfigError("name a file or directory of bars and its --timeframe, or a --run run.json")
    given = {name: getattr(arguments, name) for name in ("lookback", "horizon")}
    try:
        window = Window(max_context=8192, **{name: value for name, value in given.items() if value is not None})
        data = Data(
            source=Source(path=str(arguments.path)),
            time_zone=arguments.time_zone,
            bad_rows=arguments.bad_rows,
            columns=parse_given(arguments.columns),
        )
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError("; ".join(problems)) from None
    return arguments.path, Timeframe(arguments.timeframe), data, window


def summary(bars: Bars, splits: Splits) -> dict[str, Any]:
    """What `check` reports: counts, ends, windows of each split and notes."""
    return {
        "symbols": len(bars.symbols),
        "bars": len(bars.times),
        "first": _stamp(bars.times.min()),
        "last": _stamp(bars.times.max()),
        "digest": bars.digest,
        "splits": {
            name: {
                "start": _stamp(splits.spans[name][0]),
                "end": _stamp(splits.spans[name][1]),
                "windows": len(getattr(splits, name)),
            }
            for name in ("train", "validation", "test")
        },
        "perSymbol": {
            symbol: int(bars.offsets[index + 1] - bars.offsets[index]) for index, symbol in enumerate(bars.symbols)
        },
        "notes": [*bars.notes, *splits.notes],
    }


def lines(path: Path, report: dict[str, Any]) -> list[str]:
    """The report as text."""
    text = [f"{path}: {report['symbols']} symbols, {report['bars']} bars, {report['first']} to {report['last']}"]
    for name, split in report["splits"].items():
        text.append(f"{name}: {split['windows']} windows, {split['start']} up to {split['end']}")
    return text + [f"note: {note}" for note in report["notes"]]


def _stamp(time: int | np.int64) -> str:
    import numpy as np

    return str(np.datetime64(int(time), "ns").astype("datetime64[s]")).replace("T", " ").removesuffix(" 00:00:00")


if __name__ == "__main__":
    sys.exit(main())
