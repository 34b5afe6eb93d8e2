"""The Hugging Face hub: downloads of pretrained weights, pinned to a commit, and uploads of exported ones."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from kronos_trainer.config import not_written, storage_cause
from kronos_trainer.config.spec import Hub
from kronos_trainer.errors import BadEnvironment, StorageError


@dataclass(frozen=True)
class Snapshot:
    """A downloaded repository: its directory and the 40 hex digits of its commit."""

    directory: Path
    commit: str


def download(hub: Hub) -> Snapshot:
    """The repository at its revision, from the local cache if it is already there.

    Raises BadEnvironment if it cannot be downloaded, StorageError if the disk is full.
    """
    wanted = f"{hub.repo} at {hub.revision or 'its newest revision'}"
    try:
        path = huggingface_hub.snapshot_download(
            hub.repo, revision=hub.revision, allow_patterns=["config.json", "model.safetensors"]
        )
    except RevisionNotFoundError:
        raise BadEnvironment(f"cannot download {wanted}: the hub has no such revision") from None
    except RepositoryNotFoundError:
        raise BadEnvironment(
            f"cannot download {wanted}: the hub has no such repository, or it is private; check init.hub.repo, or set "
            "HF_TOKEN (hubTokenSecret in a cluster)"
        ) from None
    # Anything else is the network, the disk or the hub; the HTTP library under it changes with its version.
    except Exception as error:
        if isinstance(error, OSError) and (cause := storage_cause(error)) is not None:
            raise StorageError(f"cannot download {wanted}: {not_written(_cache(), error)}", cause) from error
        raise BadEnvironment(
            f"cannot download {wanted}: {_first_line(error)}; without access to the hub, copy the repository to a "
            "directory and set init.path, or set HF_HOME to a cache that contains it"
        ) from error
    directory = Path(path)
    # The cache names each snapshot by its commit.
    if not re.fullmatch(r"[0-9a-f]{40}", directory.name):
        raise BadEnvironment(
            f"{wanted} was put in {directory}, whose name is not a commit; unset the variables that redirect the cache"
        )
    return Snapshot(directory, directory.name)


def upload(directory: Path, repo: str, *, private: bool, message: str) -> str:
    """Puts the files of a directory into a repository of models, in one commit, and returns its address.

    The repository is made if it is absent. The token is that of HF_TOKEN, or the one stored by `hf auth login`. Raises
    BadEnvironment.
    """
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    operations = [
        huggingface_hub.CommitOperationAdd(path_in_repo=path.relative_to(directory).as_posix(), path_or_fileobj=path)
        for path in files
    ]
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(repo, operations, commit_message=message)
    except Exception as error:  # as in `download`
        raise BadEnvironment(
            f"cannot upload to {repo}: {_first_line(error)}; check the name, and that HF_TOKEN may write there"
        ) from error
    return str(address)


def _cache() -> Path:
    return Path(huggingface_hub.constants.HF_HUB_CACHE)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
