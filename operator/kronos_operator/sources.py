"""The files that a command is to read, found as kubectl finds them, and where their relative paths start."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kronos_operator.problems import InvalidModel, Problem

STDIN = Path("-")
SUFFIXES = (".yaml", ".yml", ".json")
_DEVICES = (Path("/dev"), Path("/proc"))  # /dev/stdin, and /dev/fd/63 of the shell's <(command)


@dataclass(frozen=True)
class Source:
    """A file to read, or standard input; `found` in a directory rather than named."""

    file: Path
    found: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return "stdin" if self.file == STDIN else str(self.file)

    def read(self) -> bytes:
        """What it holds. Raises OSError."""
        return sys.stdin.buffer.read() if self.file == STDIN else self.file.read_bytes()


def sources_of(paths: Sequence[Path]) -> list[Source]:
    """The paths, each directory replaced by the YAML and JSON files in it, by name. Raises InvalidModel.

    As with kubectl, directories below a directory are not entered. Hidden files are left out.
    """
    found: list[Source] = []
    problems: list[Problem] = []
    for path in paths:
        if path == STDIN:
            if Source(STDIN) in found:
                problems.append(Problem("stdin", None, "", "can be read only once: give - once"))
            found.append(Source(STDIN))
        elif not path.is_dir():
            found.append(Source(path))
        else:
            try:
                entries = sorted(path.iterdir())
            except OSError as error:
                problems.append(unreadable(str(path), error))
                continue
            files = [one for one in entries if one.suffix.lower() in SUFFIXES and not one.name.startswith(".")]
            if not files:
                below = "; subdirectories are not searched" if any(one.is_dir() for one in entries) else ""
                problems.append(Problem(str(path), None, "", f"contains no {', '.join(SUFFIXES)} file{below}"))
            found += [Source(file, found=True) for file in files if not file.is_dir()]
    if problems:
        raise InvalidModel(problems)
    return found


def unreadable(name: str, error: OSError) -> Problem:
    """The problem of a file that cannot be read."""
    return Problem(name, None, "", f"cannot be read: {(error.strerror or str(error)).lower()}")


def home_of(file: Path) -> Path:
    """Where the relative paths in a file start: its directory; the working directory for what lies in none."""
    if file == STDIN or any(file.absolute().is_relative_to(place) for place in _DEVICES):
        return Path.cwd()
    return file.parent.resolve()


def full_path(path: str, base: Path) -> Path:
    """The path from a base directory, the same text wherever the command is started."""
    full = base.absolute() / path
    return full.resolve() if ".." in full.parts else full
