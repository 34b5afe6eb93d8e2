"""The memory that a process may have and what it lost for it, by the kernel's files as they look in the field."""

from __future__ import annotations

import os
from pathlib import Path

from kronos_trainer.launch.memory import Memory, gibibytes, memory

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def group(directory: Path, version: int, *, limit: str, peak: int, kills: int) -> None:
    """Files of a control group."""
    directory.mkdir(parents=True, exist_ok=True)
    names = {1: ("limit_in_bytes", "max_usage_in_bytes", "oom_control"), 2: ("max", "peak", "events")}[version]
    texts = (limit, str(peak), f"under_oom 0\noom_kill {kills}\n")
    for name, text in zip(names, texts, strict=True):
        (directory / f"memory.{name}").write_text(f"{text}\n")


def read(root: Path, process: str) -> Memory:
    (root / "process").write_text(process)
    return memory(root / "process", root / "mount")


def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path) -> None:
    group(tmp_path / "mount", 2, limit=str(2**30), peak=2**29, kills=2)
    assert read(tmp_path, "0::/\n") == Memory(limit=2**30, limited=True, peak=2**29, kills=2)


def test_version_1_names_the_group_as_the_machine_does(tmp_path: Path) -> None:
    group(tmp_path / "mount" / "memory", 1, limit=str(2**30), peak=2**29, kills=2)
    process = "5:cpu:/kubepods/pod1\n4:memory:/kubepods/pod1/0123\n0::/\n"
    assert read(tmp_path, process) == Memory(limit=2**30, limited=True, peak=2**29, kills=2)


def test_the_smallest_limit_above_a_process_is_its_limit(tmp_path: Path) -> None:
    """A user's session whose slice is limited; kills are counted in the process's own group."""
    group(tmp_path / "mount" / "user.slice", 2, limit=str(2**30), peak=2**28, kills=9)
    group(tmp_path / "mount" / "user.slice" / "session", 2, limit="max", peak=2**27, kills=1)
    found = read(tmp_path, "0::/user.slice/session\n")
    assert found == Memory(limit=2**30, limited=True, peak=2**28, kills=1)


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    group(tmp_path / "mount", 2, limit="max", peak=2**27, kills=0)
    assert read(tmp_path, "0::/\n") == Memory(limit=MACHINE, limited=False, peak=None, kills=0)
    group(tmp_path / "mount" / "memory", 1, limit="9223372036854771712", peak=2**27, kills=0)
    assert read(tmp_path, "4:memory:/\n") == Memory(limit=MACHINE, limited=False, peak=None, kills=0)


def test_without_control_groups_nothing_is_known(tmp_path: Path) -> None:
    assert memory(tmp_path / "absent", tmp_path) == Memory(limit=MACHINE, limited=False, peak=None, kills=None)


def test_amounts_are_readable() -> None:
    assert [gibibytes(amount) for amount in (2**34, 3 * 2**28)] == ["16.0 GiB", "768.0 MiB"]
