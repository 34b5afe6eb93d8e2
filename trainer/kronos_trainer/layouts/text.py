"""Text files as tables: encoding, separator, and where the rows begin are found out from the first lines."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from kronos_trainer.columns import find
from kronos_trainer.errors import DataError
from kronos_trainer.layouts import wide
from kronos_trainer.layouts.recognise import layout_of
from kronos_trainer.layouts.tables import HEAD_ROWS, Chunk
from kronos_trainer.timestamps import looks_like_clock, looks_like_stamp

HEAD_BYTES = 65_536  # of a file, that are looked at first
LOOK = 200  # lines in which the first row has to be

EMPTY = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-", "--"]  # how files write an absent number

_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
# The encodings of vendors, for what is not UTF-8: the first one counts in which the header makes sense.
_ENCODINGS = ("gb18030", "big5", "cp932", "cp949", "cp1252", "cp1250", "cp1251")
_SEPARATORS = (",", ";", "\t", "|", " ")
_LINE = re.compile(r"\r\n|\r|\n")
_NUMBER = re.compile(
    r"(?:[$€£¥₹]|[A-Z]{3} )?[+-]?[$€£¥₹]?[\d.,'’ \u00a0\u202f]*\d[\d.,'’ \u00a0\u202f]*"
    r"(?:[eE][+-]?\d+|[KMBTkmbt%$€£¥₹万亿]|[A-Z]{3}|Mio\.?|Mrd\.?)?"
)


@dataclass
class TextTable:
    """A text file with a row on each line, read again from its beginning as often as wanted."""

    file: Path
    source: Path | Callable[[], BinaryIO]
    encoding: str
    separator: str
    header: list[str]
    headless: bool
    start: int  # lines before the first row
    unit: str = "line"
    facts: list[str] = field(default_factory=list)
    first_lines: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """As `Table`."""
        separator = {"\t": "tabs", " ": "spaces"}.get(self.separator, repr(self.separator))
        return f"{self.encoding.removesuffix('-sig').upper()} text separated by {separator}"

    @property
    def first(self) -> int:
        """As `Table`."""
        return self.start + 1

    @property
    def likely_decimal(self) -> str | None:
        """In files separated by semicolons the comma may well be the decimal sign."""
        return None if self.separator == ";" and not self.headless else "."

    def head(self) -> pd.DataFrame:
        """As `Table`."""
        rows = [_cells(line, self.separator) for line in self.first_lines if line.strip()]
        width = len(self.header)
        kept = [[*row, *[""] * (width - len(row))][:width] for row in rows if len(row) > 1][:HEAD_ROWS]
        return pd.DataFrame(kept, columns=range(width), dtype="str")

    def frames(self, columns: Mapping[int, str], text: Collection[str], skip: int, rows: int) -> Iterator[Chunk]:
        """As `Table`. Lines with more fields than the header are an error, unless they are plainly no rows."""
        done, odd = skip, False
        while True:
            try:
                for frame in self._chunks(columns, text, done, rows, without_text=odd):
                    numbers = np.arange(self.start + done + 1, self.start + done + 1 + len(frame))
                    done += len(frame)
                    yield frame, numbers
                return
            except pd.errors.ParserError:
                if odd:
                    raise
                odd = True

    def _chunks(
        self, columns: Mapping[int, str], text: Collection[str], skip: int, rows: int, *, without_text: bool
    ) -> Iterator[pd.DataFrame]:
        numeric = [name for name in columns.values() if name not in ("symbol", "clock")]
        only = sorted(columns) if set(columns.values()) <= set(text) else None
        with ExitStack() as stack:
            source: Any = self.source
            if without_text:
                source = stack.enter_context(self._without_text())
            elif not isinstance(source, Path):
                source = stack.enter_context(source())
            chunks = pd.read_csv(
                source,
                sep=r"\s+" if self.separator == " " else self.separator,
                names=[columns.get(place, place) for place in range(len(self.header))],
                header=None,
                skiprows=self.start + skip,
                usecols=only,
                index_col=False,
                dtype=dict.fromkeys({"symbol", "clock", *text} & set(columns.values()), "str"),
                # a ticker may well be called NA
                keep_default_na=False,
                na_values=dict.fromkeys(numeric, EMPTY),
                skip_blank_lines=False,
                skipinitialspace=True,
                encoding="utf-8" if without_text else self.encoding,
                chunksize=rows,
                low_memory=False,
                compression=None,
            )
            stack.enter_context(chunks)
            stack.enter_context(warnings.catch_warnings())
            # rows longer than the header, as from an unquoted "1,234", would be cut with a warning
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield from chunks

    def _without_text(self) -> BinaryIO:
        """The file as UTF-8, with empty lines in place of long ones that are no rows, as a disclaimer with commas."""
        raw = self.source.open("rb") if isinstance(self.source, Path) else self.source()
        width = len(self.header)

        def kept() -> Iterator[bytes]:
            with io.TextIOWrapper(raw, encoding=self.encoding, newline="") as lines:
                for number, line in enumerate(lines):
                    if number >= self.start and line.count(self.separator) >= width:
                        cells = _cells(line.rstrip("\r\n"), self.separator)
                        if len(cells) > width and not _is_row(cells):
                            self.facts.append(f"line {number + 1} is no row and left out: {line.strip()[:60]!r}")
                            line = "\n"
                    yield line.encode()

        return io.BufferedReader(_Stream(kept()))


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        taken = self._left[: len(view)]
        self._left = self._left[len(taken) :]
        view[: len(taken)] = taken
        return len(taken)


def open_text(
    file: Path, source: Path | Callable[[], BinaryIO], head: bytes, given: Mapping[str, str] | None = None
) -> TextTable:
    """A text file as a table. `head` is its beginning. Raises DataError for what is no table."""
    whole = len(head) < HEAD_BYTES
    for encoding in _encodings(file, head):
        try:
            text = _decoded(head, encoding, whole)
        except UnicodeDecodeError:
            continue
        lines = _LINE.split(text)
        lines = lines if whole else lines[:-1]
        if not lines:
            raise DataError(f"{file}: its first line is longer than {HEAD_BYTES // 1024} KiB: no table of bars")
        found = _sniffed(lines, given)
        sure = encoding.startswith("utf")
        if not (sure or found.headless or _understood(found.header, given)):
            continue
        facts = [] if encoding == "utf-8-sig" else [f"read as {encoding.upper()}"]
        if found.skipped:
            facts.append(f"lines above the header left out: {len(found.skipped)} ({found.skipped[0].strip()[:60]!r})")
        rows = [line for line in lines[found.start :] if line.strip()]
        header = _widened(found.header, rows, found.separator)
        return TextTable(
            *(file, source, encoding, found.separator, header, found.headless, found.start),
            facts=facts,
            first_lines=rows[:HEAD_ROWS],
        )
    raise DataError(
        f"{file}: not readable as CSV: it is not UTF-8, and no header is found in {', '.join(_ENCODINGS).upper()}; "
        "save it as UTF-8"
    )


def _encodings(file: Path, head: bytes) -> Sequence[str]:
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return (encoding,)
    zeros = head[:1000].count(0)
    if zeros > len(head[:1000]) // 4 and len(head) >= 4:
        return ("utf-16-le",) if head[1] == 0 else ("utf-16-be",)
    if re.search(rb"[\x00-\x08]", head):
        raise DataError(f"{file}: binary, and of no kind that holds bars")
    return ("utf-8-sig", *_ENCODINGS)


def _decoded(head: bytes, encoding: str, whole: bool) -> str:
    if whole:
        return head.decode(encoding)
    end = max(head.rfind(b"\n"), head.rfind(b"\r"))
    if encoding.startswith("utf-16"):
        return head[: len(head) // 2 * 2].decode(encoding, errors="ignore")
    return head[: end + 1].decode(encoding) + " " if end >= 0 else ""


@dataclass
class _Sniffed:
    """Where the rows begin, and what is above them."""

    header: list[str]
    separator: str
    start: int  # lines before the first row
    headless: bool = False
    skipped: Sequence[str] = ()  # lines that are neither header nor row


def _sniffed(lines: Sequence[str], given: Mapping[str, str] | None) -> _Sniffed:
    row, separator = _first_row(lines)
    above = [(index, line) for index, line in enumerate(lines[: LOOK if row is None else row]) if line.strip()]
    if row is None:
        return _without_rows(above, given)
    width = len(_cells(lines[row], separator))
    split = [(index, _cells(line, separator)) for index, line in above]
    for count in range(min(len(split), 5), 1, -1):
        block = [cells for _, cells in split[-count:]]
        if all(len(cells) == width for cells in block) and (names := wide.stacked(block)) is not None:
            return _Sniffed(names, separator, row, skipped=[line for _, line in above[:-count]])
    for index, line in above:
        cells = _names(line, separator)
        if _understood(cells, given) or (separator == " " and _understood(cells := _names(line, "  "), given)):
            return _Sniffed(cells, separator, index + 1, skipped=[line for place, line in above if place < index])
    if split and abs(len(split[-1][1]) - width) <= 1 and not _counted(split[-1][1]):
        return _Sniffed(split[-1][1], separator, row)  # a header that is not understood
    skipped = [] if split and _counted(split[-1][1]) else [line for _, line in above]
    return _Sniffed([str(place) for place in range(width)], separator, row, headless=True, skipped=skipped)


def _without_rows(above: Sequence[tuple[int, str]], given: Mapping[str, str] | None) -> _Sniffed:
    """The header of a file without a row that is known as one."""
    for index, line in above:
        for sign in _SEPARATORS:
            cells = _names(line, sign)
            if len(cells) >= 5 and _understood(cells, given):
                return _Sniffed(cells, sign, index + 1)
    index, line = above[0]
    sign = max(_SEPARATORS[:-1], key=line.count)
    return _Sniffed(_cells(line, sign), sign, index + 1)


def _counted(cells: Sequence[str]) -> bool:
    """Are these the numbers that pandas writes above columns without names?"""
    names = [cell.strip() for cell in cells if cell.strip()]
    return names == [str(index) for index in range(len(names))]


def _first_row(lines: Sequence[str]) -> tuple[int | None, str]:
    """The first line that holds a stamp and four numbers, and what separates them."""
    for index, line in enumerate(lines[:LOOK]):
        found = [(sum(map(_is_number, cells)), sign) for sign, cells in _splits(line) if _is_row(cells)]
        if found:
            most = max(count for count, _ in found)
            return index, next(sign for count, sign in found if count == most)
    return None, ","


def _splits(line: str) -> Iterator[tuple[str, list[str]]]:
    for sign in _SEPARATORS:
        if line.count(sign) >= 4:
            yield sign, _cells(line, sign)


def _is_row(cells: Sequence[str]) -> bool:
    return sum(map(_is_number, cells)) >= 4 and any(map(looks_like_stamp, cells[:12]))


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell.strip()))


def _cells(line: str, separator: str) -> list[str]:
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
    return _cells(re.sub(r"(?i)\b(adj)\.? (?=close)", r"\1_", line) if separator == " " else line, separator)


def _understood(header: Sequence[str], given: Mapping[str, str] | None) -> bool:
    found = find(header, given, layout_of(header).columns)
    return not found.missing or bool(wide.groups(header))


def _widened(header: list[str], rows: Sequence[str], separator: str) -> list[str]:
    """The header with names for columns that it lacks: of row names, a time of day, or nothing but a last separator."""
    if separator != " " and all(line.count(separator) < len(header) for line in rows[:50]):
        return header
    split = [cells for cells in (_cells(line, separator) for line in rows[:50]) if _is_row(cells)]
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
