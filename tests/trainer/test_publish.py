"""What a run leaves for others is whole, or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kronos_trainer.config import BarsRead, RunConfig, StageName, StageResult, WindowCounts
from kronos_trainer.errors import InputMissing, StorageError
from kronos_trainer.model.directory import weights_digest
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import load_net, save_weights, scratch_net
from kronos_trainer.storage.checkpoint import Best, Checkpoints, Meta
from kronos_trainer.storage.publish import ensure_weights, finish_stage, is_complete, settle
from kronos_trainer.training.stages import kind_of

MakeRun = Callable[..., RunConfig]
SEEDS = {StageName.TOKENIZER: 1, StageName.PREDICTOR: 2}

RESULT = StageResult(
    started_at="2026-03-01T08:00:00Z",
    finished_at="2026-03-01T09:02:05Z",
    seconds=3725.432,
    epochs=2,
    steps=200,
    parameters=12345,
    world_size=2,
    initial_validation_loss=0.5,
    best_validation_loss=0.25,
    best_step=100,
    best_epoch=1,
    final_train_loss=float("nan"),
    windows=WindowCounts(train=6400, validation=640),
    data=BarsRead(digest="d" * 64, symbols=5, bars=17000, notes=("FB is too short for a test split and was left out",)),
    origin="scratch:tiny",
    precision="fp32",
    device="cpu",
    samples_per_second=123.4,
)


def trained(run: RunConfig, seed: int) -> KronosTokenizer | KronosPredictor:
    return scratch_net(kind_of(run.stage), "tiny", seed)


def train(run: RunConfig) -> StageResult:
    """Does what the loop does at a stage's end: the best checkpoint is not the last, nor what the model holds."""
    checkpoints = Checkpoints(run.paths().stage(run.stage))
    for step, best in ((100, True), (200, False)):
        meta = Meta(
            step=step, epoch=step // 100, stage_hash=run.stage_hashes[run.stage], world_size=2, best_step=100,
            best_loss=0.25, initial_loss=0.5, validations_since_best=0, seconds=1.0,
        )  # fmt: skip
        weights = trained(run, SEEDS[run.stage] if best else 99).state_dict()
        checkpoints.save(weights=weights, optimizer=None, meta=meta, best=Best(weights, meta) if best else None)
    return finish_stage(run, run.paths(), RESULT, trained(run, 98))


def tree(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(directory.rglob("*"))}


def assert_published(run: RunConfig) -> dict[str, Any]:
    """The model's current run, after checking that everything that it names is there and is what it says."""
    paths = run.paths()
    current: dict[str, Any] = json.loads(paths.current.read_text())
    assert current["run"] == run.run
    assert current["window"] == {"lookback": 12, "horizon": 3, "maxContext": 512}
    for stage in StageName.with_weights():
        best = paths.model_dir / current[stage]["path"]
        assert best.is_relative_to(paths.run_dir), "a run directory is whole by itself"
        assert current[stage]["digest"] == weights_digest(best)
        assert current[stage]["hash"] == run.stage_hashes[stage]
    load_net(TOKENIZER, paths.model_dir / current["tokenizer"]["path"])
    load_net(PREDICTOR, paths.model_dir / current["predictor"]["path"])
    return current


def test_a_stage_exports_its_best_checkpoint_and_its_result(make_run: MakeRun) -> None:
    run = make_run(attempt=4)
    assert not is_complete(run, run.paths()) and settle(run, run.paths()) is None
    result = train(run)
    stage = run.paths().stage(StageName.TOKENIZER)
    exported, best = load_net(TOKENIZER, stage.best).state_dict(), scratch_net(TOKENIZER, "tiny", 1).state_dict()
    assert all(torch.equal(exported[name], best[name]) for name in best)
    wire = json.loads(stage.result.read_text())
    assert wire == result.wire
    assert wire["digest"] == result.digest == weights_digest(stage.best)
    assert wire["finalTrainLoss"] is None  # it was NaN
    assert {key: wire[key] for key in ("stage", "hash", "run", "attempt", "startedAt", "seconds", "bestStep")} == {
        "stage": "tokenizer", "hash": "t" * 12, "run": "run-1", "attempt": 4, "startedAt": "2026-03-01T08:00:00Z",
        "seconds": 3725.432, "bestStep": 100,
    }  # fmt: skip
    assert not run.paths().current.exists()
    assert is_complete(run, run.paths()) and not is_complete(
        make_run(stage_hashes={"tokenizer": "x" * 12, "predictor": "p" * 12}), run.paths()
    )


