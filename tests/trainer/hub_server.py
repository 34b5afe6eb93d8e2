"""A stand-in of the Hugging Face hub's API on this machine, as far as an upload needs it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class HubServer:
    """Takes repositories, large files and commits, in memory. `write` is the token that may write."""

    def __init__(self, write: str) -> None:
        self.repositories: dict[str, dict[str, Any]] = {}  # what each was created with
        self.commits: list[dict[str, bytes]] = []  # the files of each, by path
        self.requests: list[str] = []
        self._large: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                hub.requests.append(f"POST {self.path}")
                if self.headers.get("Authorization") != f"Bearer {write}":
                    self._answer(401, {"error": "Invalid user token."})
                else:
                    self._answer(200, hub._post(self.path, body))

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hub.requests.append(f"PUT {self.path}")
                oid = self.path.rpartition("/")[2]
                if hashlib.sha256(body).hexdigest() == oid:
                    hub._large[oid] = body
                self._answer(200 if oid in hub._large else 400, {})

            def do_GET(self) -> None:
                hub.requests.append(f"GET {self.path}")
                self._answer(404, {"error": "Not found"})

            def _answer(self, status: int, found: object) -> None:
                text = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _post(self, path: str, body: bytes) -> object:
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.repositories[name] = asked
            return {"url": f"{self.address}/{name}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            return {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.address}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return {"transfer": "basic", "objects": objects}
        assert "/commit/" in path, path
        files = {}
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self._large[value["oid"]]
        self.commits.append(files)
        return {
            "commitOid": "c" * 40,
            "commitUrl": f"{self.address}{path.removeprefix('/api/models').rpartition('/')[0]}/{'c' * 40}",
            "hookOutput": "",
        }
