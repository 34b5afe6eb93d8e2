"""Objects behind a URI: s3://, gs:// and az:// through obstore, and hf:// for reading alone.

obstore is one wheel without dependencies that knows all three kinds of store, writes on a condition, and reports what
went wrong. (s3fs cannot stand beside the Kubernetes client: they need different releases of python-dateutil.)
Nothing here caches a listing: every answer is the current state of the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from kronos_trainer.errors import ConfigError, InputMissing, StorageError, TrainerError

Beat = Callable[[], None]

PART = 8 * 2**20  # bytes read or written by one request
PARALLEL = 16  # downloads at a time: small files wait for the store, not for the network
# A store that does not answer is given up after a minute: whoever started this process starts it again.
RETRY = {"retry_timeout": timedelta(seconds=60)}
# An endpoint with http:// is deliberate: only AWS_ENDPOINT_URL sets one.
_CLIENT = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "5m", "allow_http": True}

_KINDS = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_SERVICE_ACCOUNT_KEY",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "hf": "HF_TOKEN",
}
# Where credentials are looked for when no variable holds any: the metadata services of clouds and of their containers.
_METADATA = re.compile(r"/latest/(api/token|meta-data)|/computeMetadata/|/metadata/identity|//169\.254\.")


class Changed(StorageError):
    """An object has changed since it was last read: another process has written or removed it."""


@dataclass(frozen=True)
class Object:
    """An object as it was when it was read. `version` is equal only if the content is."""

    name: str  # relative to the URI; empty if the URI names the object itself
    size: int  # bytes
    version: str
    condition: Any = None  # what the store wants to hear when the object must still be this one


class Reader(Protocol):
    """What bars need of a store."""

    uri: str

    def find(self) -> list[Object]:
        """The object that the URI names, or all below it, sorted by name.

        Raises InputMissing, naming the URI and the fix, if there is none or it may not be read; StorageError if the
        store does not answer.
        """

    def download(self, wanted: Sequence[tuple[Object, Path]], beat: Beat) -> None:
        """Writes objects, as they were listed, to files in existing directories. `beat` is called as bytes arrive.

        Raises Changed if one has changed, and what `find` raises.
        """


def is_uri(path: str) -> bool:
    """Whether this names something behind a protocol."""
    return "://" in path


def open_reader(uri: str) -> Reader:
    """The store with what this URI names. Raises ConfigError."""
    return _Hub(uri) if _protocol(uri) == "hf" else Store(uri)


class Store:
    """What lies below a URI of s3, gs or az. Names are relative to it."""

    def __init__(self, uri: str) -> None:
        """Sends nothing yet. Raises ConfigError for a URI that names no such store, InputMissing for unusable keys."""
        self.uri = uri
        protocol = _protocol(uri)
        if protocol not in _KINDS:
            raise ConfigError(f"{uri}: results can be stored in {_listed(list(_KINDS))}; the hub is read-only")
        bucket, _, root = uri.split("://", 1)[1].partition("/")
        self._root = root.strip("/")
        try:
            self._store = _KINDS[protocol](bucket, client_options=_CLIENT, retry_config=RETRY)
        except Exception as error:  # it has read the variables; its words may repeat them
            raise InputMissing(f"{uri}: one of {_CREDENTIALS[protocol]} is missing or malformed; fix it") from error

    def find(self) -> list[Object]:
        with _talking(self.uri, "read"):
            if self._root:
                try:
                    return [_seen(self._store.head(self._root), "")]
                except FileNotFoundError:
                    pass  # then it is a directory
        found = self.list("")
        if not found:
            raise InputMissing(f"{self.uri}: nothing found; check the URI")
        return found

    def list(self, name: str) -> list[Object]:
        """All objects below a name, sorted; none if there are none. Raises as `find` does."""
        prefix = self._full(name)
        with _talking(self.uri, "list"):
            metas = [meta for chunk in self._store.list(prefix or None) for meta in chunk]
        skipped = len(self._root) + 1 if self._root else 0
        return sorted((_seen(meta, meta["path"][skipped:]) for meta in metas), key=lambda item: item.name)

    def read(self, name: str) -> tuple[bytes, Object] | None:
        """A small object and its version, or None if it does not exist. Raises as `find` does."""
        with _talking(self.uri, "read"):
            try:
                got = self._store.get(self._full(name))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None
            return got.bytes().to_bytes(), _seen(got.meta, name)

    def download(self, wanted: Sequence[tuple[Object, Path]], beat: Beat) -> None:
        _in_parallel(self._download, wanted, beat)

    def upload(self, path: Path, name: str, last: Object | None, beat: Beat) -> Object:
        """Writes a file as an object, whole or not at all, and returns what it is now.

        `last` is the object as this process last read it, None if it was absent. Raises Changed if another process has
        written it since; not for files above PART, whose parts cannot be conditional. `beat` is called as bytes go.
        """
        size = path.stat().st_size
        try:
            with _talking(self.uri, "write"):
                if size > PART:
                    put = self._store.put(self._full(name), _parts(path, beat), chunk_size=PART, max_concurrency=4)
                else:
                    mode = "create" if last is None else last.condition or "overwrite"
                    put = self._store.put(self._full(name), path.read_bytes(), mode=mode, use_multipart=False)
        except Changed:
            raise
        except StorageError:
            # A store that refuses before it has read all hangs up, and its reason may be lost: a request without
            # content hears it.
            with suppress(StorageError):
                self.list(name)
            raise
        beat()
        return Object(name, size, f"{put['e_tag']} {put['version']} {size}", _condition(put))

    def remove(self, name: str) -> None:
        """Removes an object if it exists."""
        with _talking(self.uri, "delete"):
            self._store.delete(self._full(name))

    def _download(self, wanted: tuple[Object, Path], moved: Beat) -> None:
        item, path = wanted
        name = self._full(item.name)
        same = {"if_match": item.condition["e_tag"]} if item.condition else {}
        with path.open("wb") as file:
            for start in range(0, item.size, PART):
                part = {"range": (start, min(start + PART, item.size))} if item.size > PART else {}
                with _talking(self.uri, "read"):
                    try:
                        content = self._store.get(name, options=same | part).bytes()
                    except FileNotFoundError as error:
                        raise Changed(f"{self.uri}: {item.name or 'it'} was removed while it was read") from error
                file.write(content)
                moved()

    def _full(self, name: str) -> str:
        return "/".join(part for part in (self._root, name) if part)


class _Hub:
    """What lies below a URI of the Hugging Face hub."""

    def __init__(self, uri: str) -> None:
        from huggingface_hub import HfFileSystem

        self.uri = uri
        self._root = uri.removeprefix("hf://").strip("/")
        self._hub = HfFileSystem(use_listings_cache=False, skip_instance_cache=True)

    def find(self) -> list[Object]:
        with _talking(self.uri, "read"):
            found: Any = self._hub.find(self._root, detail=True)
        objects = []
        for path, info in found.items():
            content = (info.get("lfs") or {}).get("sha256") or info.get("blob_id") or info.get("xet_hash")
            objects.append(Object(path[len(self._root) + 1 :], info["size"], str(content)))
        if not objects:
            raise InputMissing(f"{self.uri}: nothing found; check the URI, and HF_TOKEN if it is private")
        return sorted(objects, key=lambda item: item.name)

    def download(self, wanted: Sequence[tuple[Object, Path]], beat: Beat) -> None:
        def fetch(item: tuple[Object, Path], moved: Beat) -> None:
            name = "/".join(part for part in (self._root, item[0].name) if part)
            with _talking(self.uri, "read"):
                self._hub.get_file(name, str(item[1]))
            moved()

        _in_parallel(fetch, wanted, beat)


def _protocol(uri: str) -> str:
    protocol, _, rest = uri.partition("://")
    if protocol not in _CREDENTIALS or not rest.strip("/"):
        raise ConfigError(f"{uri}: an unsupported URI; use {_listed(list(_CREDENTIALS))} and a name")
    if "@" in rest.split("/")[0] or "?" in rest:
        # Without the URI: what stands before the @, or behind the ?, may be a secret.
        raise ConfigError(f"a {protocol}:// URI must not contain keys or a query; set {_CREDENTIALS[protocol]} instead")
    return protocol


def _in_parallel(work: Callable[[Any, Beat], None], items: Sequence[Any], beat: Beat) -> None:
    """Does the work on every item, and calls `beat` in this thread while it makes headway."""
    headway: list[None] = []  # one entry a part; appending is safe from any thread
    pool = ThreadPoolExecutor(PARALLEL)
    try:
        waiting = {pool.submit(work, item, lambda: headway.append(None)) for item in items}
        seen = 0
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            if len(headway) > seen:
                seen = len(headway)
                beat()
    finally:
        pool.shutdown(cancel_futures=True)


def _parts(path: Path, beat: Beat) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(PART):
            yield part
            beat()


def _seen(meta: Any, name: str) -> Object:
    # A store that gives no tag is taken at its word about time and size.
    version = f"{meta['e_tag'] or meta['last_modified']} {meta['version']} {meta['size']}"
    return Object(name, meta["size"], version, _condition(meta))


def _condition(meta: Any) -> Any:
    return {key: meta[key] for key in ("e_tag", "version") if meta[key]} if meta["e_tag"] else None


def _listed(protocols: list[str]) -> str:
    named = [f"{protocol}://" for protocol in protocols]
    return f"{', '.join(named[:-1])} or {named[-1]}"


@contextmanager
def _talking(uri: str, action: str) -> Iterator[None]:
    """Turns what goes wrong between here and the store into an error that a user can act on."""
    try:
        yield
    except TrainerError:
        raise
    except (AlreadyExistsError, PreconditionError) as error:
        raise Changed(f"{uri}: another process has written an object in the meantime") from error
    except Exception as error:  # the packages under this have errors of their own
        if isinstance(error, OSError) and error.errno is not None:
            raise  # this machine's disk, which durable names
        raise _meaning(error, uri, action) from error


def _meaning(error: Exception, uri: str, action: str) -> TrainerError:
    protocol = uri.split("://")[0]
    text = str(error).split("\n\nDebug source")[0]
    status = next(iter(re.findall(r"status code: (\d{3})", text)), "")
    said = " ".join(re.findall(r"<(?:Code|Message)>(.*?)</", text)) or (
        f"HTTP {status}" if status else _first_line(text)
    )
    keys = _CREDENTIALS[protocol]
    if _METADATA.search(text):
        return InputMissing(
            f"{uri}: no credentials: neither a role nor {keys}; set them from a Secret with podTemplate.env, or use a "
            "service account with a role"
        )
    if status in ("401", "403") or "privileges" in text:
        return InputMissing(
            f"{uri}: permission denied to {action}: {said}; check {keys} and their permission to {action} there"
        )
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return InputMissing(f"{uri}: no such bucket: {said}; create it, or correct the URI or the endpoint")
    if "incorrectly configured region" in text or "PermanentRedirect" in text:
        return InputMissing(f"{uri}: the bucket is in another region; set AWS_REGION to it")
    if isinstance(error, FileNotFoundError):
        return InputMissing(f"{uri}: not found: {said}; check the URI")
    return StorageError(f"{uri}: cannot {action}: {said}")


def _first_line(text: str) -> str:
    """The first line of a message, without the query of a URL, which holds the signature of some stores."""
    line = (text.strip().splitlines() or ["no reason given"])[0]
    return re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", line)[:500]
