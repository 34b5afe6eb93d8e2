"""Checkpoints survive kills, full disks and corruption."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kronos_trainer.config import StagePaths
from kronos_trainer.errors import ConfigError, InputMissing, StorageError
from kronos_trainer.model import tensors
from kronos_trainer.storage import durable
from kronos_trainer.storage.checkpoint import Best, Checkpoints, Meta

HASH = "h" * 12


def meta(step: int, best_step: int | None = None) -> Meta:
    return Meta(
        step=step,
        epoch=1,
        stage_hash=HASH,
        world_size=2,
        best_step=best_step,
        best_loss=0.1 + 0.2 if best_step is not None else None,
        initial_loss=1.0,
        validations_since_best=0,
        seconds=12.5,
        metrics={"loss": 0.5},
    )


def weights(step: int) -> dict[str, torch.Tensor]:
    return {"layer.weight": torch.full((4, 3), float(step)), "layer.bias": torch.full((3,), step + 0.5)}


def optimizer(step: int) -> dict[str, Any]:
    return {
        "state": {0: {"step": torch.tensor(float(step)), "exp_avg": torch.full((4, 3), step * 2.0)}},
        "param_groups": [],
    }


def save(paths: StagePaths, step: int, best_step: int | None) -> None:
    """The state after `step`, where the best was at `best_step`, which comes with it if it is not there yet."""
    named = json.loads(paths.pointer.read_text()) if paths.pointer.exists() else {}
    there = best_step != step and named.get("best", {}).get("step") == best_step
    best = None if best_step is None or there else Best(weights(best_step), meta(best_step, best_step))
    Checkpoints(paths).save(weights=weights(step), optimizer=optimizer(step), meta=meta(step, best_step), best=best)


def whole_state(paths: StagePaths) -> tuple[int, int | None] | None:
    """Step and best step on disk, after checking that every part belongs to that step."""
    checkpoints = Checkpoints(paths)
    restored = checkpoints.restore(stage_hash=HASH)
    if restored is None:
        return None
    step = restored.meta.step
    assert restored.meta == meta(step, restored.meta.best_step)
    assert all(torch.equal(restored.weights[name], tensor) for name, tensor in weights(step).items())
    assert torch.equal(restored.optimizer["state"][0]["exp_avg"], torch.full((4, 3), step * 2.0))
    named = json.loads(paths.pointer.read_text())
    assert step == named["previous" if restored.skipped else "latest"]["step"]
    if restored.meta.best_step is not None:
        best, best_meta = checkpoints.best_weights()
        assert best_meta.step == restored.meta.best_step
        assert all(torch.equal(best[name], tensor) for name, tensor in weights(best_meta.step).items())
    return step, restored.meta.best_step


@pytest.fixture(autouse=True)
def _quick_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of real syncs would take a minute; the order of those that are asked for is tested below."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Killed(BaseException):
    """The process ends here."""


class Faults:
    """Makes the n-th operation that changes the disk fail, and if it is a kill, every one after it too."""

    def __init__(self, failing: int, error: Callable[[], BaseException]) -> None:
        self.failing, self.error = failing, error
        self.count, self.fired = 0, False

    def check(self) -> None:
        self.count += 1
        kill = self.fired and isinstance(self.error(), Killed)
        if self.count == self.failing or kill:
            self.fired = True
            raise self.error()

    def around(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.check()
            return action(*args, **kwargs)

        return guarded

    def torn(self, action: Callable[..., Any], target: Callable[..., Any]) -> Callable[..., Any]:
        """A write that, failing, leaves a part of its bytes behind."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.check()
            result = action(*args, **kwargs)
            try:
                self.check()
            except BaseException:
                os.truncate(target(*args), Path(target(*args)).stat().st_size // 2)
                raise
            return result

        return guarded

    @contextmanager
    def active(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tensors, "save_file", self.torn(tensors.save_file, lambda tensors, path: path))
            patch.setattr(Path, "write_text", self.torn(Path.write_text, lambda path, text: path))
            for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync"):
                patch.setattr(os, name, self.around(getattr(os, name)))
            yield


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


HISTORIES = [
    [(1, 1)],  # the first checkpoint ever
    [(1, 1), (2, 1)],
    [(1, 1), (2, 1), (3, 1), (4, 4)],  # a new best, with an older best to be dropped
    [(1, 1), (2, 2), (2, 2)],  # one step saved twice
    [(2, 1)],  # with a best that was kept on the device until now
    [(1, 1), (3, 1), (7, 5)],
    [(1, None), (2, None), (3, None)],
]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("error", [Killed, full_disk])
def test_a_failure_at_any_write_leaves_the_old_state_or_the_new_never_a_mixture(
    tmp_path: Path, history: list[tuple[int, int | None]], error: Callable[[], BaseException]
) -> None:
    *earlier, last = history
    before = earlier[-1] if earlier else None
    failing = 0
    while True:
        failing += 1
        paths = StagePaths(tmp_path / str(failing))
        for step, best in earlier:
            save(paths, step, best)
        faults = Faults(failing, error)
        with faults.active():
            try:
                save(paths, *last)
            except (Killed, StorageError):
                assert faults.fired
        state = whole_state(paths)
        assert state in (before, last)
        if error is full_disk:  # what was begun does not keep the space that is short
            assert not [path for path in paths.directory.rglob("*") if path.name.startswith(durable.ASIDE)]
        if not faults.fired:
            assert state == last
            break
        # The next attempt is not hindered by what is left, and clears it away.
        save(paths, 9, 9)
        assert whole_state(paths) == (9, 9)
        assert len(list(paths.checkpoints.iterdir())) <= 3
    assert failing > 10


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "added"])
@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "meta.json"])
def test_a_damaged_latest_is_said_and_the_previous_used_with_the_best_of_its_time(
    tmp_path: Path, damage: str, file: str
) -> None:
    paths = StagePaths(tmp_path)
    for step, best in [(1, 1), (2, 1), (3, 3)]:
        save(paths, step, best)
    target = paths.checkpoints / "step-3" / file
    match damage:
        case "truncated":
            os.truncate(target, target.stat().st_size - 1)
        case "changed":
            content = bytearray(target.read_bytes())
            content[-1] ^= 1
            target.write_bytes(content)
        case "missing":
            target.unlink()
        case "added":
            (paths.checkpoints / "step-3" / "stray").touch()
    restored = Checkpoints(paths).restore(stage_hash=HASH)
    assert restored is not None and restored.meta.step == 2
    assert restored.skipped is not None
    assert (restored.skipped.directory, restored.skipped.step) == (paths.checkpoints / "step-3", 3)
    assert "digest" in restored.skipped.reason or "cannot be read" in restored.skipped.reason
    assert whole_state(paths) == (2, 1)

    # Trained again, the same step replaces the damaged one, and the best of the lost future is not believed.
    checkpoints = Checkpoints(paths)
    checkpoints.restore(stage_hash=HASH)
    checkpoints.save(weights=weights(3), optimizer=optimizer(3), meta=meta(3, 1))
    assert whole_state(paths) == (3, 1)
    # Damaged once more, it has the same one to fall back to.
    (paths.checkpoints / "step-3.2" / "stray").touch()
    assert whole_state(paths) == (2, 1)


