"""The models of files as they are now, and as they were in a Git commit. Used by `kronos diff --against`.

A directory with a kustomization.yaml is built by `kubectl kustomize` on both sides, since that is what a cluster gets.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.terminal import print_line
from kronos_trainer.config import ExitCode

if TYPE_CHECKING:
    from kronos_operator.api import KronosModel
    from kronos_operator.loading import Reading

_KUSTOMIZATION = "kustomization.yaml"


def models_now(paths: Sequence[Path]) -> dict[str, KronosModel]:
    """Those of the working tree, by their keys. Raises Failure, InvalidModel for a file that is no valid model."""
    from kronos_operator.loading import InvalidModel

    with tempfile.TemporaryDirectory() as directory:
        reading = _read([_built(path, Path(directory)) for path in paths])
    if reading.problems:
        raise InvalidModel(reading.problems)
    return _by_key(reading)


def models_at(ref: str, paths: Sequence[Path]) -> dict[str, KronosModel]:
    """Those of a commit, by their keys; what was no valid model there is noted, and counts as absent.

    Raises Failure (64) where Git has no such commit or the paths are in no repository.
    """
    found: dict[str, KronosModel] = {}
    for path in paths:
        with tempfile.TemporaryDirectory() as directory:
            place = _checked_out(ref, path.resolve(), Path(directory, "tree"))
            if not place.exists():
                continue
            reading = _read([_built(place, Path(directory))])
            for problem in reading.problems:  # it is no fault of the change that is looked at
                print_line(f"note: at {ref}: {str(problem).replace(f'{directory}/tree/', '')}", stderr=True)
            found |= _by_key(reading)
    return found


def _read(paths: Sequence[Path]) -> Reading:
    from kronos_operator.loading import read_models

    return read_models(list(paths))


def _by_key(reading: Reading) -> dict[str, KronosModel]:
    return {one.model.ref.key: one.model for one in reading.models}


def _built(path: Path, directory: Path) -> Path:
    """A file with what kustomize makes of a directory, the path itself where there is nothing to build."""
    if not (path / _KUSTOMIZATION).is_file():
        return path
    built = Path(tempfile.mkdtemp(dir=directory), f"{path.name}.yaml")
    built.write_text(_output(["kubectl", "kustomize", str(path)], f"{path}: kubectl kustomize cannot build it"))
    return built


def _checked_out(ref: str, path: Path, tree: Path) -> Path:
    """The path as it is in a copy of the commit's files, below `tree`."""
    folder = path if path.is_dir() else path.parent
    git = ["git", "-C", str(folder)]
    root = Path(_output([*git, "rev-parse", "--show-toplevel"], str(folder)).strip()).resolve()
    commit = f"{ref}^{{commit}}"
    _output([*git, "rev-parse", "--verify", commit], f"{ref} is no commit here; fetch it first (git fetch)")
    inside = path.relative_to(root)
    # What kustomize builds may lie elsewhere in the repository.
    wanted = [] if (path / _KUSTOMIZATION).is_file() else [str(inside)]
    if wanted and not _output(["git", "-C", str(root), "ls-tree", "--name-only", ref, "--", *wanted], ref):
        return tree / inside
    archive = subprocess.run(
        ["git", "-C", str(root), "archive", "--format=tar", ref, "--", *wanted], capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(tree, filter="data")
    return tree / inside


def _output(command: list[str], failed: str) -> str:
    if shutil.which(command[0]) is None:
        raise Failure(f"{failed}: {command[0]} is not on the PATH", ExitCode.ENVIRONMENT)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{failed}: {done.stderr.strip().removeprefix('fatal: ')}", ExitCode.CONFIG)
    return done.stdout
