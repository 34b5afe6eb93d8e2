"""`python -m kronos_trainer.data sample | import | check`: what `kronos data` starts.

Each command imports what it needs once its options are read, so that a mistake in them is reported at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kronos_trainer.arguments import Arguments
from kronos_trainer.check import add_check
from kronos_trainer.config import ExitCode
from kronos_trainer.errors import TrainerError


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

    legacy = commands.add_parser("import", help="convert train_data.pkl of upstream's finetune scripts")
    legacy.add_argument("pickles", type=Path, nargs="+", metavar="PICKLE", help="train_data.pkl, val_data.pkl, ...")
    legacy.add_argument("--out", type=Path, required=True, help="directory to write one file per symbol to")
    legacy.add_argument("--format", choices=("parquet", "csv"), default="parquet", help="kind of file")
    legacy.set_defaults(command=_import)

    add_check(commands)
    return parser


def _sample(arguments: argparse.Namespace) -> None:
    from kronos_trainer.samples import write_samples

    for path in write_samples(arguments.out):
        print(path)


def _import(arguments: argparse.Namespace) -> None:
    from kronos_trainer.legacy import import_pickles

    rows = import_pickles(arguments.pickles, arguments.out, arguments.format)
    print(f"{arguments.out}: {len(rows)} symbols, {sum(rows.values())} rows")


if __name__ == "__main__":
    sys.exit(main())
