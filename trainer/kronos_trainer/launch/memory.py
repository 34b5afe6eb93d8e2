"""Main memory as the kernel accounts it for this process and its children: limit, peak, and processes killed.

Reads the files of cgroups, version 2 or 1, as they appear inside a container or on the machine itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROCESS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _Names:
    """File names of a version."""

    limit: str
    peak: str
    events: str


_V2 = _Names("memory.max", "memory.peak", "memory.events")
_V1 = _Names("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """`limit` and `peak` are bytes; the limit is the machine's memory if no group sets one, and then `limited` is
    false. The peak includes page cache; it and `kills`, the processes killed for lack of memory, are None where the
    kernel does not count them."""

    limit: int
    limited: bool
    peak: int | None
    kills: int | None


def memory(process: Path = _PROCESS, mount: Path = _MOUNT) -> Memory:
    """As it is now. The arguments are the places of the kernel's files."""
    groups, names = _groups(process, mount)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # Inside a container, the groups above its own are out of sight.
    limits = [(limit, group) for group in groups if (limit := _number(group / names.limit)) is not None]
    limit, group = min(limits, default=(machine, None), key=lambda pair: pair[0])
    limited = limit < machine
    return Memory(
        limit=limit if limited else machine,
        limited=limited,
        peak=_number(group / names.peak) if group is not None and limited else None,
        kills=_kills(groups[0] / names.events) if groups else None,
    )


def gibibytes(amount: int) -> str:
    """A readable amount: 16.0 GiB, 512.0 MiB."""
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**30 else f"{amount / 2**20:.1f} MiB"


def _groups(process: Path, mount: Path) -> tuple[list[Path], _Names]:
    """The directories of this process's group and of those above it, its own first, and the names of their files."""
    for line in _text(process).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return _upwards(mount / "memory", path, _V1), _V1
    for line in _text(process).splitlines():
        if line.startswith("0::"):
            return _upwards(mount, line.removeprefix("0::"), _V2), _V2
    return [], _V2


def _upwards(root: Path, path: str, names: _Names) -> list[Path]:
    own = root / path.strip().lstrip("/")
    if not (own / names.events).exists():
        own = root  # a container's own group is mounted there, whatever it is called outside
    between = [own, *own.parents]
    return [place for place in between if place.is_relative_to(root) and (place / names.events).exists()]


def _kills(path: Path) -> int | None:
    for line in _text(path).splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.strip().isdigit():
            return int(count)
    return None


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None  # version 2 writes "max" for none


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
