"""Determines the layout of a table, and so the meaning of its columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos_trainer.data.layouts import wide
from kronos_trainer.data.layouts.known import LAYOUTS, PLAIN, WIDE, Layout
from kronos_trainer.data.layouts.tables import Table
from kronos_trainer.data.reading.columns import CLOCKS, NAMELESS, Found, check_given, find, normalised, problem
from kronos_trainer.data.reading.notations import looks_like_clock, looks_like_stamp
from kronos_trainer.data.reading.numerals import Evidence, Numerals, odd
from kronos_trainer.errors import DataError

WHOLE = ("qlib", "upstream")  # layouts of whole files, not of tables
MOSTLY = 0.95  # of the rows must match a shape
SAMPLE = 20  # stamps that are looked at
PRICES = ("open", "high", "low", "close")
ROUNDING = 1e-6
MANY_ROWS = 100_000  # that are looked at together
LARGE = 1e6  # prices in whole numbers above this are fixed-point, where a layout has such

_UNITS = {10: "seconds", 13: "ms", 16: "µs", 19: "ns"}  # digits of an epoch number


@dataclass(frozen=True)
class Group:
    """Columns of one symbol, by canonical name; `symbol` is None where the file or a column names it."""

    symbol: str | None
    places: Mapping[str, int]


@dataclass(frozen=True)
class Recognised:
    """A recognised table."""

    layout: Layout
    groups: Sequence[Group]
    rivals: Mapping[str, Sequence[int]] = field(default_factory=dict)
    scale: float = 1.0  # what one unit of a price is worth
    facts: Sequence[str] = ()  # to be reported, if it was ambiguous


def recognise(table: Table, given: Mapping[str, str] | None = None, only: str | None = None) -> Recognised:
    """The layout of a table. `given` is `data.columns`; `only` names the one layout that may be found.

    Raises DataError for a table that has no known layout, or several that contradict each other.
    """
    check_given(table.header, given, table.file)
    if table.headless or _numbered(table.header):
        return _by_shape(table, given, only)
    layout = layout_of(table.header, only)
    if only not in (None, PLAIN.name, WIDE.name, *WHOLE) and layout.name != only:
        raise DataError(f"{table.file}: does not look like {only}, but like {layout.name}; omit --layout to detect it")
    found = find(table.header, given, layout.columns)
    if (
        layout.first
        and [normalised(name) for name in table.header[: len(layout.header.split())]] == layout.header.split()
    ):
        found.doubled.clear()
    if (found.missing and not given) or only == WIDE.name:
        groups = wide.groups(table.header)
        wide.check_sides(groups, table.header, table.file)
        if groups:
            return Recognised(
                WIDE,
                [Group(symbol, places) for symbol, places in groups],
                facts=[*wide.said(table.header, groups)],
            )
    if not found.complete:
        raise DataError(
            f"{table.file}: {problem(table.header, found)}"
            + ("; or set it: data.columns (--columns close=Price)" if found.missing and not given else "")
        )
    places = _with_stamps(table, found, given or {})
    scale = _fixed_point(table, layout, places)
    facts = [] if scale == 1.0 else [f"prices read as integers in units of {scale:g}, as in {layout.title}"]
    return Recognised(layout, [Group(None, places)], found.rivals, scale, facts)


def layout_of(header: Sequence[str], only: str | None = None) -> Layout:
    """The layout whose column names a header has."""
    names = {normalised(name) for name in header}
    names |= {re.sub(r"_*[(（\[].*?[)）\]]$", "", name) for name in names}
    for layout in LAYOUTS:
        if layout.header and only in (None, layout.name) and set(layout.header.split()) <= names:
            return layout
    return PLAIN


def _numbered(header: Sequence[str]) -> bool:
    """Are the columns 0, 1, 2, ..., as pandas names those of rows without names?"""
    names = [name for name in header if normalised(name) not in NAMELESS]
    return len(names) >= 5 and names == [str(index) for index in range(len(names))]


def _with_stamps(table: Table, found: Found, given: Mapping[str, str]) -> dict[str, int]:
    """The places found, with the columns that hold the time distinguished by their content."""
    places = dict(found.places)
    names = [normalised(name) for name in table.header]
    own = names[places["timestamps"]]
    taken = set(places.values()) - set(found.spare)
    clocks = [place for place, name in enumerate(names) if name in CLOCKS and place not in taken]
    if "timestamps" in given or (len({*found.spare, *clocks}) < 2 and own not in NAMELESS):
        return places
    head = table.head()

    def all_are(place: int, kind: Callable[[str], object]) -> bool:
        values = [value for value in head[place].iloc[:SAMPLE] if value.strip()]
        return bool(values) and all(kind(value) for value in values)

    stamps = [place for place in (*found.spare, *clocks) if all_are(place, looks_like_stamp)]
    if stamps:
        places["timestamps"] = stamps[0]
    chosen = places["timestamps"]
    precise = [place for place in stamps if all_are(place, _has_time)]
    if not all_are(chosen, _has_time):
        clocks = [place for place in clocks if place != chosen]
        detailed = [place for place in clocks if place in precise]
        if detailed:
            places["timestamps"] = detailed[0]
        elif clocks and (all_are(clocks[0], looks_like_clock) or names[chosen] == "date"):
            places["clock"] = clocks[0]
    if "symbol" not in places:
        for place, name in enumerate(names):
            if name in NAMELESS and place not in places.values() and all_are(place, _is_name):
                places["symbol"] = place
                break
    return places


def _has_time(text: str) -> bool:
    return bool(re.search(r"\d[T :]+\d{1,2}:\d|\d[ T]\d{4}|^\d{10}(\.\d+)?$|^\d{12,}$", text))


def _is_name(text: str) -> bool:
    return not looks_like_stamp(text) and bool(re.search(r"[^\d.+-]", text))


def _fixed_point(table: Table, layout: Layout, places: Mapping[str, int]) -> float:
    if not layout.fixed_point:
        return 1.0
    prices = table.head()[[places[name] for name in PRICES]]
    whole = prices.apply(lambda column: column.str.fullmatch(r"-?\d+|")).all(axis=None)
    if not whole or prices.empty:
        return 1.0
    middle = prices.apply(pd.to_numeric, errors="coerce").abs().median(axis=None)
    return layout.fixed_point if middle >= LARGE else 1.0


# --- without a header ------------------------------------------------------------------------------------------------


def _by_shape(table: Table, given: Mapping[str, str] | None, only: str | None) -> Recognised:
    if given:
        found = find(table.header, given)
        if found.complete:
            return Recognised(PLAIN, [Group(None, found.places)])
    head = table.head()
    empty = {place for place in head.columns if (head[place].str.strip() == "").all()}
    while len(head.columns) and head.columns[-1] in empty:
        head = head.iloc[:, :-1]
    named = [place for place, name in enumerate(table.header) if normalised(name) not in NAMELESS and place in head]
    fits: list[tuple[Layout, dict[str, int]]] = []
    for columns in (list(head.columns)[1:] if _counts(head) else [], named):
        fits = fits or list(_fitting(head[columns], only))
    if not fits:
        row = ", ".join(head.iloc[0].astype("str").str.slice(0, 20).iloc[:12]) if len(head) else "nothing"
        wish = f"does not look like {only}" if only else "has no header, and its rows match no known layout"
        raise DataError(
            f"{table.file}: {wish} (the first row is {row}); "
            "add a header, or set its columns: data.columns (--columns timestamps=0,open=1,...)"
        )
    layout, places = _settled(table, fits)
    stamp = head[places["timestamps"]].iloc[0].strip()
    unit = f" ({_UNITS[len(stamp)]})" if stamp.isdigit() and len(stamp) in _UNITS else ""
    return Recognised(
        layout, [Group(None, places)], facts=[f"headerless file read as {layout.title}{unit}"]
    )  # fmt: skip


def _counts(head: pd.DataFrame) -> bool:
    """Is the first column a mere row number?"""
    first = pd.to_numeric(head.iloc[:, 0], errors="coerce")
    return len(first) > 1 and bool((np.diff(first) == 1).all()) and first.iloc[0] in (0, 1)


def _fitting(head: pd.DataFrame, only: str | None) -> Iterator[tuple[Layout, dict[str, int]]]:
    """Layouts whose shape the first rows have, with the places of their columns."""
    text = {int(place): head[place].where(head[place] != "", None) for place in head.columns}
    numerals = Numerals()
    if any(odd(column) for column in text.values()):
        evidence = Evidence()
        evidence.add(text.values())
        numerals = evidence.settled(likely=".") or numerals
    numbers = {place: numerals.read(column) for place, column in text.items()}
    for layout in LAYOUTS:
        if not layout.shape or only not in (None, layout.name):
            continue
        kinds = layout.shape.split()
        if kinds[-1] == "...":
            kinds.pop()
            if len(kinds) > head.shape[1]:
                continue
        elif len(kinds) != head.shape[1]:
            continue
        words = list(zip(kinds, numbers, strict=False))
        places: dict[str, int] = {}
        for kind, place in words:
            places.setdefault("timestamps" if kind in ("time", "date") else kind, place)
        fits = all(_holds(kind, head[place], numbers, places) for kind, place in words)
        if fits and _contradictions(numbers, places).mean() <= 1 - MOSTLY:
            wanted = ("timestamps", "clock", *PRICES, "volume", "amount", "symbol")
            yield layout, {name: places[name] for name in wanted if name in places}


def _holds(kind: str, text: pd.Series, numbers: Mapping[int, pd.Series], places: Mapping[str, int]) -> bool:
    """Whether a column of the first rows has the content of its word in a shape."""
    place = text.name
    assert isinstance(place, int)
    values = numbers[place]
    sample = [value.strip() for value in text.iloc[:SAMPLE]]
    if kind in ("time", "date"):
        dates = all(looks_like_stamp(value) for value in sample)
        return dates and (kind == "time" or not any(_has_time(value) for value in sample))
    if kind == "clock":
        return all(looks_like_clock(value) for value in sample)
    if kind == "symbol":
        return not any(looks_like_stamp(value) for value in sample) and all(sample)
    if kind == "-":
        return True
    if kind == "count":
        return bool((values.dropna() % 1 == 0).mean() >= MOSTLY) if values.notna().any() else False
    if values.notna().mean() < MOSTLY and kind not in ("volume", "amount"):
        return False
    if kind in PRICES:
        return True
    if values.notna().mean() < 0.5 or (values < 0).any():
        return False
    low, high = numbers[places["low"]], numbers[places["high"]]
    if kind == "volume":
        return True
    if kind == "vwap":
        return bool((((values >= low * 0.99) & (values <= high * 1.01)) | (values == 0)).mean() >= MOSTLY)
    volume = numbers[places["volume"]]
    traded = volume > 0
    if not traded.any():
        return bool((values == 0).all())
    mean = (values / volume)[traded]
    low, high = low[traded] * 0.99, high[traded] * 1.01
    # lots of a hundred shares
    return any(((mean >= low * lot) & (mean <= high * lot)).mean() >= MOSTLY for lot in (1, 100))


def _contradictions(numbers: Mapping[int, pd.Series], places: Mapping[str, int]) -> npt.NDArray[np.bool_]:
    """Rows with a price above the high or below the low."""
    opens, high, low, close = (numbers[places[name]].to_numpy(np.float64) for name in PRICES)
    slack = ROUNDING * np.abs(high)
    above = (opens > high + slack) | (close > high + slack) | (low > high + slack)
    bad: npt.NDArray[np.bool_] = above | (opens < low - slack) | (close < low - slack)
    return bad


def _settled(table: Table, fits: list[tuple[Layout, dict[str, int]]]) -> tuple[Layout, dict[str, int]]:
    """The one of the layouts that fit which no row of the whole file contradicts. Raises DataError naming two."""

    def prices(places: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(places[name] for name in ("timestamps", *PRICES))

    distinct = {prices(places): (layout, places) for layout, places in reversed(fits)}
    if len(distinct) == 1:
        return fits[0]
    wanted = sorted({place for key in distinct for place in key[1:]})
    wrong = dict.fromkeys(distinct, 0)
    for frame, _ in table.frames({place: str(place) for place in wanted}, (), 0, MANY_ROWS):
        numbers = {place: pd.to_numeric(frame[str(place)], errors="coerce") for place in wanted}
        for key, (_, places) in distinct.items():
            wrong[key] += int(_contradictions(numbers, places).sum())
    best = [item for key, item in distinct.items() if wrong[key] == min(wrong.values())]
    if len(best) > 1:
        titles = " or ".join(f"{layout.title} ({' '.join(layout.shape.split()[:6])})" for layout, _ in best[:2])
        raise DataError(
            f"{table.file}: has no header, and may be {titles}; add a header, or set its columns: "
            "data.columns (--columns timestamps=0,open=1,...)"
        )
    return best[0]
