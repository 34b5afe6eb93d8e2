"""The command: `python -m kronos_trainer.report NAME [--open|--text]`, or `--all` for a page of all models.

A mistake that shows without Matplotlib is reported before it is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kronos_trainer.arguments import Arguments, add_options
from kronos_trainer.commands import REPORT_OPTIONS
from kronos_trainer.config import ExitCode
from kronos_trainer.errors import ConfigError, TrainerError
from kronos_trainer.report import showing


def main(arguments: Sequence[str] | None = None) -> int:
    """Shows what is asked for and returns the exit code; a failure is one line on standard error."""
    parser = Arguments(prog="kronos report", description="Show the report of a model.", allow_abbrev=False)
    add_options(parser, REPORT_OPTIONS)
    if (root := os.environ.get("KRONOS_OUTPUT_PATH")) is not None:
        parser.set_defaults(root=Path(root))
    options = parser.parse_args(arguments)
    try:
        if (options.name is None) != options.all:
            raise ConfigError("name a model, or use --all for a page of all of them")
        if options.open and options.text:
            raise ConfigError("--open and --text are two ways to show it: use one")
        if options.all:
            showing.show_all(options.root, text=options.text, browse=options.open)
        else:
            found = showing.find(options.root, options.namespace, options.name, options.run)
            showing.show(found, text=options.text, browse=options.open)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader has closed the pipe, like `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
