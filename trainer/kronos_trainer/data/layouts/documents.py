"""JSON as tables: records, rows or columns, possibly nested in the response of an exchange or vendor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kronos_trainer.data.layouts import wide
from kronos_trainer.data.layouts.recognise import layout_of
from kronos_trainer.data.layouts.tables import FrameTable
from kronos_trainer.data.reading.columns import find, normalised
from kronos_trainer.data.reading.notations import looks_like_stamp
from kronos_trainer.errors import DataError

_SYMBOL = ("ticker", "symbol", "pair", "code", "ts_code", "instrument")
_DEEP = 8  # levels below which nothing is looked for

Candidate = tuple[pd.DataFrame, bool]  # a table, and whether its columns have no names


def open_json(file: Path, content: bytes, given: Mapping[str, str] | None = None) -> FrameTable:
    """The bars of a JSON document, or of a file with a JSON value on each line. Raises DataError."""
    document = _parsed(file, content)
    found = [item for item in _tables(document, 0) if item[1] or _usable(item[0], given)]
    if not found:
        keys = ", ".join(map(repr, list(document)[:8])) if isinstance(document, dict) else ""
        what = f"an object with {keys}" if keys else type(document).__name__
        raise DataError(
            f"{file}: JSON without bars: {what}; expected records, rows or columns of open, high, low and close"
        )
    frame, headless = max(found, key=lambda item: len(item[0]))
    return FrameTable(file, frame, headless=headless)


def _parsed(file: Path, content: bytes) -> Any:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not readable as JSON: {error}; save it as UTF-8") from None
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{file}: not readable as JSON: nested too deeply") from None
    except ValueError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        values = []
        for number, line in lines:
            try:
                values.append(json.loads(line))
            except ValueError:
                if number == lines[0][0]:
                    raise DataError(f"{file}: not readable as JSON: {error}") from None
                raise DataError(f"{file}: line {number}: not readable as JSON; the line is truncated") from None
        return values


def _usable(frame: pd.DataFrame, given: Mapping[str, str] | None) -> bool:
    header = [str(name) for name in frame.columns]
    return not find(header, given, layout_of(header).columns).missing or bool(wide.groups(header))


def _tables(node: Any, depth: int, symbol: str | None = None) -> Iterator[Candidate]:
    """Every table inside of a JSON value."""
    if depth > _DEEP:
        return
    if isinstance(node, list):
        yield from _of_list(node, symbol)
        if len(node) <= 100:
            for item in node:
                yield from _tables(item, depth + 1, symbol)
    elif isinstance(node, dict):
        symbol = next((str(node[key]) for key in _SYMBOL if isinstance(node.get(key), str)), symbol)
        yield from _of_object(node, symbol)
        children = [(key, list(_tables(value, depth + 1, symbol))) for key, value in node.items()]
        named = [(key, frame) for key, tables in children for frame, headless in tables[:1] if not headless]
        if len(named) > 1 and all(isinstance(node[key], list) for key, _ in named) and _alike(named):
            # one list of bars for each symbol
            yield pd.concat([frame.assign(symbol=key) for key, frame in named], ignore_index=True), False
        for _, tables in children:
            yield from tables


def _alike(named: Sequence[tuple[str, pd.DataFrame]]) -> bool:
    return len({tuple(sorted(map(str, frame.columns))) for _, frame in named}) == 1


def _of_list(node: list[Any], symbol: str | None) -> Iterator[Candidate]:
    if not node:
        return
    if all(isinstance(item, dict) for item in node):
        frame = pd.DataFrame([_flat(item) for item in node])
        if symbol is not None and frame.shape[1] and not any(normalised(str(name)) in _SYMBOL for name in frame):
            frame["symbol"] = symbol
        yield frame, False
    elif all(isinstance(item, list) and len(item) == len(node[0]) >= 5 for item in node):
        if not any(isinstance(value, (list, dict)) for value in node[0]):
            yield pd.DataFrame(node), True
    elif all(isinstance(item, str) and item.count(",") >= 4 for item in node):
        yield pd.DataFrame([item.split(",") for item in node]), True


def _of_object(node: dict[str, Any], symbol: str | None) -> Iterator[Candidate]:
    lists = {key: value for key, value in node.items() if isinstance(value, list)}
    for names in lists.values():
        rows = next((value for value in lists.values() if value is not names and _rows(value, len(names))), None)
        if names and rows and all(isinstance(name, str) for name in names):
            # columns and data of pandas' orient="split", fields and items of tushare
            frame = pd.DataFrame(rows, columns=names)
            index = lists.get("index")
            if index is not None and len(index) == len(rows) and find(names).missing:
                frame.insert(0, "timestamps", index)
            yield frame, False
    columns = _columns(node)
    longest = max(map(len, columns.values()), default=0)
    whole = {name: values for name, values in columns.items() if len(values) == longest}
    if len(whole) >= 5:
        frame = pd.DataFrame(whole)
        yield (frame.assign(symbol=symbol) if symbol is not None and "symbol" not in whole else frame), False
    inner = [value for value in node.values() if isinstance(value, dict)]
    if len(inner) == len(node) >= 1 and all(inner):
        keys = list(inner[0])
        if all(looks_like_stamp(key) for key in list(node)[:20]):
            # a record for each stamp
            frame = pd.DataFrame([_flat(item) for item in inner])
            frame.insert(0, "timestamps", list(node))
            yield frame, False
        elif len(node) >= 4 and all(set(value) == set(keys) for value in inner):
            # pandas' orient="columns": the values of each column by row
            frame = pd.DataFrame({name: [values[key] for key in keys] for name, values in node.items()})
            if looks_like_stamp(keys[0]):
                frame.insert(0, "timestamps", keys)
            yield frame, False


def _rows(value: list[Any], width: int) -> bool:
    return bool(value) and all(isinstance(row, list) and len(row) == width for row in value)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the values of objects in it, as OANDA's mid: {o, h, l, c}, beside the others."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= {name: inner for name, inner in value.items() if not isinstance(inner, (dict, list))}
        elif not isinstance(value, list):
            flat[key] = value
    return flat


def _columns(node: Mapping[str, Any], depth: int = 0) -> dict[str, list[Any]]:
    """Lists of plain values inside of an object, by their own key, as Yahoo's chart has them at two depths."""
    found: dict[str, list[Any]] = {}
    for key, value in node.items():
        if isinstance(value, list) and value and not any(isinstance(item, (list, dict)) for item in value):
            found.setdefault(key, value)
    for value in node.values() if depth < 3 else ():
        inner = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(inner, dict):
            for key, values in _columns(inner, depth + 1).items():
                found.setdefault(key, values)
    return found
