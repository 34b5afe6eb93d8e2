"""A real S3 server on a directory, versitygw, and a proxy before it that stops at a chosen request."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).parents[2]
ACCESS_KEY = "kronos-access-key"
SECRET_KEY = "kronos-s3cret-key"
READY_SECONDS = 30


def binary() -> Path:
    """The server's program, built from its Go module if this version is not there yet (two minutes of one core)."""
    subprocess.run([REPOSITORY / "hack" / "cluster" / "binaries", "versitygw"], check=True)
    cache = os.environ.get("KRONOS_CACHE", "~/.cache/kronos-operator")
    return Path(cache).expanduser() / "bin" / "versitygw"


class S3Server:
    """Serves the buckets that are directories of `root`. A bucket is made, lost and found again as one."""

    def __init__(self, root: Path, *, read_only: bool = False, address: str = "127.0.0.1") -> None:
        self.root = root
        self._address = address
        self._read_only = read_only
        with socket.socket() as probe:
            probe.bind((address, 0))
            self.port = probe.getsockname()[1]

    def __enter__(self) -> Self:
        users = self.root.with_name(f"{self.root.name}-users")
        users.mkdir(exist_ok=True)
        command = [str(binary()), "--quiet", "--port", f"{self._address}:{self.port}"]
        command += ["--iam-dir", str(users)]
        command += ["--readonly"] if self._read_only else []
        keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        self._process = subprocess.Popen([*command, "posix", str(self.root)], env=os.environ | keys)
        end = time.monotonic() + READY_SECONDS
        while not _answers(self._address, self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                self._process.kill()
                raise RuntimeError(f"versitygw does not listen; it ended with {self._process.poll()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # when asked to end, it waits for its clients
        self._process.wait()

    def environment(self, port: int | None = None, secret: str = SECRET_KEY) -> dict[str, str]:
        """The variables by which a client finds it, or finds what stands before it at `port`."""
        return {
            "AWS_ENDPOINT_URL": f"http://{self._address}:{port or self.port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": secret,
        }


class Proxy:
    """Passes bytes on to a server until a request head matches `pattern` for the `nth` time.

    Of that request only the first bytes pass; then `reached` is set. The connection is held until the client goes; or
    `meanwhile` is called and the rest follows; or, with `cut`, it ends there, as it does at every later match.
    """

    def __init__(
        self, port: int, pattern: str, *, nth: int = 1, meanwhile: Callable[[], None] | None = None, cut: bool = False
    ) -> None:
        self._server, self._pattern, self._left = port, re.compile(pattern.encode()), nth
        self._meanwhile, self._cut = meanwhile, cut
        self._lock = threading.Lock()
        self.reached = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._server))
        threading.Thread(target=_pump, args=(server, client), daemon=True).start()
        with client, server:
            try:
                while chunk := client.recv(4096):
                    stop = self._matches(chunk)
                    # A short request is one chunk: without its end it is not one that the server could carry out.
                    server.sendall(chunk[:-40] if stop and self._meanwhile is None else chunk)
                    if stop and not self._hold(client):
                        return
            except OSError:
                return

    def _matches(self, chunk: bytes) -> bool:
        if not self._pattern.search(chunk):
            return False
        with self._lock:
            self._left -= 1
            return self._left == 0 or (self._left < 0 and self._cut)

    def _hold(self, client: socket.socket) -> bool:
        """Whether the connection goes on."""
        if self._meanwhile is not None:
            self._meanwhile()
        self.reached.set()
        if not self._cut and self._meanwhile is None:
            while client.recv(65536):  # what the client sends goes nowhere, until it is gone
                pass
        return self._meanwhile is not None and not self._cut


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
    except OSError:
        pass


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
        return True
    except OSError:
        return False
