"""The pointers of a model behind a URI, and the runs that they can name, in a directory: for commands on either.

An object store has no locks. current.json is written on the condition that it is still what was read: of a command and
an evaluation that end at once, one fails, and decides again when it is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from kronos_trainer.config import ModelRef, RunPaths, StageName
from kronos_trainer.errors import StorageError
from kronos_trainer.storage import durable
from kronos_trainer.storage.stores import Changed, Object, Store

_SMALL = ("result.json", "run.json", "calibration.json")  # of every run: what says whether it can be published


class PointerCopy:
    """A copy that knows every run; the weights of one come when they are asked for."""

    def __init__(self, uri: str, model: ModelRef, directory: Path) -> None:
        """Reads the store. Raises ConfigError for a URI that is none of a store, InputMissing, StorageError."""
        self._store = Store(uri)
        self._model = model
        self.paths = RunPaths(directory, model, run="")
        self._there = self._store.list(self._name(self.paths.model_dir))
        self._read: Object | None = None
        for pointer in (self.paths.current, self.paths.candidate):
            found = self._store.read(self._name(pointer))
            if found is not None:
                durable.write_bytes(pointer, found[0])
                self._read = found[1] if pointer == self.paths.current else self._read
        self._before = self._content()
        self._download(item for item in self._there if PurePosixPath(item.name).name in _SMALL)

    def fetch(self, run: str) -> None:
        """Puts the weights of a run in place. Raises InputMissing, StorageError."""
        places = [f"{self._name(self.paths.runs / run / stage / 'best')}/" for stage in StageName.with_weights()]
        self._download(item for item in self._there if any(item.name.startswith(place) for place in places))

    def fetch_evaluation(self, run: str) -> None:
        """Puts the evaluation.json of a run in place, if it has one. Raises InputMissing, StorageError."""
        wanted = {
            self._name(RunPaths(self.paths.root, self._model, run).stage(stage).evaluation) for stage in StageName
        }
        self._download(item for item in self._there if item.name in wanted)

    def push(self) -> None:
        """Writes current.json where it belongs, if it has changed. Raises StorageError."""
        if self._content() == self._before:
            return
        try:
            self._store.upload(self.paths.current, self._name(self.paths.current), self._read, lambda: None)
        except Changed as error:
            raise StorageError(f"{error}: another run was published; look again, and repeat the command") from error

    def _download(self, wanted: Iterable[Object]) -> None:
        places = [(item, self.paths.root / item.name) for item in wanted]
        for _, place in places:
            durable.make_directory(place.parent)
        with durable.storing(self.paths.root):
            self._store.download(places, lambda: None)

    def _content(self) -> bytes | None:
        return self.paths.current.read_bytes() if self.paths.current.exists() else None

    def _name(self, path: Path) -> str:
        return path.relative_to(self.paths.root).as_posix()