def test_no_intact_checkpoint_is_an_error_that_names_them_not_a_silent_fresh_start(tmp_path: Path) -> None:
    paths = StagePaths(tmp_path)
    save(paths, 1, 1)
    save(paths, 2, 1)
    for step in (1, 2):
        os.truncate(paths.checkpoints / f"step-{step}" / "weights.safetensors", 0)
    with pytest.raises(InputMissing, match=r"step-2.*step-1.*remove"):
        Checkpoints(paths).restore(stage_hash=HASH)


@pytest.mark.parametrize("content", ["{torn", "[]", '{"latest": 3}', '{"latest": {"directory": "step-1"}}'])
def test_a_checkpoint_json_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    paths = StagePaths(tmp_path)
    save(paths, 1, 1)
    paths.pointer.write_text(content)
    for use in (lambda checkpoints: checkpoints.restore(stage_hash=HASH), Checkpoints.best_weights):
        with pytest.raises(InputMissing, match=rf"{paths.pointer} is not readable.* remove {paths.directory} "):
            use(Checkpoints(paths))


def test_best_weights_that_are_not_there_or_damaged_are_an_error_that_names_them(tmp_path: Path) -> None:
    paths = StagePaths(tmp_path)
    save(paths, 1, None)
    with pytest.raises(InputMissing, match=rf"{paths.pointer} names no best checkpoint"):
        Checkpoints(paths).best_weights()
    save(paths, 2, 2)
    shutil.rmtree(paths.checkpoints / "step-2")
    with pytest.raises(InputMissing, match=rf"not intact: {paths.checkpoints}/step-2: cannot be read \(No such file"):
        Checkpoints(paths).best_weights()


