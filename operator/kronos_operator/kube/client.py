"""A connection to one API server: read, create, delete, apply. Everything that crosses the network passes here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient

from kronos_operator.kube.clock import ServerClock
from kronos_operator.kube.connecting import Access
from kronos_operator.kube.errors import ClusterError, Conflict, NotFound, Unavailable, from_response
from kronos_operator.kube.kinds import KRONOSMODEL, POD, Kind, Object
from kronos_operator.kube.logs import LogEnd, LogReader
from kronos_operator.kube.owners import controller_of
from kronos_operator.kube.reading import EVERYTHING, Reader, read
from kronos_operator.names import MANAGED_BY

Propagation = Literal["Background", "Foreground", "Orphan"]

_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
_FAREWELL = aiohttp.ClientWSTimeout(ws_close=2)
_PAGE = 100  # objects: a page of pods is a megabyte, and ten times as much when it is parsed
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)
_AGENT = f"{MANAGED_BY}/{version('kronos-operator')}"


class Created(Enum):
    """How a `create` ended without an error."""

    DONE = "created now"
    EXISTS_OURS = "created earlier for the same owner"
    EXISTS_OTHER = "the name is taken, by another owner's object or by one that is being deleted: wait until it is gone"


class Page(NamedTuple):
    """Some objects of a listing, and the resource version of the whole."""

    items: list[Object]
    version: str


class Cluster:
    """An authenticated connection to an API server.

    Every method raises ClusterError: Unavailable if the server cannot be reached or is too busy, Rejected if it
    refuses. Nothing is retried in here, except once with new credentials after a 401.
    """

    def __init__(self, access: Access, api: ApiClient) -> None:
        self._access = access
        self._api = api
        self.clock = ServerClock()
        self.namespace = access.namespace()

    @classmethod
    async def connect(cls, *, kubeconfig: Path | None = None, context: str | None = None) -> Self:
        """Opens the connection that `Access.find` describes. Raises NoCluster; the server itself is not asked yet."""
        access = Access.find(kubeconfig, context)
        return cls(access, ApiClient(await access.configuration()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; requests in progress fail."""
        await self._api.close()

    @property
    def server(self) -> str:
        """Address of the API server."""
        return str(self._api.configuration.host)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None if there is none."""
        try:
            return await self._json("GET", kind.path(namespace, name))
        except NotFound:
            return None

    async def pages(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        selector: str = "",
        fields: str = "",
        reader: Reader = EVERYTHING,
    ) -> AsyncIterator[Page]:
        """What `list` returns, piece by piece, for more objects than should be held at once, as `reader` reads them."""
        query = {"limit": str(_PAGE), "labelSelector": selector, "fieldSelector": fields}
        while True:
            page = await self._json("GET", kind.path(namespace), query=query, read=reader.page)
            metadata = page.get("metadata") or {}
            # Items of a list do not carry their kind; events of a watch do.
            of_kind = {"apiVersion": kind.api_version, "kind": kind.kind}
            items = [of_kind | item for item in page.get("items") or []]
            yield Page(items, str(metadata.get("resourceVersion", "")))
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def list(
        self, kind: Kind, namespace: str | None = None, *, selector: str = "", fields: str = ""
    ) -> tuple[list[Object], str]:
        """All objects in a namespace, or in the cluster, and the resource version from which a watch goes on.

        `selector` is a label selector, `fields` a field selector. Raises Expired if the listing took so long that its
        remaining pages are gone, and NotFound if the kind itself is not installed.
        """
        items: list[Object] = []
        version = ""
        async for page in self.pages(kind, namespace, selector=selector, fields=fields):
            items += page.items
            version = page.version
        return items, version

    async def create(self, kind: Kind, body: Object) -> Created:
        """Creates the object unless it is there, so that a repeated call does no harm.

        Raises Rejected (`final` if for good), NotFound if namespace or kind are not there, and Conflict if
        the server could not decide because of other writers.
        """
        metadata = body["metadata"]
        try:
            await self._json("POST", kind.path(metadata.get("namespace")), body=body)
        except Conflict as conflict:
            if conflict.reason != "AlreadyExists":
                raise
        else:
            return Created.DONE
        there = await self.get(kind, metadata.get("namespace"), metadata["name"])
        ours = {} if there is None or there["metadata"].get("deletionTimestamp") else controller_of(there)
        same = ours and ours["uid"] == controller_of(body).get("uid")
        return Created.EXISTS_OURS if same else Created.EXISTS_OTHER

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        propagation: Propagation = "Background",
    ) -> bool:
        """Asks for deletion; False if there was nothing to delete, or only a namesake with another uid."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._json("DELETE", kind.path(namespace, name), body=body)
        except NotFound:
            return False
        except Conflict:
            if uid is None:
                raise
            return False
        return True

    async def delete_exactly(self, kind: Kind, body: Object, propagation: Propagation = "Background") -> bool:
        """As `delete`, of the very object that was read, and of no namesake."""
        metadata = body["metadata"]
        return await self.delete(
            kind, metadata["namespace"], metadata["name"], uid=metadata["uid"], propagation=propagation
        )

    async def delete_collection(
        self, kind: Kind, namespace: str, *, selector: str, propagation: Propagation = "Background"
    ) -> None:
        """Asks for the deletion of all objects of a namespace that a label selector names, in one request.

        Raises Rejected where the right to deletecollection is missing, whatever the right to delete.
        """
        if not selector:
            raise ValueError("without a selector, everything would be deleted")
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        await self._json("DELETE", kind.path(namespace), query={"labelSelector": selector}, body=body)

    async def apply_status(self, body: Object) -> Object:
        """Makes `body["status"]` the operator's part of a KronosModel's status, by server-side apply.

        The metadata carry the resourceVersion that the status was computed from. Raises Conflict if the object has
        changed since, NotFound if it is gone. Fields that earlier calls set and this one leaves out are removed.
        """
        metadata = {key: body["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        path = KRONOSMODEL.path(metadata["namespace"], metadata["name"], "status")
        patch = {"apiVersion": KRONOSMODEL.api_version, "kind": KRONOSMODEL.kind, "metadata": metadata}
        # Another writer's hold on a field, left by a restored backup for instance, must not stop the operator's word.
        query = {"fieldManager": MANAGED_BY, "force": "true"}
        return await self._json("PATCH", path, query=query, body=patch | {"status": body["status"]}, content=_APPLY)

    async def apply(
        self, kind: Kind, body: Object, *, manager: str, force: bool = False, dry_run: bool = False
    ) -> Object:
        """Server-side apply of a whole object, as `kubectl apply --server-side`; returns it as the server has it.

        Raises Conflict naming the fields that another manager holds, unless forced.
        """
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        query |= {"force": "true"} if force else {}
        query |= {"dryRun": "All"} if dry_run else {}
        path = kind.path(body["metadata"].get("namespace"), body["metadata"]["name"])
        return await self._json("PATCH", path, query=query, body=body, content=_APPLY)

    async def patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any], *, manager: str
    ) -> Object:
        """Changes fields by a JSON merge patch: null removes one. Raises NotFound if the object is gone."""
        query = {"fieldManager": manager}
        return await self._json("PATCH", kind.path(namespace, name), query=query, body=dict(patch), content=_MERGE)

    async def pod_log(
        self, namespace: str, pod: str, *, container: str, since: str = "", tail_lines: int, timeout: float = 5
    ) -> LogEnd | None:
        """What a container has logged since `since`, but no more than the last lines; None where it cannot be read.

        A log is never worth an error. The server is not asked for a limit in bytes: it would cut off the newest.
        """
        query = {"container": container, "timestamps": "true", "sinceTime": since, "tailLines": str(tail_lines)}
        end = LogReader(since)
        try:
            limit = aiohttp.ClientTimeout(total=timeout)
            async with self.stream(POD.path(namespace, pod, "log"), query, timeout=limit) as response:
                async for chunk in response.content.iter_any():
                    end.feed(chunk)
        except (*UNREACHABLE, ClusterError):
            # What was read in time is the older part; the next read goes on from there.
            return end.read(whole=False) if end.newest != since else None
        return end.read(whole=True)

    async def follow_log(
        self, namespace: str, pod: str, *, container: str, tail_lines: int | None = None, follow: bool = True
    ) -> AsyncIterator[str]:
        """The lines of a container's log, without their ends, until the container ends or the caller has enough."""
        query = {"container": container, "follow": "true" if follow else ""}
        query |= {"tailLines": str(tail_lines)} if tail_lines is not None else {}
        forever = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self.stream(POD.path(namespace, pod, "log"), query, timeout=forever) as response:
            try:
                async for line in response.content:
                    yield line.decode(errors="replace").rstrip("\r\n")
            except UNREACHABLE as error:
                raise Unavailable(f"the log of {pod} broke off: {error or type(error).__name__}") from error

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose body the caller reads as it comes: logs and watches."""
        response = await self._request("GET", path, query=query, timeout=timeout)
        try:
            yield response
        finally:
            response.close()

    @asynccontextmanager
    async def websocket(
        self, path: str, query: Sequence[tuple[str, str]], *, protocols: Sequence[str]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A connection in both directions, which speaks the first of these protocols that the server knows."""
        socket = await self._connect(path, f"{path}?{urlencode(query)}", protocols)
        try:
            yield socket
        finally:
            await socket.close()

    async def _connect(self, path: str, target: str, protocols: Sequence[str]) -> aiohttp.ClientWebSocketResponse:
        rest = self._api.rest_client
        if rest.pool_manager is None:  # the library opens it with the first request
            rest.pool_manager = rest._create_pool_manager()
        for renewed in (False, True):
            headers = {"User-Agent": _AGENT}
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
            try:
                socket: aiohttp.ClientWebSocketResponse = await rest.pool_manager.ws_connect(
                    self.server + target,
                    protocols=protocols,
                    headers=headers,
                    proxy=rest.proxy,
                    proxy_headers=rest.proxy_headers,
                    server_hostname=self._api.configuration.tls_server_name,
                    timeout=_FAREWELL,
                    max_msg_size=0,
                )
                return socket
            except aiohttp.WSServerHandshakeError as error:
                refusal = error
            except UNREACHABLE as error:
                raise Unavailable(f"{self.server} cannot be reached: {error or type(error).__name__}") from error
            if refusal.status != 401 or renewed:
                break
            await self._renew()
        # What the server answered in words does not outlive the handshake.
        hint = ": a role needs create and get on it" if refusal.status == 403 else ""
        status = {"message": f"{path} was refused with HTTP status {refusal.status}{hint}", "reason": refusal.message}
        raise from_response(refusal.status, json.dumps(status), refusal.headers or {})

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
        read: Callable[[bytes], Object] = read,
    ) -> Object:
        response = await self._request(method, path, query=query or {}, body=body, content=content)
        try:
            answer = read(await response.read())
        except (*UNREACHABLE, ValueError) as error:
            raise Unavailable(f"{self.server} broke off its answer: {error or type(error).__name__}") from error
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: Object | None = None,
        content: str = "application/json",
        timeout: aiohttp.ClientTimeout = _TIMEOUT,
    ) -> aiohttp.ClientResponse:
        url = f"{path}?{urlencode({key: value for key, value in query.items() if value})}".rstrip("?")
        for renewed in (False, True):
            # Nothing compressed: a listing costs both sides more time to pack and unpack than to send.
            headers = {"Accept": "application/json, */*", "Accept-Encoding": "identity"}
            headers |= {"Content-Type": content, "User-Agent": _AGENT}
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            try:
                answer = await self._api.call_api(
                    method, self.server + url, headers, body=body, _request_timeout=timeout
                )
                self.clock.observe(answer.headers.get("Date"))
                if answer.status < 400:
                    response: aiohttp.ClientResponse = answer.response
                    return response
                text = (await answer.read()).decode(errors="replace")
            except UNREACHABLE as error:
                raise Unavailable(f"{self.server} cannot be reached: {error or type(error).__name__}") from error
            if answer.status != 401 or renewed:
                break
            # Tokens of cloud providers' login helpers live for minutes; a command may follow a log for hours.
            await self._renew()
        raise from_response(answer.status, text, answer.headers)

    async def _renew(self) -> None:
        fresh = await self._access.configuration()
        self._api.configuration.api_key = fresh.api_key
