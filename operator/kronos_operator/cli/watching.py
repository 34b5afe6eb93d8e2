"""A table that is kept up to date until Ctrl-C: redrawn on a terminal, changed rows elsewhere. For `status --watch`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from rich.live import Live

from kronos_operator.cli.terminal import cell, console, draws, rich_table

WATCH_SECONDS = 2.0

Rows = Sequence[list[str]]


def watch_table(headers: Sequence[str], read: Callable[[], Rows], *, right: frozenset[str]) -> NoReturn:
    """Show what `read` returns, again and again. Errors of the first reading and of later ones end it."""
    target = console()
    if draws(target):
        with Live(console=target, auto_refresh=False) as live:
            while True:
                live.update(rich_table(headers, read(), right=right), refresh=True)
                time.sleep(WATCH_SECONDS)
    before: Rows = ()
    while True:
        rows = read()
        for row in rows:
            if row not in before:
                print("  ".join(map(cell, row)), flush=True)
        before = rows
        time.sleep(WATCH_SECONDS)