def test_where_nothing_was_saved_nothing_is_restored(tmp_path: Path) -> None:
    assert Checkpoints(StagePaths(tmp_path)).restore(stage_hash=HASH) is None


def test_a_state_saved_without_an_optimizer_comes_back_without_one(tmp_path: Path) -> None:
    paths = StagePaths(tmp_path)
    Checkpoints(paths).save(weights=weights(1), optimizer=None, meta=meta(1, 1), best=Best(weights(1), meta(1, 1)))
    restored = Checkpoints(paths).restore(stage_hash=HASH)
    assert restored is not None and restored.optimizer == {} and restored.skipped is None


def test_a_state_that_a_checkpoint_cannot_hold_is_refused_by_its_place_and_type(tmp_path: Path) -> None:
    state = {"state": {0: [1, {2}]}}
    with pytest.raises(TypeError, match=r"^optimizer state /state/0/1 is a set, which a checkpoint cannot store$"):
        Checkpoints(StagePaths(tmp_path)).save(weights={}, optimizer=state, meta=meta(1))


def test_another_stage_hash_is_refused(tmp_path: Path) -> None:
    paths = StagePaths(tmp_path)
    save(paths, 1, 1)
    with pytest.raises(ConfigError, match=r"hhhhhhhhhhhh.*other"):
        Checkpoints(paths).restore(stage_hash="other")


