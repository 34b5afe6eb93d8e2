"""A Chromium without a window, driven over its DevTools protocol: what a page looks like, says and asks for."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--no-default-browser-check", "--remote-allow-origins=*", "--remote-debugging-port=0"),
)
SECONDS = 120.0


class Page:
    """The one page of a browser, and all that it has said and asked for since it was opened."""

    def __init__(self, address: str) -> None:
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._socket = websocket.create_connection(address, timeout=SECONDS)
        self._numbers = itertools.count(1)
        self._loaded = False
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            found = json.loads(self._socket.recv())
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                result: dict[str, Any] = found["result"]
                return result
            self._hear(found)

    def open(self, file: Path, *, width: int, dark: bool = False, height: int = 900) -> None:
        """Opens a file at a width, and waits until it has been drawn."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media="", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._loaded = False
        self.call("Page.navigate", url=file.resolve().as_uri())
        while not self._loaded:
            self._hear(json.loads(self._socket.recv()))

    def ask(self, expression: str) -> Any:
        """The value of an expression, by the debugger: the page itself runs nothing."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self, file: Path, *, most: int = 20000) -> None:
        """A PNG of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], most), "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        file.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def close(self) -> None:
        self._socket.close()

    def _hear(self, event: dict[str, Any]) -> None:
        name, said = event.get("method"), event.get("params", {})
        if name == "Page.loadEventFired":
            self._loaded = True
        elif name == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif name == "Runtime.consoleAPICalled":
            self.messages.append(str(said["args"]))
        elif name == "Runtime.exceptionThrown":
            self.messages.append(str(said["exceptionDetails"]))
        elif name == "Log.entryAdded":
            self.messages.append(said["entry"]["text"])


@contextmanager
def browser() -> Iterator[Page]:
    """A new browser with a profile of its own, which ends with the block."""
    program = shutil.which("chromium")
    assert program is not None, "chromium is not installed: apt-get install chromium"
    with tempfile.TemporaryDirectory(prefix="kronos-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            page = Page(_address(Path(profile), process))
            yield page
            page.close()
        finally:
            process.terminate()
            process.wait(30)


def _address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the page listens, once the browser has written its port."""
    import urllib.request

    file, end = profile / "DevToolsActivePort", time.monotonic() + SECONDS
    while not (file.exists() and len(file.read_text().splitlines()) == 2):
        assert process.poll() is None and time.monotonic() < end, "chromium has not started"
        time.sleep(0.05)
    port = file.read_text().splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=SECONDS) as answer:
        pages = [one for one in json.load(answer) if one["type"] == "page"]
    address: str = pages[0]["webSocketDebuggerUrl"]
    return address
