"""Where a forecast goes, and what would be lost there: the same on this machine and for a forecast in a cluster."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping

from kronos_trainer.config.run import holds_bars


def is_folder(output: pathlib.Path, source: pathlib.Path) -> bool:
    """Whether a file of each symbol is written: into a directory that is there, or is to be made for another's bars."""
    return output.is_dir() or (not output.suffix and source.is_dir())


def clash(
    outputs: Mapping[str, pathlib.Path | None], source: pathlib.Path, inputs: Iterable[pathlib.Path]
) -> str | None:
    """What would be lost by writing `outputs` (by their options), in words; None if nothing would.

    `source` is the file or directory of the bars, `inputs` are all files that are read. An output may be one of them
    under another name: another spelling, a symbolic or a hard link.
    """
    files = list(inputs)
    given = {option: place for option, place in outputs.items() if place is not None}
    for option, place in given.items():
        file = next((file for file in files if _same(place, file)), None)
        if file is not None:
            return f"{option} {place}: is {file}, which is read and would be lost; name another file"
        if source.is_dir() and _joins(place, source):
            return f"{option} {place}: lies in {source}, and would be read as bars the next time; name another place"
    places = {os.path.realpath(place): option for option, place in given.items()}
    if len(places) < len(given):
        return f"{' and '.join(given)} name one file: {next(iter(given.values()))}"
    return None


def _joins(output: pathlib.Path, directory: pathlib.Path) -> bool:
    there, here = pathlib.Path(os.path.realpath(directory)), pathlib.Path(os.path.realpath(output))
    return here == there or (here.is_relative_to(there) and holds_bars(_inside(here, there)))


def _inside(here: pathlib.Path, there: pathlib.Path) -> pathlib.Path:
    """Where the files would be, relative to the directory of the bars."""
    relative = here.relative_to(there)
    return relative if relative.suffix else relative / "symbol.csv"


def _same(one: pathlib.Path, other: pathlib.Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
