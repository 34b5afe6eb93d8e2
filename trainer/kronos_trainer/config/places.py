"""Where a forecast goes, and what would be lost there: the same on this machine and for a forecast in a cluster."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

from kronos_trainer.config.files import holds_bars


def is_folder(output: pathlib.Path, source: pathlib.Path) -> bool:
    """Whether one file per symbol is written: to an existing directory, or to a new one for a directory of bars."""
    return output.is_dir() or (not output.suffix and source.is_dir())


def clash(
    outputs: Iterable[tuple[str, pathlib.Path]], source: pathlib.Path, inputs: Iterable[pathlib.Path]
) -> str | None:
    """What would be lost by writing `outputs` (each with the option that names it), in words; None if nothing would.

    `source` is the file or directory of the bars, `inputs` are all files that are read. An output may be one of them
    under another name: another spelling, a symbolic or a hard link.
    """
    read = {identity: file for file in inputs if (identity := _identity(file)) is not None}
    folder = pathlib.Path(os.path.realpath(source)) if source.is_dir() else None
    owners: dict[str, str] = {}
    for option, place in dict.fromkeys(outputs):
        file = read.get(_identity(place) or ("", ""))
        if file is not None:
            return f"{option} {place}: is the input {file} and would be overwritten; choose another file"
        here = pathlib.Path(os.path.realpath(place))
        if folder is not None and _joins(here, folder):
            return f"{option} {place}: lies in {source} and would be read as bars next time; choose another place"
        other = owners.setdefault(str(here), option)
        if other != option and not is_folder(place, source):
            return f"{other} and {option} are the same file: {place}"
    return None


def _joins(here: pathlib.Path, directory: pathlib.Path) -> bool:
    """Whether a file, or the files in a directory, would be bars of a directory."""
    if not here.is_relative_to(directory):
        return False
    relative = here.relative_to(directory)
    return holds_bars(relative if relative.suffix else relative / "symbol.csv")


def _identity(file: pathlib.Path) -> tuple[object, object] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
