"""Results and bars behind URIs: the far side is whole at any moment, and comes back as it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from kronos_trainer.checkpoint import Checkpoints, Meta
from kronos_trainer.config import RunConfig, RunPaths, StageName
from kronos_trainer.errors import BadEnvironment, InputMissing, StorageError
from kronos_trainer.lock import model_lock
from kronos_trainer.mirror import Mirror, fetch_bars, is_uri

MakeRun = Callable[..., RunConfig]


@pytest.fixture(params=["memory", "file"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URI of an empty place, in memory and on disk."""
    MemoryFileSystem.store.clear()
    yield f"memory://bucket/{tmp_path.name}" if request.param == "memory" else f"file://{tmp_path}/remote"
    MemoryFileSystem.store.clear()


def save(paths: RunPaths, step: int) -> None:
    meta = Meta(
        step=step, epoch=1, stage_hash="t" * 12, world_size=1, best_step=step, best_loss=0.5, initial_loss=1.0,
        validations_since_best=0, windows_seen=step, seconds=1.0,
    )  # fmt: skip
    weights = {"weight": torch.full((5,), float(step))}
    Checkpoints(paths.stage(StageName.TOKENIZER)).save(weights=weights, optimizer={}, meta=meta, best=True)


def restored_step(paths: RunPaths) -> int | None:
    restored = Checkpoints(paths.stage(StageName.TOKENIZER)).restore(stage_hash="t" * 12)
    if restored is None:
        return None
    assert restored.skipped is None, "the newest checkpoint that is named is intact"
    assert torch.equal(restored.weights["weight"], torch.full((5,), float(restored.meta.step)))
    return restored.meta.step


def test_another_machine_goes_on_where_this_one_stopped(make_run: MakeRun, root: str, tmp_path: Path) -> None:
    run = make_run(output=root)
    mirror = Mirror(run, tmp_path / "a")
    mirror.pull()
    assert restored_step(mirror.paths) is None
    with model_lock(mirror.paths, run):
        mirror.claim()
        for step in (10, 20, 30):
            save(mirror.paths, step)
            mirror.push()
    mirror.paths.stage(StageName.TOKENIZER).best.mkdir()
    (mirror.paths.stage(StageName.TOKENIZER).best / "config.json").write_text("{}")
    mirror.paths.current.write_text('{"run": "run-1"}')
    mirror.push()

    other = Mirror(run, tmp_path / "b")
    other.pull()
    assert restored_step(other.paths) == 30
    assert other.paths.current.read_text() == '{"run": "run-1"}'
    kept = sorted(path.name for path in other.paths.stage(StageName.TOKENIZER).checkpoints.iterdir())
    assert kept == ["step-20", "step-30"], "what was removed here is removed there"
    # A later run reuses only the tokenizer.
    reuse = {"run": "run-1", "hash": "t" * 12}
    later = Mirror(make_run(output=root, run="run-2", stage="predictor", reuse_tokenizer=reuse), tmp_path / "c")
    later.pull()
    assert (other.paths.runs / "run-1" / "tokenizer" / "best" / "config.json").exists()
    assert not (later.paths.runs / "run-1" / "tokenizer" / "checkpoints").exists()