def test_the_last_stage_publishes_and_a_repetition_writes_nothing(make_run: MakeRun) -> None:
    train(make_run())
    run = make_run(stage="predictor", publish=True)
    assert ensure_weights(run, run.paths(), StageName.TOKENIZER) == run.paths().stage(StageName.TOKENIZER).best
    train(run)
    current = assert_published(run)
    assert current["by"] == "training" and "previous" not in current and "calibration" not in current
    assert "was not judged" in run.paths().report.read_text()
    assert current["data"] == {
        "digest": "d" * 64,
        "clip": 5.0,
        "timeZone": None,
        "calendar": None,
        "columns": None,
        "label": "left",
        "adjust": "none",
    }
    before = tree(run.paths().root)
    assert is_complete(run, run.paths())
    assert settle(run, run.paths()) == run.paths().stage(run.stage).completed()
    ensure_weights(run, run.paths(), StageName.TOKENIZER)
    assert tree(run.paths().root) == before


def test_a_reused_tokenizer_is_copied_so_that_the_run_is_whole(make_run: MakeRun) -> None:
    old = make_run(run="run-0")
    train(old)
    run = make_run(stage="predictor", publish=True, reuse_tokenizer={"run": "run-0", "hash": "t" * 12})
    ensure_weights(run, run.paths(), StageName.TOKENIZER)
    train(run)
    shutil.rmtree(old.paths().run_dir)
    assert_published(run)
    report = run.paths().report.read_text()
    assert ">run run-0<" in report


@pytest.mark.parametrize("damage", ["no result", "other hash", "changed weights"])
def test_a_tokenizer_that_cannot_be_reused_is_said(make_run: MakeRun, damage: str) -> None:
    old = make_run(run="run-0")
    train(old)
    stage = old.paths().stage(StageName.TOKENIZER)
    if damage == "no result":
        stage.result.unlink()
    elif damage == "changed weights":
        save_weights(scratch_net(TOKENIZER, "tiny", 7), stage.best)
    reuse = {"run": "run-0", "hash": "y" * 12 if damage == "other hash" else "t" * 12}
    run = make_run(stage="predictor", reuse_tokenizer=reuse)
    with pytest.raises(InputMissing, match="run-0"):
        ensure_weights(run, run.paths(), StageName.TOKENIZER)
    assert not run.paths().stage(StageName.TOKENIZER).result.exists()


def test_a_predictor_without_a_tokenizer_says_how_to_get_one(make_run: MakeRun) -> None:
    run = make_run(stage="predictor")
    message = r"predictor requires a trained tokenizer.*--stage tokenizer.*KRONOS_TOKENIZER_PATH.*epochs"
    with pytest.raises(InputMissing, match=message):
        ensure_weights(run, run.paths(), StageName.TOKENIZER)
    train(make_run(stage_hashes={"tokenizer": "z" * 12, "predictor": "p" * 12}))  # trained, but with another config
    with pytest.raises(InputMissing, match=message):
        ensure_weights(run, run.paths(), StageName.TOKENIZER)


