"""Every command and option as Markdown: `python -m kronos_operator.cli.reference` prints docs/cli.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from kronos_operator.cli.app import app

_HEAD = """\
# Commands

Generated from the command line itself (`make generate`); `kronos COMMAND --help` prints the same text. The exit codes
are in the [runbook](runbook.md#exit-codes).
"""


def reference() -> str:
    """The page."""
    root: Any = typer.main.get_command(app)  # the classes of typer's own copy of click have no public name
    sections: dict[str, list[str]] = {}
    for name, command in root.commands.items():
        parts = sections.setdefault(command.rich_help_panel, [])
        subcommands = getattr(command, "commands", None)
        if subcommands is None:
            parts += _command(command, f"kronos {name}")
        else:
            for below, one in subcommands.items():
                parts += _command(one, f"kronos {name} {below}")
    pages = (f"\n## {title}\n{''.join(parts)}" for title, parts in sections.items())
    return _HEAD + "".join(pages)


def _command(command: Any, name: str) -> Iterator[str]:
    context = command.context_class(command, info_name=name)
    # typer puts brackets, braces and dots of its own around a metavar that may have them already.
    usage = " ".join(command.collect_usage_pieces(context))
    usage = re.sub(r"\{([^}]*)\}(\.\.\.)?", r"\1", re.sub(r"\[(\[.*?\](?:\.\.\.)?)\](\.\.\.)?", r"\1", usage))
    yield f"\n### {name}\n\n```text\n{name} {usage}\n```\n\n"
    yield f"{inspect.cleandoc(command.help)}\n"
    rows = [row for parameter in command.params if (row := parameter.get_help_record(context)) is not None]
    if rows:
        yield "\n| option | meaning |\n| --- | --- |\n"
    for option, meaning in rows:
        shown = option.replace("<list[Path]>", "").replace(" range>", ">").strip()
        yield f"| `{_cell(shown)}` | {' '.join(_cell(meaning).split())} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