def test_a_push_that_is_cut_off_anywhere_leaves_an_intact_checkpoint(
    make_run: MakeRun, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(output=root)
    mirror = Mirror(run, tmp_path / "local")
    filesystem = fsspec.core.url_to_fs(root)[0]
    real = {name: getattr(type(filesystem), name) for name in ("put_file", "rm_file")}
    seen = set()
    with model_lock(mirror.paths, run):
        mirror.claim()
        save(mirror.paths, 1)
        mirror.push()
        for cut in range(1, 40):
            left = iter(range(cut - 1))

            def guarded(self: Any, *args: Any, name: str, left: Iterator[int] = left, **kwargs: Any) -> Any:
                if next(left, None) is None:
                    raise ConnectionError("gone")
                return real[name](self, *args, **kwargs)

            save(mirror.paths, cut + 1)
            with monkeypatch.context() as patch:
                for name in real:
                    patch.setattr(
                        type(filesystem), name, lambda self, *a, name=name, **k: guarded(self, *a, name=name, **k)
                    )
                try:
                    mirror.push()
                    completed = True
                except StorageError as error:
                    assert "gone" in str(error)
                    completed = False
            copy = Mirror(run, tmp_path / f"copy-{cut}")
            copy.pull()
            step = restored_step(copy.paths)
            seen.add(cut + 1 - step if step is not None else None)
            mirror.push()
            if completed:
                break
        else:
            pytest.fail("no push ever completed")
    assert seen == {0, 1}, "a cut push is either the step before or the new one"


def test_an_attempt_that_was_overtaken_on_another_machine_writes_nothing_more(
    make_run: MakeRun, root: str, tmp_path: Path
) -> None:
    old, new = make_run(output=root, attempt=1), make_run(output=root, attempt=2)
    stale, fresh = Mirror(old, tmp_path / "old"), Mirror(new, tmp_path / "new")
    with model_lock(stale.paths, old), model_lock(fresh.paths, new):
        stale.claim()
        save(stale.paths, 1)
        stale.push()
        fresh.claim()
        save(stale.paths, 2)
        with pytest.raises(StorageError, match="attempt 1 ends without writing"):
            stale.push()
        with pytest.raises(StorageError, match="attempt 1 comes too late"):
            stale.claim()
        fresh.pull()
        assert restored_step(fresh.paths) == 1


def test_bars_are_downloaded_once_per_version(root: str, tmp_path: Path) -> None:
    filesystem, path = fsspec.core.url_to_fs(root)
    filesystem.makedirs(f"{path}/daily/us", exist_ok=True)
    filesystem.pipe_file(f"{path}/daily/us/AAPL.csv", b"a")
    filesystem.pipe_file(f"{path}/daily/MSFT.csv", b"m")
    cache = tmp_path / "cache"
    beats: list[int] = []
    copy = fetch_bars(f"{root}/daily", cache, lambda: beats.append(1))
    assert sorted(str(file.relative_to(copy)) for file in copy.rglob("*.csv")) == ["MSFT.csv", "us/AAPL.csv"]
    assert beats
    stamp = (copy / "MSFT.csv").stat().st_ino
    assert fetch_bars(f"{root}/daily", cache) == copy and (copy / "MSFT.csv").stat().st_ino == stamp
    filesystem.pipe_file(f"{path}/daily/MSFT.csv", b"changed")
    again = fetch_bars(f"{root}/daily", cache)
    assert (again / "MSFT.csv").read_bytes() == b"changed"
    # A single file keeps its name, which is its symbol.
    single = fetch_bars(f"{root}/daily/us/AAPL.csv", cache)
    assert single.name == "AAPL.csv" and single.read_bytes() == b"a"


def test_a_download_that_is_cut_off_is_not_taken_for_the_bars(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystem, path = fsspec.core.url_to_fs(root)
    filesystem.makedirs(f"{path}/daily", exist_ok=True)
    for name in ("a", "b"):
        filesystem.pipe_file(f"{path}/daily/{name}.csv", name.encode())
    real = type(filesystem).get_file

    def cut(self: Any, name: str, target: str, **kwargs: Any) -> None:
        if name.endswith("b.csv"):
            raise ConnectionError("gone")
        real(self, name, target, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(filesystem), "get_file", cut)
        with pytest.raises(StorageError, match=r"cannot read .*gone"):
            fetch_bars(f"{root}/daily", tmp_path / "cache")
    copy = fetch_bars(f"{root}/daily", tmp_path / "cache")
    assert sorted(file.name for file in copy.iterdir()) == ["a.csv", "b.csv"]


def test_what_is_absent_is_named_with_a_way_out(make_run: MakeRun, root: str, tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"nowhere.*credentials"):
        fetch_bars(f"{root}/nowhere", tmp_path)
    with pytest.raises(BadEnvironment, match=r"s3://bucket/bars.*pip install s3fs"):
        fetch_bars("s3://bucket/bars", tmp_path)
    with pytest.raises(BadEnvironment, match=r"nosuch://"):
        Mirror(make_run(output="nosuch://bucket"), tmp_path)
    assert is_uri("hf://datasets/a/b") and not is_uri("data/bars")
