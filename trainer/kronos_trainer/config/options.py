"""One option of a command, for whichever library parses it: argparse in the trainer, typer in `kronos`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option; with `positional` an argument. `default_text` is what help shows where the default depends on more."""

    name: str  # as Python spells it
    help: str
    kind: type = str  # a bool is a flag
    default: Any = None
    default_text: str | None = None
    metavar: str | None = None
    short: str | None = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    required: bool = False
    positional: bool = False
    many: bool = False  # of an argument: one or more
    group: str | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """How a command line writes it."""
        long = f"--{self.name.replace('_', '-')}"
        return (long,) if self.short is None else (long, self.short)

    @property
    def shown_default(self) -> str | None:
        """What help names as the default, None for nothing."""
        if self.default_text is None and self.default is not None:
            return str(self.default)
        return self.default_text
