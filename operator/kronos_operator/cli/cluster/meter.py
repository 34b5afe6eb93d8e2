"""How far a transfer is: a bar on a terminal, a line now and then elsewhere. On stderr, for stdout is for results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from kronos_operator.cli.cluster.transfer import Moved
from kronos_operator.cli.terminal import console, draws, print_line, size_text

LINE_EVERY_SECONDS = 10.0


@contextmanager
def meter(label: str) -> Iterator[Moved]:
    """Yields what is to be called with the bytes that were moved and those that there are."""
    target = console(stderr=True)
    if draws(target):
        columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=target, transient=True) as progress:
            task = progress.add_task(label, total=None)
            yield lambda moved, total: progress.update(task, completed=moved, total=total)
        return
    last = time.monotonic()

    def line(moved: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_SECONDS:
            last = time.monotonic()
            print_line(f"{size_text(moved)} of {size_text(total)} {label}", stderr=True)

    yield line