def test_a_stage_without_epochs_uses_the_initial_weights_unchanged(make_run: MakeRun, tmp_path: Path) -> None:
    initial = tmp_path / "initial"
    initial.mkdir()
    save_weights(scratch_net(TOKENIZER, "tiny", 5), initial)
    run = make_run(stage="predictor", publish=True, tokenizer={"init": {"path": str(initial)}, "epochs": 0})
    directory = ensure_weights(run, run.paths(), StageName.TOKENIZER)
    assert weights_digest(directory) == weights_digest(initial) and directory != initial
    train(run)
    assert_published(run)
    result = run.paths().stage(StageName.TOKENIZER).completed()
    assert result is not None and result.epochs == 0 and result.origin.startswith("path:")


def test_stages_that_both_have_no_epochs_are_published_without_training(make_run: MakeRun, tmp_path: Path) -> None:
    for name, kind in (("tokenizer", TOKENIZER), ("predictor", PREDICTOR)):
        (tmp_path / name).mkdir()
        save_weights(scratch_net(kind, "tiny", 5), tmp_path / name)
    stages = {name: {"init": {"path": str(tmp_path / name)}, "epochs": 0} for name in ("tokenizer", "predictor")}
    run = make_run(stage="predictor", publish=True, **stages)
    assert settle(run, run.paths()) is not None
    assert_published(run)


@pytest.mark.parametrize("reuse", [False, True])
def test_a_publication_that_is_cut_off_anywhere_names_nothing_half_done_and_can_be_repeated(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, reuse: bool
) -> None:
    class Killed(BaseException):
        pass

    old = make_run(run="run-0")
    train(old)
    if not reuse:
        train(make_run())
    run = make_run(
        stage="predictor", publish=True, reuse_tokenizer={"run": "run-0", "hash": "t" * 12} if reuse else None
    )
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    cuts = 0
    for failing in range(1, 200):
        shutil.rmtree(run.paths().stage(StageName.PREDICTOR).directory, ignore_errors=True)
        if reuse:
            shutil.rmtree(run.paths().run_dir, ignore_errors=True)
        run.paths().current.unlink(missing_ok=True)
        left = iter(range(failing - 1))

        def cut(real: Callable[..., Any], left: Iterator[int] = left) -> Callable[..., Any]:
            def guarded(*args: Any, **kwargs: Any) -> Any:
                if next(left, None) is None:
                    raise Killed
                return real(*args, **kwargs)

            return guarded

        with monkeypatch.context() as patch:
            for name in ("rename", "replace", "mkdir"):
                patch.setattr(os, name, cut(getattr(os, name)))
            try:
                train(run)
            except Killed:
                cuts += 1
        if run.paths().current.exists():
            assert_published(run)
        if is_complete(run, run.paths()):
            break
        # What the next attempt does: go on with what is complete, else train again.
        if settle(run, run.paths()) is None:
            train(run)
        assert_published(run)
        assert run.paths().report.is_file() and is_complete(run, run.paths())
    assert cuts > 8


def test_a_full_disk_while_exporting_is_a_storage_error_and_completes_nothing(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("kronos_trainer.storage.publish.save_weights", full)
        with pytest.raises(StorageError, match=r"best.*No space left.*MiB free"):
            train(run)
    assert not is_complete(run, run.paths()) and not run.paths().stage(run.stage).best.exists()


def test_a_run_that_was_overtaken_becomes_current_again_when_it_is_asked_for_again(make_run: MakeRun) -> None:
    for name in ("run-a", "run-b"):
        train(make_run(run=name))
        train(make_run(run=name, stage="predictor", publish=True))
    run = make_run(run="run-a", stage="predictor", publish=True)
    assert not is_complete(run, run.paths())
    settle(run, run.paths())
    assert_published(run)


def test_the_result_survives_what_the_loop_may_not_know(make_run: MakeRun) -> None:
    run = make_run()
    train(run)
    losses = dict.fromkeys(("initial_validation_loss", "best_validation_loss", "samples_per_second"))
    unknown = RESULT.model_copy(update=losses)
    run_2 = make_run(stage="predictor", publish=True)
    train(run_2)
    run_2.paths().current.unlink()
    finish_stage(run_2, run_2.paths(), unknown, trained(run_2, 1))
    assert "rained without a validation loss" in run_2.paths().report.read_text()
