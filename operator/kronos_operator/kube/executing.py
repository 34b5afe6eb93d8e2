"""A command that runs in a container of a pod, with its streams: Kubernetes' channel protocol over a WebSocket.

Version 5 of the protocol, or 4, in which a client cannot end the command's stdin: a command that is started here has to
know by itself where its input ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from kronos_operator.kube.client import UNREACHABLE, Cluster
from kronos_operator.kube.errors import Unavailable, from_response
from kronos_operator.kube.kinds import POD

_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _RESULT = 0, 1, 2, 3  # the first byte of a message
_PIECE = 64 * 2**10  # bytes of a message: the servers on the way copy it whole
_PING_SECONDS = 20  # load balancers cut connections that are silent for a minute
_STDERR_BYTES = 64 * 2**10  # of its end, kept


class Command:
    """The command while it runs. Read its output in one task at most; input may be written at the same time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, pod: str) -> None:
        self._socket = socket
        self.pod = pod
        self._stderr = bytearray()
        self.exit_code: int | None = None  # None while it runs

    @property
    def stderr(self) -> str:
        """The end of what it has written to stderr so far."""
        return self._stderr.decode(errors="replace")

    async def write(self, data: bytes) -> None:
        """Hands over input, and waits while the connection takes no more. Raises Unavailable if it broke off."""
        try:
            for start in range(0, len(data), _PIECE):
                await self._socket.send_bytes(bytes([_STDIN]) + data[start : start + _PIECE])
        except UNREACHABLE as error:
            raise self._broken(str(error)) from error

    async def output(self) -> AsyncIterator[bytes]:
        """What the command writes to stdout, piece by piece; afterwards `exit_code` is known.

        Raises Unavailable if the connection breaks off, and another ClusterError if the command could not be started.
        """
        try:
            async for message in self._socket:
                data = message.data
                if not isinstance(data, bytes) or not data:
                    continue
                if data[0] == _STDOUT:
                    yield data[1:]
                elif data[0] == _STDERR:
                    self._stderr = (self._stderr + data[1:])[-_STDERR_BYTES:]
                elif data[0] == _RESULT:
                    self.exit_code = _exit_code(data[1:])
                    return
        except UNREACHABLE as error:
            raise self._broken(str(error)) from error
        raise self._broken(f"closed with code {self._socket.close_code}")

    def _broken(self, why: str) -> Unavailable:
        return Unavailable(f"the connection to pod {self.pod} broke off: {why or 'no reason was given'}")


@asynccontextmanager
async def execute(
    cluster: Cluster, namespace: str, pod: str, command: Sequence[str], *, container: str, stdin: bool
) -> AsyncIterator[Command]:
    """Runs a command in a pod. Raises ClusterError where that is refused or the pod cannot be reached.

    Leaving early breaks off the connection, and what the command reads and writes ends with it.
    """
    query = [("container", container), ("stdout", "true"), ("stderr", "true"), ("stdin", str(stdin).lower())]
    query += [("command", word) for word in command]
    async with cluster.websocket(POD.path(namespace, pod, "exec"), query, protocols=_PROTOCOLS) as socket:
        pings = asyncio.create_task(_ping(socket))
        try:
            yield Command(socket, pod)
        finally:
            pings.cancel()


async def _ping(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Keeps the connection from looking idle. No answer is waited for: behind a slow command it may take minutes."""
    try:
        while True:
            await asyncio.sleep(_PING_SECONDS)
            await socket.ping()
    except UNREACHABLE:
        return  # whoever reads or writes learns of it


def _exit_code(text: bytes) -> int:
    """What the result of a command means. Raises ClusterError if there was no command to have one."""
    result = json.loads(text)
    if result.get("status") == "Success":
        return 0
    if result.get("reason") == "NonZeroExitCode":
        causes = (result.get("details") or {}).get("causes") or []
        return next((int(one["message"]) for one in causes if one.get("reason") == "ExitCode"), 1)
    raise from_response(int(result.get("code") or 500), text.decode(errors="replace"), {})
