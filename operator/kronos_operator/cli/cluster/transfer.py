"""Files from this machine into a pod and back, through the trainer's `kronos_trainer.transfer` there."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from kronos_operator.cli.failure import UNEXPECTED, Failure
from kronos_operator.cli.terminal import print_line
from kronos_operator.manifests.command_pod import CONTAINER
from kronos_trainer.config import LONGEST_LINE, Contract, ExitCode, Landed, Offer, Wanted

if TYPE_CHECKING:
    from kronos_operator.kube import Cluster, Command

_MODULE = ("python", "-m", "kronos_trainer.transfer")
_PIECE = 64 * 2**10  # bytes
_PAUSES = (1, 2, 4, 8)  # seconds before the connection is tried anew
_KILLED = 137  # 128 + SIGKILL

Moved = Callable[[int, int], None]
"""Takes the bytes that were sent and those that are to be sent."""

A = TypeVar("A", bound=Contract)


class Pod:
    """A running pod with the trainer in it, in which commands are run and files copied."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    async def upload(self, root: str, offer: Offer, files: Mapping[str, Path], moved: Moved) -> Landed:
        """Puts files below a directory of the pod. What arrived stays when the connection breaks off, and it goes on.

        Raises Failure with the pod's own reason, or ClusterError if the connection is not to be had.
        """
        from kronos_operator.kube import Unavailable

        for pause in _PAUSES:
            try:
                return await self._upload(root, offer, files, moved)
            except Unavailable as error:
                print_line(f"{error.message}; retrying in {pause} s", stderr=True)
                await asyncio.sleep(pause)
        return await self._upload(root, offer, files, moved)

    async def _upload(self, root: str, offer: Offer, files: Mapping[str, Path], moved: Moved) -> Landed:
        from kronos_operator.kube import execute

        line = offer.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"
        if len(line) > LONGEST_LINE:
            raise Failure(f"{len(files)} files are too many at once: push subdirectories one by one", ExitCode.CONFIG)
        command = [*_MODULE, "receive", root]
        async with execute(
            self._cluster, self._namespace, self._name, command, container=CONTAINER, stdin=True
        ) as receiver:
            answers = _lines(receiver)
            await receiver.write(line)
            wanted = await _answer(Wanted, answers, receiver)
            sizes = {name: offer.files[name].size for name in wanted.files}
            total = sum(sizes.values())

            async def write() -> None:
                sent = 0
                moved(0, total)
                for piece, is_content in tar_stream(sizes, files):
                    await receiver.write(piece)
                    sent += len(piece) if is_content else 0
                    moved(sent, total)

            # The receiver may end first, because its disk is full: then its reason counts, not that of the connection.
            writing, landing = asyncio.create_task(write()), asyncio.create_task(_answer(Landed, answers, receiver))
            try:
                await asyncio.wait({writing, landing}, return_when=asyncio.FIRST_COMPLETED)
                if not landing.done() and writing.exception() is not None:
                    await asyncio.wait({landing}, timeout=5)
                    if not landing.done():
                        writing.result()
                elif not landing.done():
                    return await landing
                return landing.result()
            finally:
                for task in (writing, landing):
                    task.cancel()
                await asyncio.gather(writing, landing, return_exceptions=True)

    async def download(
        self, root: str, names: Sequence[str], target: IO[bytes], *, if_there: Sequence[str] = ()
    ) -> None:
        """Writes files of the pod, and those below directories, as a tar archive. Raises Failure and ClusterError."""
        from kronos_operator.kube import execute

        command = [*_MODULE, "send", root, *names]
        command += [word for name in if_there for word in ("--if-there", name)]
        async with execute(
            self._cluster, self._namespace, self._name, command, container=CONTAINER, stdin=False
        ) as sender:
            async for piece in sender.output():
                target.write(piece)
            _require_done(sender)

    async def run(self, command: Sequence[str]) -> tuple[str, str]:
        """What a command prints on stdout and on stderr. Raises Failure with its own message and exit code."""
        from kronos_operator.kube import execute

        async with execute(
            self._cluster, self._namespace, self._name, command, container=CONTAINER, stdin=False
        ) as running:
            text = b"".join([piece async for piece in running.output()])
            _require_done(running)
            return text.decode(errors="replace"), running.stderr


def tar_stream(sizes: Mapping[str, int], files: Mapping[str, Path]) -> Iterator[tuple[bytes, bool]]:
    """A tar archive of files, in pieces, and whether each is content. Raises Failure (65) if a file became shorter."""
    length = 0
    for name, size in sizes.items():
        member = tarfile.TarInfo(name)
        member.size = size
        header = member.tobuf(tarfile.PAX_FORMAT)
        yield header, False
        left = size
        with files[name].open("rb") as stream:
            while left:
                piece = stream.read(min(_PIECE, left))
                if not piece:
                    raise Failure(f"{files[name]} became shorter while it was sent: try again", ExitCode.DATA)
                left -= len(piece)
                yield piece, True
        padding = -size % tarfile.BLOCKSIZE
        yield bytes(padding), False
        length += len(header) + size + padding
    end = 2 * tarfile.BLOCKSIZE
    # Readers take whole records, and would wait for the rest of one.
    yield bytes(end + -(length + end) % tarfile.RECORDSIZE), False


def contents(archive: tarfile.TarFile, expected: Callable[[str], bool]) -> Iterator[tuple[str, IO[bytes]]]:
    """The files in an archive that a pod made. Raises Failure (65) for anything that was not asked for.

    No path of the archive is believed: `expected` decides by the whole name.
    """
    for member in archive:
        stream = archive.extractfile(member) if member.isreg() else None
        if stream is None or not expected(member.name):
            raise Failure(f"the pod sent {member.name!r}, which was not requested", ExitCode.DATA)
        yield member.name, stream


async def _lines(command: Command) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in command.output():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > LONGEST_LINE:
            raise Failure("the pod sent a line without an end", UNEXPECTED)


async def _answer(kind: type[A], answers: AsyncIterator[bytes], command: Command) -> A:
    async for line in answers:
        return kind.model_validate_json(line)
    _require_done(command)
    raise Failure("the pod's command ended without an answer", UNEXPECTED)


def _require_done(command: Command) -> None:
    code = command.exit_code
    if not code:
        return
    lines = [line for line in command.stderr.splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ") if lines else "no reason was given"
    if code == _KILLED:
        last = f"pod {command.pod} was deleted or evicted, or ran out of memory: {last}"
    if "No module named" in last:
        last = f"{last}: is the pod's image a trainer image of this version of kronos?"
    raise Failure(last, code)
