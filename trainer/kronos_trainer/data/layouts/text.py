"""Text files as tables: encoding, separator and the first row are detected from the first lines."""

from __future__ import annotations

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

from kronos_trainer.data.layouts.sniff import fields_of, is_row, sniffed, understood, widened
from kronos_trainer.data.layouts.tables import HEAD_ROWS, Chunk
from kronos_trainer.errors import DataError

HEAD_BYTES = 65_536  # of a file, that are looked at first

EMPTY = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-", "--"]  # how files write an absent number

_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
# The encodings of vendors, for what is not UTF-8: the first one counts in which the header makes sense.
_ENCODINGS = ("gb18030", "big5", "cp932", "cp949", "cp1252", "cp1250", "cp1251")
_LINE = re.compile(r"\r\n|\r|\n")


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
        """In files separated by semicolons, the comma may be the decimal separator."""
        return None if self.separator == ";" and not self.headless else "."

    def head(self) -> pd.DataFrame:
        """As `Table`."""
        rows = [fields_of(line, self.separator) for line in self.first_lines if line.strip()]
        width = len(self.header)
        kept = [[*row, *[""] * (width - len(row))][:width] for row in rows if len(row) > 1][:HEAD_ROWS]
        return pd.DataFrame(kept, columns=range(width), dtype="str")

    def frames(self, columns: Mapping[int, str], text: Collection[str], skip: int, rows: int) -> Iterator[Chunk]:
        """As `Table`. Lines with more fields than the header are an error, unless they are clearly not rows."""
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
        """The file as UTF-8, with empty lines in place of long lines that are not rows, e.g. a disclaimer."""
        raw = self.source.open("rb") if isinstance(self.source, Path) else self.source()
        width = len(self.header)

        def kept() -> Iterator[bytes]:
            with io.TextIOWrapper(raw, encoding=self.encoding, newline="") as lines:
                for number, line in enumerate(lines):
                    if number >= self.start and line.count(self.separator) >= width:
                        cells = fields_of(line.rstrip("\r\n"), self.separator)
                        if len(cells) > width and not is_row(cells):
                            self.facts.append(f"line {number + 1} is not a row and was skipped: {line.strip()[:60]!r}")
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
    """A text file as a table. `head` is its beginning. Raises DataError for what is not a table."""
    whole = len(head) < HEAD_BYTES
    for encoding in _encodings(file, head):
        try:
            text = _decoded(head, encoding, whole)
        except UnicodeDecodeError:
            continue
        lines = _LINE.split(text)
        lines = lines if whole else lines[:-1]
        if not lines:
            raise DataError(f"{file}: its first line is longer than {HEAD_BYTES // 1024} KiB: not a table of bars")
        found = sniffed(lines, given)
        sure = encoding.startswith("utf")
        if not (sure or found.headless or understood(found.header, given)):
            continue
        facts = [] if encoding == "utf-8-sig" else [f"read as {encoding.upper()}"]
        if found.skipped:
            facts.append(f"lines above the header skipped: {len(found.skipped)} ({found.skipped[0].strip()[:60]!r})")
        rows = [line for line in lines[found.start :] if line.strip()]
        header = widened(found.header, rows, found.separator)
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
        raise DataError(f"{file}: a binary file of an unsupported kind")
    return ("utf-8-sig", *_ENCODINGS)


def _decoded(head: bytes, encoding: str, whole: bool) -> str:
    if whole:
        return head.decode(encoding)
    end = max(head.rfind(b"\n"), head.rfind(b"\r"))
    if encoding.startswith("utf-16"):
        return head[: len(head) // 2 * 2].decode(encoding, errors="ignore")
    return head[: end + 1].decode(encoding) + " " if end >= 0 else ""
