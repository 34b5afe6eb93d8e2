"""Finds where the rows of a text file begin, what separates their fields, and what the lines above are."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kronos_trainer.data.layouts import wide
from kronos_trainer.data.layouts.recognise import layout_of
from kronos_trainer.data.reading.columns import find
from kronos_trainer.data.reading.notations import looks_like_clock, looks_like_stamp

LOOK = 200  # lines in which the first row has to be
_SEPARATORS = (",", ";", "\t", "|", " ")
_NUMBER = re.compile(
    r"(?:[$€£¥₹]|[A-Z]{3} )?[+-]?[$€£¥₹]?[\d.,'’ \u00a0\u202f]*\d[\d.,'’ \u00a0\u202f]*"
    r"(?:[eE][+-]?\d+|[KMBTkmbt%$€£¥₹万亿]|[A-Z]{3}|Mio\.?|Mrd\.?)?"
)


@dataclass
class Sniffed:
    """Where the rows begin, and what is above them."""

    header: list[str]
    separator: str
    start: int  # lines before the first row
    headless: bool = False
    skipped: Sequence[str] = ()  # lines that are neither header nor row


def sniffed(lines: Sequence[str], given: Mapping[str, str] | None) -> Sniffed:
    row, separator = _first_row(lines)
    above = [(index, line) for index, line in enumerate(lines[: LOOK if row is None else row]) if line.strip()]
    if row is None:
        return _without_rows(above, given)
    width = len(fields_of(lines[row], separator))
    split = [(index, fields_of(line, separator)) for index, line in above]
    for count in range(0 if _titled(split, given) else min(len(split), 5), 1, -1):
        block = [cells for _, cells in split[-count:]]
        if all(len(cells) == width for cells in block) and (names := wide.stacked(block)) is not None:
            return Sniffed(names, separator, row, skipped=[line for _, line in above[:-count]])
    for index, line in above:
        cells = _names(line, separator)
        if understood(cells, given) or (separator == " " and understood(cells := _names(line, "  "), given)):
            return Sniffed(cells, separator, index + 1, skipped=[line for place, line in above if place < index])
    if split and abs(len(split[-1][1]) - width) <= 1 and not _counted(split[-1][1]):
        return Sniffed(split[-1][1], separator, row)  # a header that is not understood
    skipped = [] if split and _counted(split[-1][1]) else [line for _, line in above]
    return Sniffed([str(place) for place in range(width)], separator, row, headless=True, skipped=skipped)


def _titled(split: Sequence[tuple[int, list[str]]], given: Mapping[str, str] | None) -> bool:
    """Is the last line a header by itself, and the one above it of a title, most of whose cells are empty?"""
    if len(split) < 2 or 2 * sum(map(bool, split[-2][1])) > len(split[-2][1]):
        return False
    return find(split[-1][1], given).complete


def _without_rows(above: Sequence[tuple[int, str]], given: Mapping[str, str] | None) -> Sniffed:
    """The header of a file without a row that is known as one."""
    for index, line in above:
        for sign in _SEPARATORS:
            cells = _names(line, sign)
            if len(cells) >= 5 and understood(cells, given):
                return Sniffed(cells, sign, index + 1)
    index, line = above[0]
    sign = max(_SEPARATORS[:-1], key=line.count)
    return Sniffed(fields_of(line, sign), sign, index + 1)


def _counted(cells: Sequence[str]) -> bool:
    """Are these the numbers that pandas writes above columns without names?"""
    names = [cell.strip() for cell in cells if cell.strip()]
    return names == [str(index) for index in range(len(names))]


def _first_row(lines: Sequence[str]) -> tuple[int | None, str]:
    """The first line that holds a stamp and four numbers, and what separates them."""
    for index, line in enumerate(lines[:LOOK]):
        found = [(sum(map(_is_number, cells)), sign) for sign, cells in _splits(line) if is_row(cells)]
        if found:
            most = max(count for count, _ in found)
            return index, next(sign for count, sign in found if count == most)
    return None, ","


def _splits(line: str) -> Iterator[tuple[str, list[str]]]:
    for sign in _SEPARATORS:
        if line.count(sign) >= 4:
            yield sign, fields_of(line, sign)


def is_row(cells: Sequence[str]) -> bool:
    return sum(map(_is_number, cells)) >= 4 and any(map(looks_like_stamp, cells[:12]))


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell.strip()))


def fields_of(line: str, separator: str) -> list[str]:
    """The fields of a line."""
    if separator == "  ":
        return [cell.strip() for cell in re.split(r"\s{2,}|\t", line.strip())]
    if separator == " ":
        line = line.replace("\t", " ").strip()
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []


def _names(line: str, separator: str) -> list[str]:
    """The fields of a header line; a comment sign before it is none of them."""
    line = re.sub(r"^#\s+", "", line)
    return fields_of(re.sub(r"(?i)\b(adj)\.? (?=close)", r"\1_", line) if separator == " " else line, separator)


def understood(header: Sequence[str], given: Mapping[str, str] | None) -> bool:
    found = find(header, given, layout_of(header).columns)
    return not found.missing or bool(wide.groups(header))


def widened(header: list[str], rows: Sequence[str], separator: str) -> list[str]:
    """The header with names for columns that it lacks: of row names, a time of day, or nothing but a last separator."""
    if separator != " " and all(line.count(separator) < len(header) for line in rows[:50]):
        return header
    split = [cells for cells in (fields_of(line, separator) for line in rows[:50]) if is_row(cells)]
    if not split or all(len(cells) <= len(header) for cells in split):
        return header
    more = min(len(cells) for cells in split) - len(header)
    if more < 1:
        return header
    if more == 1 and separator == " ":
        for place in range(len(header)):
            if all(looks_like_stamp(cells[place]) and looks_like_clock(cells[place + 1]) for cells in split):
                return [*header[: place + 1], "time", *header[place + 1 :]]
    if more == 1 and "timestamps" in find(header).missing and all(looks_like_stamp(cells[0]) for cells in split):
        return ["date", *header]
    if all(not any(cells[len(header) :]) for cells in split):
        return [*header, *(f"nothing {index}" for index in range(more))]
    return header