def test_every_file_is_synced_before_its_name_and_its_name_before_the_pointer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = StagePaths(tmp_path / "tokenizer")
    events: list[str] = []

    def fsync(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        events.append(
            "sync " + next(path.name for path in (tmp_path, *tmp_path.rglob("*")) if path.stat().st_ino == inode)
        )

    for name in ("rename", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda a, b, real=real: (events.append(f"name {Path(b).name}"), real(a, b)))
    monkeypatch.setattr(os, "fsync", fsync)
    save(paths, 1, 1)
    order = [
        *(f"sync {name}" for name in ("weights.safetensors", "optimizer.safetensors", "optimizer.json", "meta.json")),
        "sync .aside-step-1",
        "name step-1",
        "sync checkpoints",
        "sync .aside-checkpoint.json",
        "name checkpoint.json",
        "sync tokenizer",
    ]
    last = {event: index for index, event in enumerate(events)}
    positions = [last[event] for event in order]
    assert max(positions[:4]) < positions[4] and positions[4:] == sorted(positions[4:])


def test_only_what_is_named_is_kept(tmp_path: Path) -> None:
    paths = StagePaths(tmp_path)
    for step in range(1, 8):
        save(paths, step, 2 if step >= 2 else 1)
    assert sorted(path.name for path in paths.checkpoints.iterdir()) == ["step-2", "step-6", "step-7"]


def test_what_a_killed_writer_left_makes_room_before_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = StagePaths(tmp_path)
    save(paths, 1, 1)
    for stray in ("step-7", f"{durable.ASIDE}step-8"):
        (paths.checkpoints / stray).mkdir()

    def write(tensors: object, path: Path) -> None:
        assert (
            not (paths.checkpoints / "step-7").exists() and not (paths.checkpoints / f"{durable.ASIDE}step-8").exists()
        )
        raise full_disk()

    monkeypatch.setattr(tensors, "save_file", write)
    with pytest.raises(StorageError, match="No space left"):
        save(paths, 2, 1)
    assert whole_state(paths) == (1, 1)


def test_a_step_directory_never_changes(tmp_path: Path) -> None:
    paths = StagePaths(tmp_path)
    save(paths, 5, None)
    before = {path.name: path.stat() for path in (paths.checkpoints / "step-5").iterdir()}
    save(paths, 5, 5)  # after the validation of the same step
    assert {path.name: path.stat() for path in (paths.checkpoints / "step-5").iterdir()} == before
    assert whole_state(paths) == (5, 5)
    save(paths, 5, 5)
    assert whole_state(paths) == (5, 5)
    assert sorted(path.name for path in paths.checkpoints.iterdir()) == ["step-5.2", "step-5.3"]


def test_a_real_write_limit_is_a_storage_error_that_names_path_and_free_space(tmp_path: Path) -> None:
    paths = StagePaths(tmp_path)
    save(paths, 1, 1)
    big = {"weight": torch.zeros(1_000_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=r"step-2.*MiB free"):
            Checkpoints(paths).save(weights=big, optimizer=None, meta=meta(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert whole_state(paths) == (1, 1)
    assert [path.name for path in paths.checkpoints.iterdir()] == ["step-1"]


def test_a_checkpoint_that_cannot_be_read_back_is_a_storage_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def file_digest(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    paths = StagePaths(tmp_path)
    with pytest.raises(StorageError, match=rf"{paths.checkpoints}/step-1: Input/output error"):
        save(paths, 1, 1)
    assert Checkpoints(paths).restore(stage_hash=HASH) is None


def test_an_adamw_state_comes_back_bit_for_bit_and_continues_alike(tmp_path: Path) -> None:
    def step(model: torch.nn.Linear, adam: torch.optim.AdamW) -> None:
        adam.zero_grad()
        model(torch.arange(6.0).reshape(2, 3)).square().sum().backward()
        adam.step()

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    adam = torch.optim.AdamW(model.parameters(), lr=0.1 + 0.2, betas=(0.9, 0.95))
    step(model, adam)
    paths = StagePaths(tmp_path)
    Checkpoints(paths).save(weights=model.state_dict(), optimizer=adam.state_dict(), meta=meta(1))
    restored = Checkpoints(paths).restore(stage_hash=HASH)
    assert restored is not None
    again = torch.nn.Linear(3, 2)
    again.load_state_dict(restored.weights)
    adam_again = torch.optim.AdamW(again.parameters())
    adam_again.load_state_dict(restored.optimizer)
    assert restored.optimizer["param_groups"] == adam.state_dict()["param_groups"]
    step(model, adam)
    step(again, adam_again)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_tensors_come_back_to_their_places_in_tuples_and_lists(tmp_path: Path) -> None:
    first, second, third = (torch.full((2,), value) for value in (1.0, 2.0, 3.0))
    paths = StagePaths(tmp_path)
    state = {"pair": (first, second), "several": [[third], second + 2]}
    Checkpoints(paths).save(weights={}, optimizer=state, meta=meta(1))
    restored = Checkpoints(paths).restore(stage_hash=HASH)
    assert restored is not None
    assert [tensor.tolist() for tensor in restored.optimizer["pair"]] == [[1, 1], [2, 2]]
    assert isinstance(restored.optimizer["pair"], tuple)
    ((inner,), outer) = restored.optimizer["several"]
    assert (inner.tolist(), outer.tolist()) == ([3, 3], [4, 4])


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=st.dictionaries(st.text(max_size=5), TREES, max_size=3), dtype=st.sampled_from([torch.float32, torch.bfloat16])
)
def test_any_state_dict_round_trips(tmp_path: Path, tree: dict[str, Any], dtype: torch.dtype) -> None:
    paths = StagePaths(tmp_path)
    tensor = torch.tensor([1.5, -0.0], dtype=dtype)
    Checkpoints(paths).save(weights={}, optimizer={"tree": tree, "tensor": tensor}, meta=meta(1))
    restored = Checkpoints(paths).restore(stage_hash=HASH)
    assert restored is not None
    assert restored.optimizer["tree"] == tree and repr(restored.optimizer["tree"]) == repr(tree)
    assert torch.equal(restored.optimizer["tensor"], tensor) and restored.optimizer["tensor"].dtype == dtype


def test_a_checkpoint_of_an_older_release_that_stored_more_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_more(stored: Any) -> dict[str, Any]:
        return asdict(stored) | ({"windows_seen": 64} if isinstance(stored, Meta) else {})

    with monkeypatch.context() as patch:
        patch.setattr("kronos_trainer.storage.checkpoint.asdict", with_more)
        save(StagePaths(tmp_path), 1, None)
    restored = Checkpoints(StagePaths(tmp_path)).restore(stage_hash=HASH)
    assert restored is not None and (restored.meta, restored.skipped) == (meta(1), None)
