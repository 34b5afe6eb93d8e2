"""What the commands print, in columns."""

from __future__ import annotations

from collections.abc import Sequence

from kronos_trainer.collection.pruning import Run
from kronos_trainer.report.text import table
from kronos_trainer.report.wording import NOTHING, megabytes, plain


def pruned(runs: Sequence[Run]) -> str:
    """The runs of a model, and what becomes of each."""
    rows = [
        [
            plain(one.run),
            megabytes(one.bytes),
            NOTHING if one.written is None else f"{one.written.astimezone():%Y-%m-%d %H:%M}",
            f"stays: {plain(one.stays)}" if one.stays else "goes" if one.finished else "goes, unfinished",
        ]
        for one in runs
    ]
    return table([["run", "size", "last written", ""], *rows], right="1")
