"""Puts the models of an archive back: everything is verified aside before a file of a model is touched.

Runs are moved into place one by one, each complete, and pointers last: after a crash whoever reads finds whole runs,
and the same command goes on. A run that is here and differs is never replaced, and neither is a pointer.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from kronos_trainer.collection.archive import MANIFEST, VERSION, Hashing, Manifest, pointers_of
from kronos_trainer.config import ASIDE, LONGEST_LINE, Content, ModelRef, RunPaths, files_below
from kronos_trainer.errors import ConfigError, DataError, InputMissing
from kronos_trainer.storage import durable
from kronos_trainer.storage.lock import command_lock, occupied


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What has become of a model: runs that were put back, that were here, and pointers that differ and stay."""

    model: ModelRef
    added: tuple[str, ...]
    there: tuple[str, ...]
    kept: tuple[str, ...]


def restore(archive: Path, root: Path) -> list[Restored]:
    """Puts the models of an archive below an output root.

    Raises InputMissing where there is no archive, DataError if it is damaged or holds what its manifest does not name,
    ConfigError if a run is here already and differs, StorageError. Nothing was changed then.
    """
    if not archive.is_file():
        raise InputMissing(f"{archive}: no such file; it should be one that kronos backup has written")
    staged = root / f"{ASIDE}restore"
    durable.make_directory(root)
    with occupied(staged.with_suffix(".flock")):
        durable.write_directory(staged, lambda aside: _unpack(archive, aside))
        try:
            manifest = Manifest.model_validate_json((staged / MANIFEST).read_text())
            with ExitStack() as locks:
                return _place(staged, manifest, root, locks)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _unpack(archive: Path, aside: Path) -> None:
    """Every file of the archive, with the bytes that the manifest says. Raises DataError."""
    try:
        with tarfile.open(archive, "r:*") as tar:
            members = iter(tar)
            manifest = _manifest(archive, tar, next(members, None))
            missing = dict(manifest.files)
            for member in members:
                content = missing.pop(member.name, None)
                if content is None or not member.isreg() or member.size != content.size:
                    raise DataError(f"{archive}: holds {member.name}, which is not as its manifest says")
                _extract(tar, member, content, aside / member.name, archive)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, which durable names
        raise DataError(f"{archive}: damaged, or no archive of kronos backup ({error}); take another copy") from None
    if missing:
        raise DataError(f"{archive}: incomplete: {next(iter(missing))} is missing ({len(missing)} files are)")
    (aside / MANIFEST).write_text(manifest.model_dump_json(by_alias=True))


def _manifest(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> Manifest:
    stream = tar.extractfile(member) if member is not None and member.name == MANIFEST and member.isreg() else None
    if member is None or stream is None or member.size > LONGEST_LINE:
        raise DataError(f"{archive}: does not begin with {MANIFEST}: it is no archive of kronos backup")
    try:
        manifest = Manifest.model_validate_json(stream.read())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise DataError(f"{archive}: {MANIFEST}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if manifest.version != VERSION:
        raise DataError(f"{archive}: version {manifest.version}, of a newer release: restore it with that one")
    manifest.models()
    return manifest


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, content: Content, place: Path, archive: Path) -> None:
    stream = tar.extractfile(member)
    assert stream is not None
    reading = Hashing(stream)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as file:
        shutil.copyfileobj(reading, file)
    if reading.sha256() != content.sha256:
        raise DataError(f"{archive}: {member.name} is damaged: its SHA-256 is another than that of the manifest")
    with suppress(OverflowError, ValueError):  # a time that is none
        os.utime(place, (member.mtime, member.mtime))


def _place(staged: Path, manifest: Manifest, root: Path, locks: ExitStack) -> list[Restored]:
    models = manifest.models()
    for model, names in models.items():
        _runs(RunPaths(root, model, run=""), manifest, names)  # before so much as a directory is made
    for model in models:
        durable.make_directory(RunPaths(root, model, run="").runs)
        locks.enter_context(command_lock(RunPaths(root, model, run="")))
    runs = {model: _runs(RunPaths(root, model, run=""), manifest, names) for model, names in models.items()}
    done = []
    for model, (added, there) in runs.items():
        paths, source = RunPaths(root, model, run=""), RunPaths(staged, model, run="")
        for run in added:
            durable.move(source.runs / run, paths.runs / run)
        done.append(Restored(model=model, added=tuple(added), there=tuple(there), kept=tuple(_pointers(source, paths))))
    return done


def _runs(paths: RunPaths, manifest: Manifest, names: list[str]) -> tuple[list[str], list[str]]:
    """The runs to put back, and those that are here as in the archive. Raises ConfigError where one differs."""
    wanted: dict[str, dict[str, Content]] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        if len(parts) > 5:
            wanted.setdefault(parts[4], {})["/".join(parts[5:])] = manifest.files[name]
    added, there = [], []
    for run, contents in wanted.items():
        directory = paths.runs / run
        if not directory.exists():
            added.append(run)
            continue
        differs = next(_differences(directory, contents), None)
        if differs is not None:
            raise ConfigError(
                f"run {run} of {paths.model_dir.name} is here already and differs ({differs}): restore into another "
                "--root, or remove that run first"
            )
        there.append(run)
    return added, there


def _differences(directory: Path, contents: dict[str, Content]) -> Iterator[str]:
    here = {file.relative_to(directory).as_posix() for file in files_below(directory)}
    yield from sorted(here ^ contents.keys())
    with durable.storing(directory):
        yield from (name for name, content in contents.items() if Content.of(directory / name) != content)


def _pointers(source: RunPaths, paths: RunPaths) -> Iterator[str]:
    """Puts back the pointers that are not here; yields those that are, and say something else."""
    for ours, theirs in zip(pointers_of(paths), pointers_of(source), strict=True):
        if not theirs.exists():
            continue
        if not ours.exists():
            durable.make_directory(ours.parent)
            durable.move(theirs, ours)
        elif ours.read_bytes() != theirs.read_bytes():
            yield ours.name
