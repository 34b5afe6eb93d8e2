"""The models that a command is given: in files, directories or on standard input, by -f or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.terminal import print_line

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded, Reading

# The shell makes `-f a.yaml b.yaml` of `-f *.yaml`: what comes without -f counts alike.
Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILE]...",
        help="KronosModel files or directories of them, with or without -f; - reads standard input.",
        show_default=False,
    ),
]
NamedFiles = Annotated[
    list[Path] | None, typer.Option("--file", "-f", metavar="FILE", help="Same as FILE.", show_default=False)
]


def read(
    files: Sequence[Path] | None,
    named: Sequence[Path] | None,
    overrides: Sequence[str] | None,
    environ: Mapping[str, str] | None = None,
) -> Reading:
    """What the files hold. Raises Failure (64) where there is none, InvalidModel for what concerns no single file."""
    from kronos_operator.loading import read_models
    from kronos_trainer.config import ExitCode

    paths = [*(named or []), *(files or [])]
    if not paths:
        raise Failure("name a KronosModel file, or a directory of them; - reads standard input", ExitCode.CONFIG)
    return read_models(paths, listed=bool(files) and len(paths) > 1, overrides=overrides or [], environ=environ)


def load(
    files: Sequence[Path] | None,
    named: Sequence[Path] | None,
    overrides: Sequence[str] | None,
    environ: Mapping[str, str] | None = None,
) -> list[Loaded]:
    """The models; prints notes on what was skipped. Raises Failure (64) and InvalidModel."""
    from kronos_operator.loading import InvalidModel

    reading = read(files, named, overrides, environ)
    for note in reading.notes:
        print_line(f"note: {note}", stderr=True)
    if reading.problems:
        raise InvalidModel(reading.problems)
    return reading.models
