"""A run's weights in upstream's layout with a model card: tokenizer/ and predictor/, as `from_pretrained` reads them.

Weights are copied, never converted: the bytes are those of the run, checked by its digests after they were copied.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kronos_trainer.collection.card import Card, model_card
from kronos_trainer.config import RunPaths, StageName
from kronos_trainer.errors import ConfigError, InputMissing
from kronos_trainer.forecast.published import Weights, published_weights
from kronos_trainer.model.directory import CONFIG, WEIGHTS, weights_digest
from kronos_trainer.storage import durable
from kronos_trainer.storage.models import model_of
from kronos_trainer.storage.pointers import resolve, verify

HUB = "hf://"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A run that can be exported: its weights, verified, and its files."""

    weights: Weights
    paths: RunPaths


@contextmanager
def found(root: str, namespace: str | None, name: str, run: str) -> Iterator[Exported]:
    """The run that an id or an alias means, below a directory or a URI, whose files are fetched for the time.

    Raises ConfigError for an impossible name, InputMissing where there is no such run or its weights are not those that
    its results describe, StorageError.
    """
    if "://" not in root:
        yield _verified(Path(root), namespace, name, run)
        return
    from kronos_trainer.storage.pointer_copy import PointerCopy

    with tempfile.TemporaryDirectory() as scratch:
        copy = PointerCopy(root, model_of(namespace, name), Path(scratch))
        wanted = resolve(copy.paths, run)
        copy.fetch(wanted)
        copy.fetch_evaluation(wanted)
        yield _verified(copy.paths.root, namespace or "default", name, run)


def write(exported: Exported, directory: Path, licence: str | None) -> None:
    """Writes the export to a new directory, which appears complete.

    Raises ConfigError if there is one with files already, InputMissing if a weight was changed meanwhile, StorageError.
    """
    directory = directory.absolute()
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise ConfigError(f"{directory}: exists already; name a new directory")
    card = Card.of(exported.paths, exported.weights, licence)

    def fill(aside: Path) -> None:
        for stage, source in _sources(exported.weights).items():
            (aside / stage).mkdir()
            for name in (CONFIG, WEIGHTS):
                shutil.copyfile(source / name, aside / stage / name)
            result = exported.paths.stage(stage).completed()
            if result is None or weights_digest(aside / stage) != result.digest:
                raise InputMissing(f"{source} was changed while it was copied; repeat the command")
        if exported.weights.calibration is not None:
            shutil.copyfile(exported.weights.calibration, aside / "calibration.json")
        (aside / "README.md").write_text(model_card(card), encoding="utf-8")

    durable.write_directory(directory, fill)


def publish(exported: Exported, uri: str, licence: str | None, *, public: bool) -> str:
    """Uploads the export to a repository of the hub, in one commit, and returns its address.

    The repository is made if it is absent, private unless it is to be `public`. Raises ConfigError for an impossible
    URI, BadEnvironment if the hub refuses.
    """
    repo = repository(uri)
    from kronos_trainer.model.hub import upload

    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "export"
        write(exported, directory, licence)
        run = exported.paths.run_dir.name
        return upload(directory, repo, private=not public, message=f"Run {run} of {exported.paths.model_dir.name}")


def repository(uri: str) -> str:
    """OWNER/NAME of hf://OWNER/NAME. Raises ConfigError."""
    repo = uri.removeprefix(HUB)
    if not uri.startswith(HUB) or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise ConfigError(f"--to {uri}: name a directory, or a repository of the hub as {HUB}OWNER/NAME")
    return repo


def _verified(root: Path, namespace: str | None, name: str, run: str) -> Exported:
    weights = published_weights(root, namespace, name, run)
    weights.require()
    run_dir = weights.predictor.parents[1]
    paths = RunPaths(root, model_of(run_dir.parents[2].name, run_dir.parents[1].name), run_dir.name)
    for stage in _sources(weights):
        result = paths.stage(stage).completed()
        if result is None:
            raise InputMissing(f"run {run_dir.name} is not complete: {paths.stage(stage).result} is absent")
        verify(paths.stage(stage), result)
    return Exported(weights=weights, paths=paths)


def _sources(weights: Weights) -> dict[StageName, Path]:
    return dict(zip(StageName.with_weights(), (weights.tokenizer, weights.predictor), strict=True))
