"""The arguments of the trainer's own commands: a mistake in them is one line and exit code 64, as any other."""

from __future__ import annotations

import argparse
from typing import NoReturn

from kronos_trainer.config import ExitCode


class Arguments(argparse.ArgumentParser):
    """Says what is wrong and how to get help, instead of repeating the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.CONFIG, f"error: {message}; help: {self.prog} --help\n")
