"""The arguments of the trainer's own commands: an error in them is one line and exit code 64, as for any other."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from kronos_trainer.commands import Option
from kronos_trainer.config import ExitCode

Read = Callable[[str], Any]
"""Makes a value of an argument's text. Raises argparse.ArgumentTypeError."""


class Arguments(argparse.ArgumentParser):
    """Prints the error and how to get help, instead of the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.CONFIG, f"error: {message}; help: {self.prog} --help\n")


def add_options(
    parser: argparse.ArgumentParser, options: Sequence[Option], read: Mapping[str, Read] | None = None
) -> None:
    """Adds the options of a table. `read` has parsers, by name, of those that are not text, numbers or choices."""
    groups: dict[str | None, argparse._ActionsContainer] = {None: parser}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        _add(groups[option.group], option, (read or {}).get(option.name))


def _add(parser: argparse._ActionsContainer, option: Option, read: Read | None) -> None:
    shown = "" if option.shown_default is None else f" (default: {option.shown_default})"
    text = f"{option.help}{shown}"
    if option.positional:
        nargs = "+" if option.many else None if option.required else "?"
        parser.add_argument(
            option.name, type=option.kind, nargs=nargs, metavar=(option.metavar or "").rstrip("."), help=text
        )
    elif option.kind is bool:
        parser.add_argument(*option.flags, action="store_true", help=text)
    else:
        parser.add_argument(
            *option.flags,
            type=read or (option.kind if option.least is None else _at_least(option.least)),
            choices=option.choices if option.choices and read is None else None,
            default=option.default,
            required=option.required,
            metavar=option.metavar,
            help=text,
        )


def _at_least(least: int) -> Read:
    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number, at least {least}; found {text!r}")
        return int(text)

    return whole
