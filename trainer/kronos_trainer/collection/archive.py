"""One tar of models: their runs and pointers, after a manifest with the SHA-256 of every file.

While a model's files are read its lock is held: what is published and what lies there belong together. The manifest
comes first, so that whoever reads the archive knows what may be in it.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import Field

from kronos_trainer.config import ASIDE, LONGEST_LINE, Content, Contract, ModelRef, RelativePath, RunPaths, now_text
from kronos_trainer.errors import ConfigError, DataError, InputMissing, StorageError
from kronos_trainer.storage import durable
from kronos_trainer.storage.lock import command_lock

MANIFEST = "manifest.json"
VERSION = 1
PACKED = (".gz", ".tgz")


class Manifest(Contract):
    """What an archive holds: a file's path is relative to the output root."""

    version: int = Field(VERSION, description="Raised when a field means something else.")
    created: str = Field("", description="As ISO 8601 in UTC.")
    files: dict[RelativePath, Content] = Field(description="Every file of the archive, by its path.")

    def models(self) -> dict[ModelRef, list[str]]:
        """The files of each model. Raises DataError for one that is not a model's."""
        found: dict[ModelRef, list[str]] = {}
        for name in self.files:
            found.setdefault(model_of_file(name), []).append(name)
        return found


def model_of_file(name: str) -> ModelRef:
    """The model that a file of an archive belongs to. Raises DataError if it is no pointer and in no run of one."""
    parts = PurePosixPath(name).parts
    try:
        in_models = parts[0] == "models"
        model = ModelRef(namespace=parts[1], name=parts[2]) if in_models else RunPaths.model_of_backtests(parts[1])
        paths = RunPaths(Path(), model, run="")
        inside = in_models and len(parts) > 5 and parts[3] == paths.runs.name and not parts[4].startswith(".")
        if not inside and Path(name) not in pointers_of(paths):
            raise ValueError
    except (ValueError, IndexError):
        raise DataError(f"{name} in the archive belongs to no model; it was not written by kronos backup") from None
    return model


def pointers_of(paths: RunPaths) -> tuple[Path, ...]:
    """The files of a model beside its runs that outlive a process."""
    return paths.current, paths.candidate, paths.readings, paths.trials


def back_up(root: Path, models: Sequence[ModelRef], archive: Path) -> Manifest:
    """Writes the models of an output root to an archive, which appears complete; packed by gzip if its name says so.

    Raises ConfigError if there is such a file, StorageError if a training holds a model or the disk is full, DataError
    for what is not a plain file.
    """
    if archive.exists():
        raise ConfigError(f"{archive}: exists already; name a new file")
    with ExitStack() as locks:
        for model in models:
            locks.enter_context(command_lock(RunPaths(root, model, run="")))
        names = [name for model in models for name in _files(root, RunPaths(root, model, run=""))]
        if not names:
            raise InputMissing(f"the models below {root} have no files")
        with durable.storing(root):
            contents = {name: Content.of(root / name) for name in names}
        manifest = Manifest(created=now_text("seconds"), files=contents)
        durable.write_file(archive, lambda aside: _write(root, manifest, aside, packed=archive.suffix in PACKED))
    return manifest


def _files(root: Path, paths: RunPaths) -> Iterator[str]:
    """The pointers that there are, and every file of every run. Raises DataError for links and what is no file."""
    for pointer in pointers_of(paths):
        if pointer.exists():
            yield pointer.relative_to(root).as_posix()
    for run in sorted(paths.runs.iterdir()) if paths.runs.is_dir() else []:
        for path in sorted(run.rglob("*")) if not run.name.startswith(".") else []:
            if any(part.startswith(ASIDE) for part in path.relative_to(run).parts):
                continue  # a killed writer has left it
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise DataError(f"{path}: neither a file nor a directory; replace it by a copy of what it stands for")
            if path.is_file():
                yield path.relative_to(root).as_posix()


def _write(root: Path, manifest: Manifest, archive: Path, *, packed: bool) -> None:
    with tarfile.open(archive, "w:gz" if packed else "w:", format=tarfile.PAX_FORMAT) as tar:
        text = manifest.model_dump_json(by_alias=True, indent=1).encode()
        if len(text) > LONGEST_LINE:
            raise ConfigError(
                f"{len(manifest.files):,} files are too many for one archive: back up one model at a time"
            )
        tar.addfile(_member(MANIFEST, len(text), time.time()), io.BytesIO(text))
        for name, content in manifest.files.items():
            with (root / name).open("rb") as stream:
                reading = Hashing(stream)
                # Which run was last at work is told by the times of its files.
                tar.addfile(_member(name, content.size, (root / name).stat().st_mtime), reading)
            if reading.sha256() != content.sha256:
                raise StorageError(f"{root / name} was changed while it was read; repeat the command")


def _member(name: str, size: int, written: float) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, written
    return member


class Hashing:
    """A stream that knows the SHA-256 of what was read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        found = self._stream.read(size)
        self._hash.update(found)
        return found

    def sha256(self) -> str:
        """In hex."""
        return self._hash.hexdigest()
