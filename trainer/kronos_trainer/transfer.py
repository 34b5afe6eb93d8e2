"""`python -m kronos_trainer.transfer receive | send`: files into and out of a pod's volumes, by its stdin and stdout.

The other end is the `kronos` command. It cannot signal the end of its stdin, so nothing here waits for that.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from kronos_trainer.arguments import Arguments
from kronos_trainer.config import ASIDE, LONGEST_LINE, Content, ExitCode, Landed, Offer, Wanted, bars_among
from kronos_trainer.errors import ConfigError, DataError, InputMissing, Stopped, StorageError, TrainerError
from kronos_trainer.storage import durable

STAGING = ".transfer-"  # prefix of directories of transfers that are not complete, which no reader of bars enters
_STALE_SECONDS = 7 * 24 * 3600  # after which no transfer is resumed
_PIECE = 2**20  # bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; a failure is one line on stderr."""
    parser = Arguments(prog="python -m kronos_trainer.transfer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (("receive", "put files from stdin in place"), ("send", "write files to stdout, as tar")):
        command = commands.add_parser(name, help=what)
        command.add_argument("root", type=Path, help="directory that all paths are relative to")
        if name == "send":
            command.add_argument("names", nargs="+", help="files and directories below it")
            command.add_argument(
                "--if-there", metavar="NAME", action="append", default=[], help="a file that need not exist"
            )
    given = parser.parse_args(arguments)
    try:
        if given.command == "receive":
            receive(given.root, sys.stdin.buffer, sys.stdout.buffer)
        else:
            there = [name for name in given.if_there if (given.root / name).is_file()]
            send(given.root, [*given.names, *there], sys.stdout.buffer)
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return ExitCode.DONE


def receive(root: Path, source: IO[bytes], answers: IO[bytes]) -> None:
    """Reads an offer and its missing files, and puts them in place once all have arrived intact.

    A directory that did not exist appears as a whole. Raises ConfigError where files differ and may not be replaced,
    DataError for a stream that does not match the offer, Stopped if it breaks off, StorageError if the volume is full.
    """
    offer = _offer(source)
    target = root / offer.path if offer.path else root
    staging = root / f"{STAGING}{offer.id()}"
    there = {name for name, content in offer.files.items() if _holds(target / name, content)}
    differ = [name for name in offer.files if name not in there and os.path.lexists(target / name)]
    if differ and not offer.overwrite:
        raise ConfigError(
            f"{len(differ)} file(s) already exist with different content: {', '.join(differ[:3])}"
            f"{', ...' if len(differ) > 3 else ''}; replace them with --overwrite, or choose another --path"
        )
    kept = [name for name, content in offer.files.items() if name not in there and _holds(staging / name, content)]
    wanted = [name for name in offer.files if name not in there and name not in kept]
    _require_space(root, sum(offer.files[name].size for name in wanted))
    _answer(answers, Wanted(files=wanted, kept=len(kept)))
    _fill(staging, {name: offer.files[name] for name in wanted}, source)
    _put_in_place(staging, target, [name for name in offer.files if name not in there])
    _remove_stale(root)
    # Without a directory of its own the rest of the volume is none of this transfer's business.
    found = (file.relative_to(target) for file in target.rglob("*") if file.is_file()) if offer.path else iter(())
    others = sum(name.as_posix() not in offer.files for name in bars_among(found))
    landed = Landed(
        added=len(offer.files) - len(there) - len(differ),
        replaced=len(differ),
        unchanged=len(there),
        others=others,
    )
    _answer(answers, landed)


def send(root: Path, names: Sequence[str], target: IO[bytes]) -> None:
    """Writes files, and those below directories, as a tar stream. Raises InputMissing before anything is written."""
    files = [(file.relative_to(root).as_posix(), file) for name in names for file in _files(root, name)]
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name, file in files:
            with file.open("rb") as stream:
                member = tarfile.TarInfo(name)
                member.size = os.fstat(stream.fileno()).st_size
                archive.addfile(member, stream)
    target.flush()


def _files(root: Path, name: str) -> list[Path]:
    place = root / name
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputMissing(f"{place} does not exist")
    return [file for file in sorted(place.rglob("*")) if file.is_file() and ASIDE not in str(file)]


def _offer(source: IO[bytes]) -> Offer:
    line = source.readline(LONGEST_LINE)
    try:
        return Offer.model_validate_json(line)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3])
        raise DataError(f"the offer cannot be read: {problems}") from None


def _holds(file: Path, content: Content) -> bool:
    try:
        return file.stat().st_size == content.size and Content.of(file) == content
    except OSError:
        return False


def _require_space(root: Path, size: int) -> None:
    with durable.storing(root):
        free = shutil.disk_usage(root).free
    if size > free:
        raise StorageError(
            f"{size / 2**20:,.1f} MiB are to be written and {free / 2**20:,.1f} MiB are free: free disk space, or use "
            "a larger claim"
        )


def _answer(answers: IO[bytes], answer: Wanted | Landed) -> None:
    answers.write(answer.model_dump_json(by_alias=True).encode() + b"\n")
    answers.flush()


def _fill(staging: Path, wanted: dict[str, Content], source: IO[bytes]) -> None:
    """Writes the files of the tar stream, each complete or not at all; what arrived stays if the stream breaks off."""
    missing = dict(wanted)
    try:
        # As a stream it is read up to its end mark and no further.
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                content = missing.pop(member.name, None)
                stream = archive.extractfile(member) if member.isreg() else None
                # A file has its name from the offer, whose paths lead nowhere else; nothing else of a tar is believed.
                if content is None or stream is None or member.size != content.size:
                    raise DataError(f"{member.name} does not match the offer: it may have changed in the meantime")
                _write(staging / member.name, stream, content)
    except tarfile.TarError as error:
        raise Stopped(f"the connection was lost ({error})") from error
    if missing:
        raise DataError(f"{len(missing)} file(s) were offered and not sent: {', '.join(list(missing)[:3])}")


def _write(file: Path, stream: IO[bytes], content: Content) -> None:
    def copy(aside: Path) -> None:
        digest = hashlib.sha256()
        with aside.open("wb") as target:
            for piece in _pieces(stream):
                digest.update(piece)
                target.write(piece)
        if digest.hexdigest() != content.sha256:
            aside.unlink()
            raise DataError(f"{file.name} changed while it was sent: send it again")

    durable.write_file(file, copy)


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(_PIECE):
        yield piece


def _put_in_place(staging: Path, target: Path, names: Sequence[str]) -> None:
    if not names:
        return
    for aside in list(staging.rglob(f"{ASIDE}*")):
        aside.unlink()  # of a receiver that was killed
    if not target.exists():
        durable.make_directory(target.parent)
        durable.move(staging, target)
        return
    for name in names:
        durable.make_directory((target / name).parent)
        durable.move(staging / name, target / name)
    shutil.rmtree(staging, ignore_errors=True)


def _remove_stale(root: Path) -> None:
    for entry in root.iterdir():
        ours = re.fullmatch(re.escape(STAGING) + "[0-9a-f]{16}", entry.name)
        if ours and time.time() - entry.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
