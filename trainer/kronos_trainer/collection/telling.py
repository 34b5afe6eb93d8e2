"""What the commands print, in columns and sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kronos_trainer.report.labels import LABELS, PLACES, SHARES
from kronos_trainer.report.text import WIDTH, table
from kronos_trainer.report.wording import NOTHING, date, measure, megabytes, plain

if TYPE_CHECKING:
    from kronos_trainer.collection.comparing import Compared
    from kronos_trainer.collection.pruning import Run
    from kronos_trainer.collection.restoring import Restored

_ALSO = {"absoluteError": "MAE", "squaredError": "MSE"}  # the names of losses by date that have others as metrics


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


def restored(one: Restored) -> str:
    """What has become of a model of an archive."""
    added, there = len(one.added), len(one.there)
    parts = [f"{added} run{'' if added == 1 else 's'} put back"] if added else []
    parts += [f"{there} run{'' if there == 1 else 's'} here already"] if there else []
    kept = f"; kept as here: {', '.join(one.kept)}" if one.kept else ""
    return f"{one.model.key}: {', '.join(parts)}{kept}"


def measures(found: Compared) -> list[tuple[str, str, str]]:
    """Label and both values of each measure."""

    def shown(name: str, value: float) -> str:
        return measure(value, PLACES.get(name), share=name in SHARES)

    return [
        (LABELS.get(name) or _ALSO.get(name, plain(name)), shown(name, ours), shown(name, theirs))
        for name, (ours, theirs) in found.measures.items()
    ]


def comparison(found: Compared) -> str:
    """Who is better, and the measures of both."""
    one, other = found.first, found.second
    dates, symbols = len(found.dates), len(one.found.symbols)
    head = [
        f"{plain(one.name)} (run {plain(one.run)}) against {plain(other.name)} (run {plain(other.run)})",
        f"{plain(one.found.timeframe)} bars, horizon {one.found.horizon}, {dates} date{'' if dates == 1 else 's'} from "
        f"{date(found.dates[0])} to {date(found.dates[-1])}, {symbols:,} symbol{'' if symbols == 1 else 's'}",
        "",
        found.said.badge.upper(),
        *(textwrap.fill(said, WIDTH, break_on_hyphens=False) for said in (found.said.sentence, *found.said.limits)),
        "",
        table([["mean over these dates", plain(one.name), plain(other.name)], *measures(found)], right="12"),
    ]
    return "\n".join(head)
