"""The result of a check, as JSON and as text."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pydantic.alias_generators import to_camel

from kronos_trainer.config import Timeframe
from kronos_trainer.data.commands.check import Checked
from kronos_trainer.data.quality.findings import KINDS, some, stamp
from kronos_trainer.data.quality.trading_hours import DAY
from kronos_trainer.data.resample import length
from kronos_trainer.data.series import Series

NARROWEST, WIDEST = 60, 120  # columns
EACH = 12  # symbols with a line each; more are summarised
NAMED = 3  # symbols that are named for a finding
REFUSALS = 20  # that are listed
LABEL = 10  # columns of what stands before each line


def document(checked: Checked) -> dict[str, Any]:
    """The whole check as JSON: what `kronos data check --json` prints."""
    bars = checked.bars
    report: dict[str, Any] = {"path": str(checked.path), "timeframe": checked.timeframe.value}
    if bars is not None:
        report |= {
            "symbols": len(bars.symbols),
            "bars": len(bars.times),
            "first": stamp(bars.times.min()),
            "last": stamp(bars.times.max()),
            "digest": bars.digest or None,
            "splits": _windows(checked),
            "perSymbol": {
                symbol: int(bars.offsets[index + 1] - bars.offsets[index]) for index, symbol in enumerate(bars.symbols)
            },
            "series": [_series(one) for one in bars.series],
        }
    findings = [
        {
            "kind": name,
            "severity": kind.severity,
            "what": kind.what,
            "wayOut": kind.way_out or None,
            "symbols": [
                {
                    "symbol": one.symbol,
                    "count": one.count,
                    "examples": list(one.examples),
                    "spans": [[stamp(first), stamp(last)] for first, last in one.spans],
                }
                for one in checked.found
                if one.kind == name
            ],
        }
        for name, kind in KINDS.items()
    ]
    return report | {
        "findings": [one for one in findings if one["symbols"]],
        "notes": checked.notes,
        "refused": list(checked.refused),
    }


def _series(series: Series) -> dict[str, Any]:
    facts = {to_camel(name): value for name, value in asdict(series).items()}
    gaps = [{"after": stamp(gap.after), "until": stamp(gap.until), "missing": gap.missing} for gap in series.gaps]
    return facts | {
        "first": stamp(series.first),
        "last": stamp(series.last),
        "step": length(series.step) if series.step else None,
        "gaps": gaps,
    }


def _windows(checked: Checked) -> dict[str, Any] | None:
    splits = checked.splits
    if splits is None:
        return None
    return {
        name: {
            "start": stamp(splits.spans[name][0]),
            "end": stamp(splits.spans[name][1]),
            "windows": len(getattr(splits, name)),
        }
        for name in ("train", "validation", "test")
    }


def lines(checked: Checked) -> Iterator[str]:
    """The whole check as text, as wide as the terminal: summary, findings, windows, and what is refused."""
    width = min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
    for line in _text(checked, width):
        # names come from files: nothing in them may move the cursor
        yield "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def _text(checked: Checked, width: int) -> Iterator[str]:
    yield str(checked.path)
    if checked.bars is not None:
        yield from _there(checked, width)
        if 1 < len(checked.bars.series) <= EACH:
            yield ""
            yield from _each(checked.bars.series)
        yield ""
        yield from _found(checked, width)
        yield ""
        yield from _split(checked)
    if len(checked.refused) > 1:
        yield ""
        yield "REFUSED"
        for text in checked.refused[:REFUSALS]:
            yield from _wrapped("  -", text, width, 4)
        if len(checked.refused) > REFUSALS:
            yield f"    and {len(checked.refused) - REFUSALS:,} more"


def _there(checked: Checked, width: int) -> Iterator[str]:
    bars = checked.bars
    assert bars is not None
    series = bars.series
    counts = [int(bars.offsets[index + 1] - bars.offsets[index]) for index in range(len(series))]
    each = "" if len(series) == 1 else f", {_range(counts)} a symbol"
    table = {
        "symbols": some(bars.symbols) if len(series) == 1 else f"{len(series):,}: {some(bars.symbols)}",
        "bars": f"{sum(counts):,} of {checked.timeframe}{each}",
        "span": f"{stamp(bars.times.min())} to {stamp(bars.times.max())}",
        "spacing": _common(_spacing(one, checked.timeframe) for one in series),
        "trades": _common(one.hours for one in series),
        "missing": _missing(series),
        "zone": _common("none given: local time of the exchange" if one.zone is None else one.zone for one in series),
        "prices": f"{min(one.low for one in series):,.6g} to {max(one.high for one in series):,.6g}",
        "volume": _volume(series),
    }
    for name, text in table.items():
        yield from _wrapped(f"  {name}", text, width, 2 + LABEL)


def _spacing(one: Series, timeframe: Timeframe) -> str:
    if not one.step:
        return "a single bar"
    step = length(one.step)
    text = step if one.step < 27 * DAY else "months"
    if timeframe is not Timeframe.MO1 and one.step < timeframe.seconds * 1_000_000_000:
        return f"{text}, resampled to {timeframe}"
    return text


def _missing(series: Sequence[Series]) -> str:
    gaps, bars, holidays = (sum(getattr(one, name) for one in series) for name in ("gap_count", "missing", "holidays"))
    text = "no gaps" if not gaps else f"{_count(bars, 'bar')} in {_count(gaps, 'gap')}"
    among = sum(one.gap_count > 0 for one in series)
    if gaps and len(series) > 1:
        text += f" of {_count(among, 'symbol')}"
    return f"{text}; {_count(holidays, 'trading day')} without bars, as holidays" if holidays else text


def _volume(series: Sequence[Series]) -> str:
    shares = [one.zero_volume for one in series]
    if max(shares) == 0:
        return "in every bar"
    if min(shares) == 1:
        return "none"
    if len(series) == 1:
        return f"0 in {_share(shares[0])} of the bars"
    return f"0 in up to {_share(max(shares))} of the bars of {_count(sum(share > 0 for share in shares), 'symbol')}"


def _each(series: Sequence[Series]) -> Iterator[str]:
    head = ("SYMBOL", "BARS READ", "FIRST", "LAST", "TRADES", "GAPS", "LOW", "HIGH")
    rows = [
        (
            one.symbol if len(one.symbol) <= 14 else f"{one.symbol[:13]}…",
            f"{one.rows:,}",
            stamp(one.first)[:10],
            stamp(one.last)[:10],
            one.hours,
            f"{one.gap_count:,}",
            f"{one.low:.5g}",
            f"{one.high:.5g}",
        )
        for one in series
    ]
    left = {0, 2, 3, 4}
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"  {'  '.join(cells)}".rstrip()


def _found(checked: Checked, width: int) -> Iterator[str]:
    bars = checked.bars
    assert bars is not None
    said = {name: [one for one in checked.found if one.kind == name] for name in KINDS}
    yield "FOUND" if any(said.values()) else "FOUND  nothing odd"
    for name, found in said.items():
        if not found:
            continue
        kind = KINDS[name]
        symbols = len({one.symbol for one in found})
        among = f" ({symbols:,} of {len(bars.symbols):,} symbols)" if len(bars.symbols) > 1 else ""
        yield from _wrapped(f"  {kind.severity}", f"{kind.what}{among}", width, 2 + LABEL)
        for one in found[:NAMED]:
            yield from _wrapped("", one.text, width, 4 + LABEL)
        if len(found) > NAMED:
            yield " " * (4 + LABEL) + f"and {len(found) - NAMED:,} more"
        if kind.way_out:
            yield from _wrapped("", f"→ {kind.way_out}", width, 4 + LABEL)
    for note in bars.notes:
        if not any(note.startswith(f"{KINDS[name].what}:") for name, found in said.items() if found):
            yield from _wrapped("  note", note, width, 2 + LABEL)


def _split(checked: Checked) -> Iterator[str]:
    window = checked.window
    windows = _windows(checked)
    yield f"WINDOWS of lookback {window.lookback} + horizon {window.horizon} + 1 bars"
    if windows is None:
        yield "  none: a split has too few bars"
        return
    for name, one in windows.items():
        span = f"{one['start']} up to {one['end']}" if one["start"] != one["end"] else "no such split"
        yield f"  {name:<{LABEL}}{one['windows']:>12,}  {span}"
    assert checked.splits is not None
    for note in checked.splits.notes:
        yield f"  {note}"


def _common(texts: Iterable[str]) -> str:
    """The texts, each once, the most common first; with their counts if there are several."""
    counts = Counter(texts).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return "; ".join(f"{text} ({count:,})" for text, count in counts[:3]) + (
        f" and {len(counts) - 3} other kinds" if len(counts) > 3 else ""
    )


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{share:.2g}"


def _wrapped(label: str, text: str, width: int, indent: int) -> Iterator[str]:
    first = label.ljust(indent)
    yield from textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
