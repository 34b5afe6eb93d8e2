"""Training state on disk, the only module that touches checkpoint files. Rank 0 saves; every rank restores.

`checkpoint.json` names the directories that count, with a digest of each, and is replaced in one step; other
directories do not count, whatever their state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from kronos_trainer.config import StagePaths
from kronos_trainer.errors import ConfigError, InputMissing
from kronos_trainer.model.tensors import write_tensors
from kronos_trainer.storage import durable

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
OPTIMIZER_TREE = "optimizer.json"
META = "meta.json"


@dataclass(frozen=True, kw_only=True)
class Meta:
    """Where training stood: everything besides the tensors that a resumed stage needs."""

    step: int
    epoch: int
    stage_hash: str
    world_size: int
    best_step: int | None
    best_loss: float | None
    initial_loss: float | None
    validations_since_best: int
    seconds: float
    best_crps: float | None = None
    initial_crps: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Best:
    """The best weights and where training stood with them."""

    weights: Mapping[str, Tensor]
    meta: Meta


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that is named but cannot be used."""

    directory: Path
    step: int
    reason: str

    def __str__(self) -> str:
        return f"{self.directory}: {self.reason}"


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back, on the CPU. `skipped` is a newer one, if that was damaged."""

    meta: Meta
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    skipped: Skipped | None = None


@dataclass(frozen=True)
class _Entry:
    directory: str
    step: int
    sha256: str


# "previousBest" is what "best" was when "previous" was saved. It is needed because falling back to "previous" must
# not lose the best weights of that moment, or adopt those of a future that is to be trained again.
_Pointer = dict[str, _Entry]


class Checkpoints:
    """The checkpoints of one stage."""

    def __init__(self, paths: StagePaths) -> None:
        self._paths = paths
        self._corrupt: set[str] = set()

    def save(
        self,
        *,
        weights: Mapping[str, Tensor],
        optimizer: Mapping[str, Any] | None,
        meta: Meta,
        best: Best | None = None,
    ) -> None:
        """Makes this state the latest, and `best` the best if it is not None. Both count at once.

        Returns once they would survive a power cut. Raises StorageError, leaving the checkpoints as they were.
        """
        before = self._valid(self._pointer())
        durable.make_directory(self._paths.checkpoints)
        self._prune()
        pointer = {"latest": self._written(weights, optimizer, meta)}
        if "latest" in before:
            pointer["previous"] = before["latest"]
        if "best" in before:
            pointer["previousBest"] = pointer["best"] = before["best"]
        if best is not None:
            same = best.meta.step == meta.step
            pointer["best"] = pointer["latest"] if same else self._written(best.weights, None, best.meta)
        durable.write_json(self._paths.pointer, {name: asdict(entry) for name, entry in pointer.items()})
        self._prune()

    def _written(self, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any] | None, meta: Meta) -> _Entry:
        """A directory of this state, which does not count yet."""
        directory = self._paths.checkpoints / self._free_name(meta.step)
        with ThreadPoolExecutor() as hashing:
            sums: dict[str, Future[str]] = {}

            def fill(aside: Path) -> None:
                """Each file is hashed while the next is written."""
                for name in _write(aside, weights, optimizer, meta):
                    sums[name] = hashing.submit(_sha256, aside / name)
                for hashed in sums.values():
                    hashed.result()

            durable.write_directory(directory, fill)
        return _Entry(directory.name, meta.step, _joint({name: hashed.result() for name, hashed in sums.items()}))

    def restore(self, *, stage_hash: str) -> Restored | None:
        """The newest checkpoint whose files are intact, or None if none was ever saved.

        Raises InputMissing if there are checkpoints but none is intact, ConfigError if they belong to another config.
        """
        pointer = self._pointer()
        skipped: list[Skipped] = []
        for name in ("latest", "previous"):
            if name not in pointer:
                continue
            directory = self._paths.checkpoints / pointer[name].directory
            problem = _problem(directory, pointer[name])
            if problem is None:
                return self._read(directory, stage_hash, skipped[0] if skipped else None)
            self._corrupt.add(directory.name)
            skipped.append(Skipped(directory, pointer[name].step, problem))
        if skipped:
            raise InputMissing(
                f"no intact checkpoint: {'; '.join(map(str, skipped))}. Restore the files, or remove "
                f"{self._paths.directory} to train this stage from the start"
            )
        return None

    def best_weights(self) -> tuple[dict[str, Tensor], Meta]:
        """The weights of the best checkpoint and its meta. Raises InputMissing if there is none or it is not intact."""
        entry = self._valid(self._pointer()).get("best")
        if entry is None:
            raise InputMissing(f"{self._paths.pointer} names no best checkpoint; the stage has not been validated yet")
        directory = self._paths.checkpoints / entry.directory
        problem = _problem(directory, entry)
        if problem:
            raise InputMissing(f"the best checkpoint is not intact: {directory}: {problem}")
        return load_file(directory / WEIGHTS), _read_meta(directory)

    def _read(self, directory: Path, stage_hash: str, skipped: Skipped | None) -> Restored:
        meta = _read_meta(directory)
        if meta.stage_hash != stage_hash:
            raise ConfigError(
                f"{directory} was trained with another config: its stage hash is {meta.stage_hash}, this run's is "
                f"{stage_hash}; use another run id or remove {self._paths.directory}"
            )
        optimizer = {}
        if (directory / OPTIMIZER_TREE).exists():
            tree = json.loads((directory / OPTIMIZER_TREE).read_text())
            optimizer = _join(tree, load_file(directory / OPTIMIZER))
        return Restored(meta, load_file(directory / WEIGHTS), optimizer, skipped)

    def _pointer(self) -> _Pointer:
        try:
            text = self._paths.pointer.read_text()
        except FileNotFoundError:
            return {}
        try:
            return {name: _Entry(**entry) for name, entry in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError):
            raise InputMissing(
                f"{self._paths.pointer} is not readable as JSON; restore it, or remove {self._paths.directory} "
                "to train this stage from the start"
            ) from None

    def _valid(self, pointer: _Pointer) -> _Pointer:
        """The pointer as it was before a latest checkpoint that `restore` found corrupt."""
        if "latest" not in pointer or pointer["latest"].directory not in self._corrupt:
            return pointer
        names = {"latest": "previous", "best": "previousBest"}
        return {name: pointer[older] for name, older in names.items() if older in pointer}

    def _free_name(self, step: int) -> str:
        """A directory name for this step that no named checkpoint has: those never change."""
        named = {entry.directory for entry in self._pointer().values()}
        name, again = f"step-{step}", 1
        while name in named:
            again += 1
            name = f"step-{step}.{again}"
        return name

    def _prune(self) -> None:
        named = {entry.directory for entry in self._pointer().values()}
        with durable.storing(self._paths.checkpoints):
            for directory in self._paths.checkpoints.iterdir():
                if directory.name not in named:
                    durable.remove(directory)


def _write(
    directory: Path, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any] | None, meta: Meta
) -> Iterator[str]:
    """Writes the files of a checkpoint and yields the name of each."""
    write_tensors(directory / WEIGHTS, weights)
    yield WEIGHTS
    if optimizer is not None:
        tensors: dict[str, Tensor] = {}
        tree = _split(optimizer, tensors, "")
        write_tensors(directory / OPTIMIZER, tensors)
        yield OPTIMIZER
        (directory / OPTIMIZER_TREE).write_text(json.dumps(tree))
        yield OPTIMIZER_TREE
    durable.write_json(directory / META, asdict(meta))
    yield META


def _read_meta(directory: Path) -> Meta:
    kept = json.loads((directory / META).read_text())
    known = {one.name for one in fields(Meta)}
    return Meta(**{name: value for name, value in kept.items() if name in known})  # older releases kept more


def _split(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """A nested state dict as JSON, with its tensors moved to `tensors` under their paths."""
    match value:
        case Tensor():
            tensors[name] = value
            return {"tensor": name}
        case Mapping():  # a list of pairs, since JSON would turn the optimizer's integer keys into strings
            return {"items": [[key, _split(item, tensors, f"{name}/{key}")] for key, item in value.items()]}
        case tuple():
            return {"tuple": [_split(item, tensors, f"{name}/{index}") for index, item in enumerate(value)]}
        case list():
            return [_split(item, tensors, f"{name}/{index}") for index, item in enumerate(value)]
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise TypeError(f"optimizer state {name} is a {type(value).__name__}, which a checkpoint cannot store")


def _join(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    match tree:
        case {"tensor": name}:
            return tensors[name]
        case {"items": items}:
            return {key: _join(item, tensors) for key, item in items}
        case {"tuple": items}:
            return tuple(_join(item, tensors) for item in items)
        case list():
            return [_join(item, tensors) for item in tree]
        case _:
            return tree


def _problem(directory: Path, entry: _Entry) -> str | None:
    """What is wrong with a named checkpoint, as text, or None."""
    try:
        actual = _digest(directory)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return (
        None
        if actual == entry.sha256
        else "its digest differs from the recorded one; the files were truncated or modified"
    )


def _digest(directory: Path) -> str:
    """sha256 hex over the names and digests of the files of a directory."""
    return _joint({path.name: _sha256(path) for path in directory.iterdir()})


def _joint(sums: Mapping[str, str]) -> str:
    total = hashlib.sha256()
    for name in sorted(sums):
        total.update(f"{name} {sums[name]}\n".encode())
    return total.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
