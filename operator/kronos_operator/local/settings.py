"""Where local runs read and write, and what the user asks of them. Built by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kronos_operator.api import Spec
from kronos_operator.names import DATA_PATH_ENV, OUTPUT_PATH_ENV
from kronos_trainer.config import ExitCode, StageName

_OUTPUT, _DATA = Path("outputs"), Path("data")


class LocalError(Exception):
    """A local run that cannot be; the message says what to do about it."""

    def __init__(self, exit_code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """How models are run on this machine."""

    output: Path = _OUTPUT
    data: Path = _DATA
    mode: Literal["sequential", "parallel"] = "sequential"
    max_workers: int = 2  # models at a time in parallel mode
    stages: frozenset[StageName] = frozenset(StageName)
    force: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> LocalSettings:
        """The settings with the paths that KRONOS_OUTPUT_PATH and KRONOS_DATA_PATH name."""
        return cls(output=Path(environ.get(OUTPUT_PATH_ENV) or _OUTPUT), data=Path(environ.get(DATA_PATH_ENV) or _DATA))

    def root(self, spec: Spec) -> Path:
        """Directory of a model's results: KRONOS_OUTPUT_PATH, else storage.path, else outputs/."""
        if self.output == _OUTPUT and spec.storage is not None and spec.storage.path is not None:
            return Path(spec.storage.path).absolute()
        return self.output.absolute()

    def bars(self, spec: Spec) -> str:
        """Path or URI of a model's bars: claims lie below the data root, and relative paths below KRONOS_DATA_PATH."""
        source = spec.data.source
        if source.uri is not None:
            return source.uri
        if source.claim is not None:
            return str((self.data / source.claim.name / (source.claim.path or "").lstrip("/")).absolute())
        assert source.path is not None
        below = Path() if self.data == _DATA else self.data
        return str((below / source.path).absolute())
