"""`python -m kronos_trainer.data sample | import | check`: what `kronos data` starts.

Each command imports what it needs once its options are read, so that an error in them is reported immediately.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kronos_trainer.arguments import Arguments, add_options
from kronos_trainer.commands import IMPORT_OPTIONS, SAMPLE_OPTIONS
from kronos_trainer.config import ExitCode
from kronos_trainer.data.commands.check import add_check
from kronos_trainer.data.layouts.known import check_layout
from kronos_trainer.data.quality.findings import some
from kronos_trainer.data.reading.columns import parse_given
from kronos_trainer.errors import TrainerError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; a failure is one line on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader has closed the pipe, like `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.DONE


def _parser() -> Arguments:
    parser = Arguments(prog="kronos data", description="Get, convert and check bars.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    sample = commands.add_parser("sample", help="write real sample bars: five US stocks by day, EURUSD by hour")
    add_options(sample, SAMPLE_OPTIONS)
    sample.set_defaults(command=_sample)

    take = commands.add_parser("import", help="convert bars in any known layout to one plain file a symbol")
    add_options(take, IMPORT_OPTIONS)
    take.set_defaults(command=_import)

    add_check(commands)
    return parser


def _sample(arguments: argparse.Namespace) -> None:
    from kronos_trainer.data.commands.samples import write_samples

    for path in write_samples(arguments.out):
        print(path)


def _import(arguments: argparse.Namespace) -> None:
    check_layout(arguments.layout)
    columns = parse_given(arguments.columns)
    from kronos_trainer.data.commands.importing import import_bars

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


if __name__ == "__main__":
    sys.exit(main())
