"""Options that the trainer declares, as typer takes them: of the commands that start one of the trainer's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_type_hints

import typer

from kronos_trainer.commands import Option

Command = Callable[..., None]
Complete = Callable[[str], list[str]]


def takes(options: Sequence[Option], complete: Mapping[str, Complete] | None = None) -> Callable[[Command], Command]:
    """Gives a command the options of a table, before its own, as keyword arguments.

    None, or False, means that an option was not given: its default is the trainer's. The command may name some of them
    itself.
    """
    declared = [_parameter(option, (complete or {}).get(option.name)) for option in options]

    names = {option.name for option in options}

    def with_options(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD and parameter.name not in names
        ]
        parameters = [*declared, *own]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return with_options


def _parameter(option: Option, complete: Complete | None) -> inspect.Parameter:
    default: Any = False if option.kind is bool else None
    if option.required or option.many:
        default = inspect.Parameter.empty
    kind: Any = Literal[option.choices] if option.choices else option.kind
    kind = list[kind] if option.many else kind
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind if default is not None else kind | None, _info(option, complete)],
    )


def _info(option: Option, complete: Complete | None) -> Any:
    """What typer is to know of it."""
    shared: dict[str, Any] = {
        "metavar": option.metavar,
        "help": option.help,
        "show_default": option.shown_default or False,
        "rich_help_panel": option.group,
        "autocompletion": complete,
        "min": option.least,
    }
    return typer.Argument(**shared) if option.positional else typer.Option(*option.flags, **shared)
