"""An API server over HTTP whose pods run at once, as processes of this machine: what commands in pods are tested with.

A command in a pod is spoken to by Kubernetes' channel protocol, and finds each claim's directory where the pod has it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

Object = dict[str, Any]
_SOURCES = os.pathsep.join(str(Path(__file__).parents[2] / side) for side in ("operator", "trainer"))


class PodServer:
    """Objects of the namespace `ns`, by path, and the directories of its claims."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[str, Object] = {}
        self.made: list[Object] = []  # pods, whether they are still there or not
        self.commands: list[list[str]] = []
        self.cut_after: int | None = None  # bytes of a command's input after which its connection is cut, once
        self.waiting: Object | None = None  # the state of containers that do not start
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def claim(self, name: str) -> Path:
        """Makes a claim; returns its directory."""
        self.put(f"/api/v1/namespaces/ns/persistentvolumeclaims/{name}", {"metadata": {"name": name}})
        directory = self.folder / name
        directory.mkdir()
        return directory

    def put(self, path: str, body: Object) -> None:
        self.objects[path] = body

    @property
    def pods(self) -> list[str]:
        """Names of the pods that are there."""
        return [path.rpartition("/")[2] for path in self.objects if "/pods/" in path]

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/ns/pods/{pod}/exec", self._exec)
        app.router.add_route("*", "/{path:.*}", self._rest)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _rest(self, request: web.Request) -> web.Response:
        path = request.path
        if request.method == "POST":
            body = await request.json()
            state = {"running": {}} if self.waiting is None else {"waiting": self.waiting}
            statuses = [{"name": body["spec"]["containers"][0]["name"], "state": state}]
            body["status"] = {"phase": "Pending" if self.waiting else "Running", "containerStatuses": statuses}
            body["metadata"]["uid"] = body["metadata"]["name"]
            self.made.append(body)
            self.objects[f"{path}/{body['metadata']['name']}"] = body
            return web.json_response(body, status=201)
        if request.method == "DELETE":
            return web.json_response(self.objects.pop(path, {}))
        if path in self.objects:
            return web.json_response(self.objects[path])
        if path.rpartition("/")[2] in ("persistentvolumeclaims", "kronosmodels", "events"):
            items = [body for key, body in self.objects.items() if key.rpartition("/")[0] == path]
            return web.json_response({"items": items, "metadata": {}})
        status = {"kind": "Status", "reason": "NotFound", "message": f"{path} not found", "code": 404}
        return web.json_response(status, status=404)

    async def _exec(self, request: web.Request) -> web.WebSocketResponse:
        pod = self.objects[request.path.removesuffix("/exec")]
        command = request.query.getall("command")
        self.commands.append(command)
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable if word == "python" else self._at_home(word, pod) for word in command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": _SOURCES},
        )
        assert process.stdout and process.stderr
        feeding = asyncio.create_task(self._feed(request, socket, process))
        try:
            await asyncio.gather(_drain(process.stdout, socket, 1), _drain(process.stderr, socket, 2))
            await socket.send_bytes(b"\3" + json.dumps(_result(await process.wait())).encode())
        except ConnectionError:
            pass  # the client has gone, and the command's input has ended with it
        finally:
            feeding.cancel()
            await process.wait()
        await socket.close()
        return socket

    async def _feed(self, request: web.Request, socket: web.WebSocketResponse, process: Any) -> None:
        fed = 0
        try:
            async for message in socket:
                if message.type is not WSMsgType.BINARY or message.data[0] != 0:
                    continue
                process.stdin.write(message.data[1:])
                await process.stdin.drain()
                fed += len(message.data) - 1
                if self.cut_after is not None and fed > self.cut_after:
                    self.cut_after = None
                    assert request.transport is not None
                    request.transport.abort()
                    return
        except ConnectionError:
            pass  # the command reads no more
        finally:
            process.stdin.close()

    def _at_home(self, word: str, pod: Object) -> str:
        """A word of a command with the directories of this machine."""
        claims = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["spec"]["volumes"]}
        for mount in pod["spec"]["containers"][0]["volumeMounts"]:
            directory = self.folder / (claims[mount["name"]] or pod["metadata"]["name"])
            directory.mkdir(exist_ok=True)
            if word == mount["mountPath"] or word.startswith(f"{mount['mountPath']}/"):
                return str(directory) + word.removeprefix(mount["mountPath"])
        return word


async def _drain(stream: asyncio.StreamReader, socket: web.WebSocketResponse, channel: int) -> None:
    while piece := await stream.read(2**15):
        await socket.send_bytes(bytes([channel]) + piece)


def _result(code: int) -> Object:
    if code == 0:
        return {"status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
