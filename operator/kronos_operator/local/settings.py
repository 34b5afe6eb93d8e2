"""Where local runs read and write, and what the user asks of them. Built by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kronos_operator.api import Spec
from kronos_operator.names import DATA_PATH_ENV, OUTPUT_PATH_ENV
from kronos_operator.sources import full_path
from kronos_trainer.config import ExitCode, StageName

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded

_OUTPUT, _DATA = Path("outputs"), Path("data")


class LocalError(Exception):
    """A local run that cannot be; the message names the way out."""

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """How models are run on this machine. Directories that the user did not name are None."""

    output: Path | None = None
    data: Path | None = None
    mode: Literal["sequential", "parallel"] = "sequential"
    max_workers: int | None = None  # models at a time in parallel mode; None: see `workers`
    workers_per_gpu: int = 1  # of these, how many share a GPU where there are more of them than GPUs
    stages: frozenset[StageName] = frozenset(StageName)
    force: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> LocalSettings:
        """The settings with the paths that KRONOS_OUTPUT_PATH and KRONOS_DATA_PATH name."""
        output, data = (environ.get(name) for name in (OUTPUT_PATH_ENV, DATA_PATH_ENV))
        return cls(output=Path(output) if output else None, data=Path(data) if data else None)

    def workers(self, gpus: int) -> int:
        """Models at a time in parallel mode on a machine with so many GPUs: two, or as many as are to share them."""
        if self.max_workers is not None:
            return self.max_workers
        return gpus * self.workers_per_gpu if gpus and self.workers_per_gpu > 1 else 2

    @property
    def output_root(self) -> Path:
        """Directory of the results of models that name none themselves."""
        return self.output or _OUTPUT

    @property
    def data_root(self) -> Path:
        """Directory that has a directory for each claim."""
        return self.data or _DATA

    def root(self, spec: Spec) -> Path:
        """Directory of a model's results: KRONOS_OUTPUT_PATH, else storage.path, else outputs/."""
        if self.output is None and spec.storage is not None and spec.storage.path is not None:
            return Path(spec.storage.path).absolute()
        return self.output_root.absolute()

    def bars(self, loaded: Loaded) -> str:
        """Full path, or URI, of a model's bars.

        Claims lie below the data root. A relative path starts at KRONOS_DATA_PATH, and without it where it was named.
        """
        source = loaded.model.spec.data.source
        if source.uri is not None:
            return source.uri
        if source.claim is not None:
            return str((self.data_root / source.claim.name / (source.claim.path or "").lstrip("/")).absolute())
        assert source.path is not None
        if loaded.bars is not None and not Path(source.path).is_absolute():
            return loaded.bars
        return str(full_path(source.path, self.data or loaded.base_of("data.source.path")))
