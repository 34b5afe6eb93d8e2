"""What commands print: rich on a terminal, plain lines elsewhere, JSON on request.

Whatever is printed passes through here and is made safe for a terminal, wherever it came from.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from kronos_operator.text import plain, plain_json


def console(*, stderr: bool = False) -> Console:
    """A console that prints texts as they are: no markup, no automatic highlighting."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def interactive() -> bool:
    """Whether somebody sits at both ends: questions can be asked and a display redrawn."""
    return sys.stdin.isatty() and draws(console())


def draws(target: Console) -> bool:
    """Whether the console can redraw what it has printed."""
    return target.is_terminal and not target.is_dumb_terminal


def print_line(text: str = "", *, style: str | None = None, stderr: bool = False) -> None:
    """Print one line, unwrapped, so that paths and commands can be copied."""
    console(stderr=stderr).print(plain(text), style=style, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a JSON document on stdout."""
    print(plain_json(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)))


def print_error(text: str) -> None:
    """Print a line on stderr that names an error."""
    print(f"error: {plain(text)}", file=sys.stderr)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[str] = frozenset()) -> None:
    """Print rows in columns; those named in `right` are aligned to the right."""
    target = console()
    if target.is_terminal:
        target.print(rich_table(headers, rows, right=right))
        return
    rows = [[cell(text) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers))]
    for row in [[header.upper() for header in headers], *rows]:
        cells = [
            cell.rjust(width) if header in right else cell.ljust(width)
            for cell, width, header in zip(row, widths, headers, strict=True)
        ]
        print("  ".join(cells).rstrip())


def rich_table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, right: frozenset[str] = frozenset()) -> Table:
    """The table as rich draws it, its last column taking what is left of the width. Texts are made safe."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(content) if isinstance(content, str) else content for content in row))
    return table


def cell(text: str) -> str:
    """A text for a table, safe and in one line."""
    return plain(text).replace("\n", " ")


def near(path: str) -> str:
    """The path, relative if it lies below the working directory."""
    here = f"{Path.cwd()}/"
    return path.removeprefix(here)


def size_text(size: float) -> str:
    """A number of bytes for the eye: 512 B, 3.4 MiB."""
    units = ("B", "KiB", "MiB", "GiB")
    power = next((index for index in range(len(units) - 1) if size < 1024 ** (index + 1)), len(units) - 1)
    return f"{size / 1024**power:.{min(power, 1)}f} {units[power]}"


def number(value: object, form: str = ".4f") -> str:
    """A number for the eye; '-' when there is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return format(value, form)
    return "-"
