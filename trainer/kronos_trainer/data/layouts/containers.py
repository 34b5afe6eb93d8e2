"""Opens a file of bars of any type and compression, detected from its first bytes, not its name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import pyarrow as pa

from kronos_trainer.config import bars_among
from kronos_trainer.config.files import ARROW_SUFFIXES, PARQUET_SUFFIXES, stem
from kronos_trainer.data.layouts import store
from kronos_trainer.data.layouts.arrow import ArrowTable
from kronos_trainer.data.layouts.documents import open_json
from kronos_trainer.data.layouts.periods import Period, by_period
from kronos_trainer.data.layouts.tables import Table
from kronos_trainer.data.layouts.text import HEAD_BYTES, open_text
from kronos_trainer.errors import DataError

Place = Path | Callable[[], BinaryIO]  # a file, or what opens a stream of its content

_PARTITION = "symbol="  # directories of a partitioned data set
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# How what is packed begins, and how it is opened.
_PACKED: tuple[tuple[bytes, Callable[[BinaryIO], BinaryIO]], ...] = (
    (b"\x1f\x8b", lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw))),
    (b"BZh", lambda raw: cast(BinaryIO, bz2.BZ2File(raw))),
    (b"\xfd7zXZ\x00", lambda raw: cast(BinaryIO, lzma.LZMAFile(raw))),  # noqa: SIM115 - _Unpacked closes it
    (b"\x28\xb5\x2f\xfd", lambda raw: cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(raw, "zstd")))),
)
# What bars often come as and is not read, and what to do.
_OTHERS = (
    (b"\xd0\xcf\x11\xe0", "an Excel workbook; save its sheet as CSV"),
    (b"%PDF", "a PDF document; convert it to CSV or Parquet"),
    (b"\x89HDF", "an HDF5 file; write its table as Parquet: pandas.read_hdf(...).to_parquet(...)"),
    (b"SQLite format 3", "an SQLite database; write its table as CSV or Parquet"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (b"\x80\x04", "a pickle, which can run code: kronos data import converts those of upstream"),
    (b"\x80\x05", "a pickle, which can run code: kronos data import converts those of upstream"),
)


@dataclass(frozen=True)
class Source:
    """One table of bars: a file, a member of an archive, or an instrument of a store."""

    label: Path  # as messages name it
    symbol: str  # where no column names it
    kind: str  # of file, in messages
    open: Callable[[Mapping[str, str] | None], Table]  # given `data.columns`
    period: Period | None = None  # of which it holds the symbol's bars, by its name

    def names(self, symbols: object) -> Path | None:
        """What the symbol was named after: this file, or the directory of its parts; else None.

        Files of one `symbol=` directory are together by intention.
        """
        if not isinstance(symbols, str) or self.label.parent.name.startswith(_PARTITION):
            return None
        if self.period is not None and symbols == self.period.symbol:
            return self.label.parent
        return self.label if symbols == self.symbol else None


def sources(files: Sequence[Path]) -> Iterator[Source]:
    """Every table in a list of files, in their order. An invalid one raises when it is opened."""
    for place in store.stores(files):
        try:
            for symbol, table in store.instruments(place, files):
                yield Source(table.file, symbol, "Qlib's store", lambda given, table=table: table)  # type: ignore[misc]
        except (DataError, OSError) as error:
            yield _failing(place, place.name, error)
    periods = by_period(files)
    for file in files:
        if file.suffix == ".bin" or (file.suffix == ".txt" and file.parent.name == "calendars"):
            continue
        parent = file.parent.name
        symbol = parent.removeprefix(_PARTITION) if parent.startswith(_PARTITION) else stem(file.name)
        try:
            with file.open("rb") as stream:
                begin = stream.read(8)
            members = (
                list(_in_zip(file, symbol)) if begin.startswith(_ZIP) else [_source(file, symbol, file.name, file)]
            )
        except (DataError, OSError) as error:
            members = [_failing(file, symbol, error)]
        period = periods.get(file) if len(members) == 1 else None
        yield from (replace(member, period=period or member.period) for member in members)


def _failing(label: Path, symbol: str, error: Exception) -> Source:
    def opened(given: Mapping[str, str] | None) -> Table:
        raise error

    return Source(label, symbol, "a file of bars", opened)


def _source(label: Path, symbol: str, name: str, source: Place) -> Source:
    lower = name.lower()
    kind = "Parquet" if lower.endswith(PARQUET_SUFFIXES) else "Feather" if lower.endswith(ARROW_SUFFIXES) else "CSV"
    kind = "JSON" if ".json" in lower or ".ndjson" in lower else kind

    def opened(given: Mapping[str, str] | None) -> Table:
        return _table(label, kind, source, given)

    return Source(label, symbol, kind, opened)


def _in_zip(file: Path, symbol: str) -> Iterator[Source]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    except zipfile.BadZipFile as error:
        raise DataError(f"{file}: a truncated or damaged zip archive: {error}") from None
    if "[Content_Types].xml" in infos:
        raise DataError(f"{file}: an Excel workbook; save its sheet as CSV")
    names = [PurePosixPath(name) for name in infos if "__MACOSX" not in name]
    members = [name.as_posix() for name in bars_among(names)] or [name.as_posix() for name in names if len(names) == 1]
    if not members:
        found = ", ".join(list(infos)[:5]) or "nothing"
        raise DataError(f"{file}: a zip archive without bars; it contains {found}")
    periods = by_period([PurePosixPath(member) for member in members])
    for member in members:
        if infos[member].flag_bits & 1:
            raise DataError(f"{file}: its member {member} is encrypted; unpack the archive")
        alone = len(members) == 1

        def reader(member: str = member) -> BinaryIO:
            archive = zipfile.ZipFile(file)
            try:
                stream = archive.open(member)
            finally:
                archive.close()  # the file stays open until the member is closed
            return cast(BinaryIO, stream)

        path = PurePosixPath(member)
        one = _source(file if alone else file / member, symbol if alone else stem(path.name), member, reader)
        yield replace(one, period=periods.get(path))


def _table(label: Path, kind: str, source: Place, given: Mapping[str, str] | None) -> Table:
    """The table of a file, unpacked as often as it is packed."""
    if isinstance(source, Path) and source.stat().st_size == 0:
        raise DataError(f"{label}: empty file")
    if kind in ("Parquet", "Feather") and isinstance(source, Path):
        return ArrowTable(label, source, parquet=kind == "Parquet")
    head = _head(source)
    for _ in range(2):
        unpack = next((opener for mark, opener in _PACKED if head.startswith(mark)), None)
        if unpack is None:
            break
        source = _unpacked(source, unpack)
        head = _head(source)
    if not head.strip():
        raise DataError(f"{label}: empty file")
    if kind in ("Parquet", "Feather") or head.startswith((b"PAR1", b"ARROW1")):
        place = source if isinstance(source, Path) else cast(BinaryIO, io.BytesIO(_content(source)))
        return ArrowTable(label, place, parquet=kind == "Parquet" or head.startswith(b"PAR1"))
    for mark, what in _OTHERS:
        if head.startswith(mark):
            raise DataError(f"{label}: {what}")
    if head[257:262] == b"ustar":
        raise DataError(f"{label}: a tar archive; unpack it")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in (b"{", b"["):
        return open_json(label, _content(source), given)
    if text[:1] == b"<" and text[:200].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<table")):
        raise DataError(f"{label}: an HTML or XML page, not bars; download the file itself")
    return open_text(label, source, head, given)


class _Unpacked(io.BufferedReader):
    """A stream that closes what it is unpacked from."""

    def __init__(self, stream: BinaryIO, packed: BinaryIO) -> None:
        super().__init__(cast(io.RawIOBase, stream))
        self._packed = packed

    def close(self) -> None:
        super().close()
        self._packed.close()


def _unpacked(source: Place, unpack: Callable[[BinaryIO], BinaryIO]) -> Callable[[], BinaryIO]:
    def opened() -> BinaryIO:
        packed = _opened(source)
        return cast(BinaryIO, _Unpacked(unpack(packed), packed))

    return opened


def _opened(source: Place) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else source()


def _head(source: Place) -> bytes:
    with _opened(source) as stream:
        return stream.read(HEAD_BYTES)


def _content(source: Place) -> bytes:
    with _opened(source) as stream:
        return stream.read()
