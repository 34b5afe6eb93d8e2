"""Results and bars behind a URI (s3://, gs://, hf://, file://, …): training works on a local copy.

One process of each node fetches before the stage starts; rank 0 pushes after each checkpoint. A local path needs none
of this.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.callbacks import Callback

from kronos_trainer import durable
from kronos_trainer.config import RunConfig, RunPaths, StageName
from kronos_trainer.errors import BadEnvironment, InputMissing, StorageError
from kronos_trainer.lock import refuse_if_late

# Files that say that others are complete: pushed last, in this order, so that nothing half-written is ever read.
_POINTERS = ("checkpoint.json", "result.json", "report.md", "current.json")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "hf": "huggingface_hub"}


def is_uri(path: str) -> bool:
    """Whether this names something behind a protocol."""
    return "://" in path


def fetch_bars(uri: str, cache: Path, beat: Callable[[], None] = lambda: None) -> Path:
    """Local copy of a file or directory of bars, downloaded unless the cache has this version of it.

    `beat` is called while data arrives. Raises InputMissing if there is nothing at the URI, BadEnvironment if the
    protocol's package is not installed, StorageError if the transfer fails.
    """
    filesystem, root = _open(uri)
    with _reading(uri):
        names = [root] if filesystem.isfile(root) else sorted(filesystem.find(root))
        if not names:
            raise FileNotFoundError(f"there is no file at {root}")
        # Versions enter the name of the copy, so that bars that changed are downloaded again.
        versions = [(name, filesystem.ukey(name)) for name in names]
        copy = cache / hashlib.sha256(repr((uri, versions)).encode()).hexdigest()[:16]

        def download(aside: Path) -> None:
            for name in names:
                target = aside / (PurePosixPath(name).name if name == root else PurePosixPath(name).relative_to(root))
                target.parent.mkdir(parents=True, exist_ok=True)
                _fetch(filesystem, uri, name, target, beat)

        if not copy.exists():
            durable.write_directory(copy, download)
    return copy / PurePosixPath(root).name if names == [root] else copy


class Mirror:
    """The model's directory behind `run.output`, and its working copy, `paths`."""

    def __init__(self, run: RunConfig, local: Path) -> None:
        self._run = run
        self._uri = run.output
        self._filesystem, self._root = _open(run.output)
        self.paths: RunPaths = run.paths(local)

    def pull(self) -> None:
        """Brings what earlier attempts, and the run whose tokenizer is reused, left behind."""
        if self._run.reuse_tokenizer is not None:
            reused = RunPaths(self.paths.root, self._run.model, self._run.reuse_tokenizer.run).stage(
                StageName.TOKENIZER
            )
            self._get_all(reused.best)
            self._get_all(reused.result)
        self._get_all(self.paths.run_dir)
        self._get_all(self.paths.current)

    def claim(self) -> None:
        """Records this attempt as the one that writes. Raises StorageError if a higher attempt has been there.

        Called with the local lock held; an object store has no locks, so this fence is all there is between machines.
        """
        refuse_if_late(self._run, self._holder(), self._uri)
        with _writing(self._uri):
            self._put(self.paths.lock)

    def push(self) -> None:
        """Makes the remote run equal to the local one: content first, what names it next, removals last.

        Raises StorageError, also if another attempt has claimed the model meanwhile.
        """
        if self._holder() != json.loads(self.paths.lock.read_text()):
            raise StorageError(
                f"another attempt has taken over {self._uri}; attempt {self._run.attempt} ends without writing"
            )
        local = [path for path in self.paths.run_dir.rglob("*") if path.is_file() and durable.ASIDE not in str(path)]
        if self.paths.current.exists():
            local.append(self.paths.current)
        with _writing(self._uri):
            for path in sorted(local, key=_turn):
                self._put(path)
            kept = {self._remote(path) for path in local}
            for name in self._filesystem.find(self._remote(self.paths.run_dir)):
                if name not in kept:
                    self._filesystem.rm_file(name)

    def _holder(self) -> dict[str, Any]:
        remote = self._remote(self.paths.lock)
        with _reading(self._uri):
            return dict(json.loads(self._filesystem.cat_file(remote))) if self._filesystem.exists(remote) else {}

    def _remote(self, path: Path) -> str:
        return f"{self._root}/{path.relative_to(self.paths.root).as_posix()}"

    def _get_all(self, path: Path) -> None:
        """Downloads the file or directory that belongs at this local path, if there is one."""
        remote = self._remote(path)
        with _reading(self._uri):
            for name in self._filesystem.find(remote):
                target = path if name == remote else path / PurePosixPath(name).relative_to(remote)
                durable.write_file(target, partial(_fetch, self._filesystem, self._uri, name))

    def _put(self, path: Path) -> None:
        remote = self._remote(path)
        never_changes = path.parent.parent.name == "checkpoints"
        if never_changes and self._filesystem.exists(remote) and self._filesystem.size(remote) == path.stat().st_size:
            return
        self._filesystem.makedirs(str(PurePosixPath(remote).parent), exist_ok=True)
        self._filesystem.put_file(str(path), remote)


class _Beating(Callback):  # type: ignore[misc]
    """Tells that a transfer makes headway."""

    def __init__(self, beat: Callable[[], None]) -> None:
        super().__init__()
        self._beat = beat

    def relative_update(self, inc: int = 1) -> None:
        self._beat()


def _turn(path: Path) -> int:
    return _POINTERS.index(path.name) + 1 if path.name in _POINTERS else 0


def _open(uri: str) -> tuple[Any, str]:
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        protocol = uri.split("://")[0]
        package = _PACKAGES.get(protocol, f"the package that gives fsspec {protocol}://")
        raise BadEnvironment(f"{uri}: {error} (pip install {package})") from error
    return filesystem, root.rstrip("/")


def _fetch(filesystem: Any, uri: str, name: str, target: Path, beat: Callable[[], None] = lambda: None) -> None:
    with _reading(uri):
        filesystem.get_file(name, str(target), callback=_Beating(beat))
    beat()


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise InputMissing(f"cannot read {uri}: {error}; check the URI and the credentials") from error
    except Exception as error:  # each protocol's package has errors of its own
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise  # the copy's disk, which durable names
        raise StorageError(f"cannot read {uri}: {error}") from error


@contextmanager
def _writing(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each protocol's package has errors of its own
        raise StorageError(f"cannot write to {uri}: {error}") from error
