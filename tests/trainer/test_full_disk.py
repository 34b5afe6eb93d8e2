"""A disk that is full at any write of a run ends it with 74 and a clear line, and the next run loses nothing by it."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from kronos_trainer.config import RunConfig, StageName
from kronos_trainer.model import tensors
from kronos_trainer.stopping import StopSignal
from kronos_trainer.training import rank

MakeRun = Callable[..., RunConfig]
SMALL = {"training": {"precision": "fp32", "windows_per_epoch": 16, "validation_windows": 8}}
STAGES = {stage: {"epochs": 1} for stage in ("tokenizer", "predictor")}


class _Watched(io.FileIO):
    """A file whose first write may find the disk full."""

    def __init__(self, disk: Disk, *args: Any) -> None:
        super().__init__(*args)
        self._disk = disk

    def write(self, content: Any) -> int:
        if self._disk.fails(self.name):
            raise full()
        return super().write(content)


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Disk:
    """Is full at the first write of each kind that has not failed yet: a kind is a file's name without its numbers."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.failed: list[str] = []
        self._fills = False

    def fails(self, path: Any) -> bool:
        if not self._fills or not str(path).startswith(str(self.place)) or Path(path).name == "given.json":
            return False
        kind = re.sub(r"[0-9a-f]{8,}|\d+", "N", str(Path(path).relative_to(self.place)))
        if kind in self.failed:
            return False
        self.failed.append(kind)
        self._fills = False  # one a run; what follows is the clearing up, for which there is room
        return True

    @contextlib.contextmanager
    def filling(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        real_open, save, pwrite = io.open, tensors.save_file, os.pwrite

        def opened(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or isinstance(file, int) or options.get("opener"):
                return real_open(file, mode, buffering, *args, **options)
            raw = _Watched(self, file, mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return raw
            buffered = io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered)

        def saved(content: Any, path: Path) -> None:
            if self.fails(path):
                path.write_bytes(b"half of it")
                raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
            save(content, path)

        def written(descriptor: int, content: bytes, place: int) -> int:
            if self.fails(Path(f"/proc/self/fd/{descriptor}").readlink()):
                raise full()
            return pwrite(descriptor, content[: max(1, len(content) // 2)], place)  # as a disk does before it is full

        with monkeypatch.context() as patch:
            patch.setattr(io, "open", opened)
            patch.setattr(builtins, "open", opened)
            patch.setattr(tensors, "save_file", saved)
            patch.setattr(os, "pwrite", written)
            self._fills = True
            yield
        self._fills = False


Train = Callable[[RunConfig, StageName], tuple[int, dict[str, Any]]]


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Trains a stage as one rank, as its process does: the exit code and the last event."""

    def start(run: RunConfig, stage: StageName) -> tuple[int, dict[str, Any]]:
        file = tmp_path / "given.json"
        publish = stage is StageName.PREDICTOR
        file.write_text(run.model_copy(update={"stage": stage, "publish": publish}).dump())
        code = rank.main(["--run", str(file)], QUIET)
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        return code, json.loads(lines[-1])

    return start


def digests_of(run: RunConfig, train: Train) -> dict[StageName, str]:
    """Of the weights of both stages, trained with all the room that they need."""
    digests = {}
    for stage in StageName.with_weights():
        code, last = train(run, stage)
        assert code == 0, last["message"]
        digests[stage] = last["result"]["digest"]
    return digests


def says_so(code: int, last: dict[str, Any]) -> bool:
    """Whether a run has ended as one without room is to."""
    words = r"cannot write /.*No space left on device \(.* MiB free there\); free disk space$"
    return (code, last["event"], last.get("cause")) == (74, "error", "NoRoom") and bool(
        re.search(words.replace("No space left on device", "(No space left on device|File too large)"), last["message"])
    )


def test_a_full_disk_at_any_write_ends_with_74_and_loses_nothing(
    trainable: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Train
) -> None:
    digests = digests_of(trainable(run="whole", **SMALL, **STAGES), train)
    for cache in tmp_path.glob("kronos-*"):
        shutil.rmtree(cache)
    run, disk = trainable(run="again", **SMALL, **STAGES), Disk(tmp_path)
    for stage in StageName.with_weights():
        for _ in range(100):
            before = len(disk.failed)
            with disk.filling(monkeypatch):
                code, last = train(run, stage)
            if len(disk.failed) == before:
                break
            assert says_so(code, last), (disk.failed[-1], last)
        assert (code, last["result"]["digest"]) == (0, digests[stage])
    names = " ".join(disk.failed)
    for written in (
        *("weights.safetensors", "optimizer.safetensors", "optimizer.json", "meta.json", "checkpoint.json"),
        *("model.safetensors", "config.json", "README.md", "result.json", "report.html", "current.json"),
        *("metrics.jsonl", "run.json", "lock.json", "bars.json", "values", "times", "tokens-N.partial"),
    ):
        assert written in names


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Callable[[int], None]]:
    """A disk at `place`, and how to leave so many bytes of it free; a limit of files' sizes where none can be made."""
    place.mkdir()
    ballast, size = place / "ballast", 64 * 2**20
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if made.returncode == 0:

        def leave(free: int) -> None:
            ballast.unlink(missing_ok=True)
            ballast.write_bytes(bytes(shutil.disk_usage(place).free - free))

        try:
            yield leave
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda free: resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_however_little_room_a_real_disk_has_nothing_is_lost(trainable: MakeRun, tmp_path: Path, train: Train) -> None:
    digests = digests_of(trainable(run="whole", **SMALL, **STAGES), train)
    with small_disk(tmp_path / "disk") as leave:
        run = trainable(run="again", output=str(tmp_path / "disk" / "outputs"), **SMALL, **STAGES)
        free, refused = 2**16, 0
        for stage in StageName.with_weights():
            leave(free)
            while (end := train(run, stage))[0] != 0:
                assert says_so(*end), end
                refused += 1
                free *= 4
                leave(free)
            assert end[1]["result"]["digest"] == digests[stage]
    assert refused >= 3


class _Quiet(StopSignal):
    """No signal will come."""

    def __init__(self) -> None:
        self.requested = self.urgent = False


QUIET = _Quiet()
