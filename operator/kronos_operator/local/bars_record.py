"""What a run has read of its bars, file by file and by bytes, so that a later plan can show what has changed since.

No row is parsed: the plan must not need pandas. A file's sums by blocks show whether rows were appended, and from
where on it differs otherwise.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from kronos_trainer.config import bar_files_below

_MOST_BLOCKS = 4096  # of all files together, so far as that leaves each file the least
_LEAST_BLOCKS_OF_A_FILE, _MOST_BLOCKS_OF_A_FILE = 16, 256  # fewer could not date a change
_LEAST_BLOCK = 256  # bytes
_STAMP = re.compile(
    rb"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[ T]\d{1,2}:\d{2})?|\b(?:19|20)\d{6}\b|\b1\d{9}(?:\d{3}){0,3}\b"
)
_SHOWN = 3  # files of a kind


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file: its length in bytes, its SHA-256 in hex, and the CRC-32 of each `block` bytes of it."""

    size: int
    sha256: str
    block: int
    sums: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class BarsRecord:
    """All files of bars below a directory, by relative name, or the one file."""

    files: Mapping[str, FileRecord]

    @property
    def digest(self) -> str:
        """SHA-256 over names and bytes."""
        total = hashlib.sha256()
        for name, file in self.files.items():
            # Names and contents of fixed length: no two sets of files run together to the same bytes.
            total.update(hashlib.sha256(name.encode()).digest())
            total.update(bytes.fromhex(file.sha256))
        return total.hexdigest()

    def dump(self) -> str:
        """As JSON."""
        return json.dumps({"files": {name: asdict(file) for name, file in self.files.items()}}) + "\n"


def record_bars(path: Path) -> BarsRecord:
    """Reads a file, or all files of bars below a directory. Raises OSError."""
    found = _found(path)
    most = max(_LEAST_BLOCKS_OF_A_FILE, min(_MOST_BLOCKS_OF_A_FILE, _MOST_BLOCKS // max(1, len(found))))
    return BarsRecord(files={name: _recorded(file, most) for name, file in found.items()})


def load_record(path: Path) -> BarsRecord | None:
    """A record that was dumped to a file, None if there is none."""
    try:
        files = json.loads(path.read_text())["files"]
        return BarsRecord(
            files={name: FileRecord(**{**file, "sums": tuple(file["sums"])}) for name, file in files.items()}
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def what_changed(before: BarsRecord, after: BarsRecord, path: Path) -> list[str]:
    """What is different at `path`, where `after` was taken, in a few phrases; empty if nothing is."""
    old, new, places = before.files, after.files, _found(path)
    added, gone = [name for name in new if name not in old], [name for name in old if name not in new]
    moved = {name: other for name in gone for other in added if old[name].sha256 == new[other].sha256}
    appended, changed = [], []
    for name in old:
        if name in new and old[name].sha256 != new[name].sha256:
            rows = _appended(old[name], places[name])
            if rows is None:
                changed.append(f"{name} {_difference(old[name], new[name], places[name])}")
            else:
                appended.append(f"{name}, {rows}")
    kinds = {
        "bars appended": appended,
        "bars changed": changed,
        "new bars": [name for name in added if name not in moved.values()],
        "bars removed": [name for name in gone if name not in moved],
        "bars renamed": [f"{name} → {other}" for name, other in moved.items()],
    }
    return [f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names]


def _listed(names: list[str]) -> str:
    return "; ".join(names[:_SHOWN]) + (f"; and {len(names) - _SHOWN} more files" if len(names) > _SHOWN else "")


def _found(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {path.name: path}
    return {file.relative_to(path).as_posix(): file for file in bar_files_below(path)}


def _recorded(file: Path, most_blocks: int) -> FileRecord:
    size = file.stat().st_size
    block = max(_LEAST_BLOCK, -(-size // most_blocks))
    sha, sums, length = hashlib.sha256(), [], 0
    with file.open("rb") as stream:
        while piece := stream.read(block):
            sha.update(piece)
            sums.append(zlib.crc32(piece))
            length += len(piece)
    return FileRecord(size=length, sha256=sha.hexdigest(), block=block, sums=tuple(sums))


def _appended(old: FileRecord, file: Path) -> str | None:
    """How many rows follow what was there, and from when on; None if the file does not begin with what was there."""
    with file.open("rb") as stream:
        sha, left = hashlib.sha256(), old.size
        while left and (piece := stream.read(min(left, 1 << 20))):
            sha.update(piece)
            left -= len(piece)
        if left or sha.hexdigest() != old.sha256:
            return None
        first, rows = b"", 0
        for line in stream:
            if line.strip():
                first = first or line
                rows += 1
    since = _stamp(first)
    return f"{rows:,} row{'s' if rows > 1 else ''}" + (f" from {since} on" if since else "")


def _difference(old: FileRecord, new: FileRecord, file: Path) -> str:
    sizes = f"({old.size:,} → {new.size:,} bytes)"
    with file.open("rb") as stream:
        if b"\0" in (head := stream.read(1024)) or head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"PK")):
            return sizes  # not text: nothing is to be read from it here
        stream.seek(0)
        differing = [index for index, known in enumerate(old.sums) if zlib.crc32(stream.read(old.block)) != known] or [
            len(old.sums)
        ]
        start = _stamp_at(file, differing[0] * old.block)
        if old.size != new.size:
            return f"from about {start} on" if start else sizes
        end = _stamp_at(file, (differing[-1] + 1) * old.block)
    if start is None:
        return sizes
    return f"between about {start} and {end}" if end else f"from about {start} on"


def _stamp_at(file: Path, place: int) -> str | None:
    """The first stamp in a row that begins at a place of the file or has it inside."""
    with file.open("rb") as stream:
        before = min(place, 4096)
        stream.seek(place - before)
        text = stream.read(before + 4096)
    line = text.rfind(b"\n", 0, before) + 1
    return _stamp(text[line:])


def _stamp(text: bytes) -> str | None:
    found = _STAMP.search(text)
    if found is None:
        return None
    word = found[0].decode()
    if re.fullmatch(r"1\d{9,}", word):
        return datetime.fromtimestamp(int(word[:10]), UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
    return word
