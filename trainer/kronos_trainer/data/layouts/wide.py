"""Tables with columns for each symbol: 'AAPL_Close', "('Close', 'AAPL')", or symbols in a header line of their own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from kronos_trainer.data.quality.findings import some
from kronos_trainer.data.reading.columns import ALIASES, FEATURES, NAMELESS, REQUIRED, normalised
from kronos_trainer.errors import DataError

_FIELDS = {alias: name for name in FEATURES for alias in reversed(ALIASES[name]) if len(alias) >= 2}
_SIDES = ("mid", "bid", "ask")
_SPLIT = re.compile(r"[_.:/| -]+")

Places = dict[str, int]


def groups(header: Sequence[str]) -> list[tuple[str | None, Places]]:
    """The columns of each symbol, by canonical name; none where the header names no symbol with all of its prices.

    Bid and ask are no symbols: of them that in the middle counts, or the only one. See `check_sides` for both.
    """
    stamps, found = _columns(header)
    whole = {symbol: places for symbol, places in found.items() if set(REQUIRED[1:]) <= set(places)}
    if stamps is None or not whole:
        return []
    sides = [side for side in _SIDES if side in map(str.lower, whole)]
    if len(sides) == len(whole) and (len(sides) == 1 or sides[0] == "mid"):
        side = next(places for symbol, places in whole.items() if symbol.lower() == sides[0])
        return [(None, {"timestamps": stamps} | side)]
    return [(symbol, {"timestamps": stamps} | places) for symbol, places in whole.items()]


def said(header: Sequence[str], found: Sequence[tuple[str | None, Places]]) -> Iterator[str]:
    """Notes for the user on a wide table."""
    if len(found) > 1:
        yield f"columns of {len(found)} symbols side by side"
    read = {symbol for symbol, _ in found}
    part = [symbol for symbol, places in _columns(header)[1].items() if symbol not in read and "close" in places]
    if part and None not in read:
        yield f"symbols without all four prices skipped: {some(part)}"


def _columns(header: Sequence[str]) -> tuple[int | None, dict[str, Places]]:
    """The place of the stamps, and those of each symbol's columns."""
    found: dict[str, Places] = {}
    stamps: int | None = None
    for place, name in enumerate(header):
        parts = _pair(name)
        if parts is not None:
            symbol, canonical = parts
            found.setdefault(symbol, {}).setdefault(canonical, place)
        elif stamps is None and normalised(_plain(name)) in ALIASES["timestamps"]:
            stamps = place
    return stamps, found


def check_sides(found: Sequence[tuple[str | None, Places]], header: Sequence[str], file: Path) -> None:
    """Raise DataError where the groups are those of bid and ask, of which neither is preferable."""
    names = [str(symbol).lower() for symbol, _ in found]
    if len(names) == 2 and set(names) <= set(_SIDES):
        first = found[0][1]
        named = ",".join(f"{name}={header[first[name]]}" for name in REQUIRED[1:])
        raise DataError(
            f"{file}: has prices of {' and '.join(names)}; select those of one: data.columns (--columns {named})"
        )


def _plain(name: str) -> str:
    """The name of a column for all symbols, where those of the others are pairs: "('Date', '')"."""
    parts = _tuple(name)
    return next((part for part in parts if part), "") if parts is not None else name


def _tuple(name: str) -> list[str] | None:
    if not (name.startswith("(") and name.endswith(")")):
        return None
    try:
        value = ast.literal_eval(name)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return [str(part) for part in value] if isinstance(value, tuple) else None


def _pair(name: str) -> tuple[str, str] | None:
    """Symbol and field of a column; None if its name is no pair of them."""
    parts = _tuple(name)
    if parts is not None:
        for index, part in enumerate(parts):
            rest = [other for position, other in enumerate(parts) if position != index and other]
            if normalised(part) in _FIELDS and rest:
                return "/".join(rest), _FIELDS[normalised(part)]
        return None
    if re.search(r"(?i)\badj", name):
        return None
    for separator in _SPLIT.finditer(name):
        before, after = name[: separator.start()], name[separator.end() :]
        if normalised(after) in _FIELDS and before.strip():
            return before.strip(), _FIELDS[normalised(after)]
        if normalised(before) in _FIELDS and after.strip():
            return after.strip(), _FIELDS[normalised(before)]
    # without anything between: BidOpen
    if side := re.fullmatch(r"(?i)(bid|ask|mid)(open|high|low|close)", name.strip()):
        return side[1].lower(), side[2].lower()
    return None


def stacked(lines: Sequence[Sequence[str]]) -> list[str] | None:
    """One header of several header lines, as yfinance and pandas write them: pairs as names. None if it is none."""
    width = max(len(line) for line in lines)
    rows = [[cell.strip() for cell in (*line, *[""] * (width - len(line)))] for line in lines]
    fields = [row for row in rows if sum(normalised(cell) in _FIELDS for cell in row[1:]) >= 4]
    if len(rows) < 2 or len(fields) != 1:
        return None
    others = [row for row in rows if row is not fields[0] and any(row[1:])]
    stamps = next(
        (row[0] for row in reversed(rows) if normalised(row[0]) in set(ALIASES["timestamps"]) - set(NAMELESS)), ""
    )
    if not others and not stamps:
        return None
    if not others:
        return [stamps or "date", *fields[0][1:]]
    header = [stamps or "date"]
    for place in range(1, width):
        symbol = "/".join(row[place] for row in others if row[place])
        header.append(repr((fields[0][place], symbol)))
    return header
