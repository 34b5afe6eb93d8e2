"""A stage in one process: what training does, what it keeps, when it ends."""

from __future__ import annotations

import functools
import io
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from obstore.store import MemoryStore
from safetensors.torch import load_file

from kronos_trainer.config import RunConfig, StageName
from kronos_trainer.errors import ConfigError, DataError, Diverged, InputMissing, OutOfMemory, Stopped
from kronos_trainer.model.directory import weights_digest
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import scratch_net
from kronos_trainer.storage import stores
from kronos_trainer.storage.checkpoint import Checkpoints
from kronos_trainer.storage.mirror import Mirror
from kronos_trainer.training import batching, train
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.predictor import PredictorTask
from kronos_trainer.training.progress import Progress
from kronos_trainer.training.tokenizer import TokenizerTask

MakeRun = Callable[..., RunConfig]


def run_stage(
    run: RunConfig, stop_requested: Callable[[], bool] = lambda: False, said: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Trains a stage in this process and returns what it said, in `said` even where it raises."""
    stream, said = io.StringIO(), [] if said is None else said
    ranks = Ranks(device=torch.device("cpu"))
    try:
        train.train_stage(run, ranks, progress=Progress(run, stream=stream), stop_requested=stop_requested)
    finally:
        said += [json.loads(line) for line in stream.getvalue().splitlines()]
    return said


def result_of(run: RunConfig) -> dict[str, Any]:
    result = run.paths().stage(run.stage).completed()
    assert result is not None
    return result.wire


def metrics_of(run: RunConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.paths().stage(run.stage).metrics.read_text().splitlines()]


def weights_of(run: RunConfig) -> dict[str, torch.Tensor]:
    return load_file(run.paths().stage(run.stage).best / "model.safetensors")


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_both_stages_learn(trainable: MakeRun) -> None:
    fields = {"tokenizer": {"epochs": 4}, "predictor": {"epochs": 4}}
    for stage in ("tokenizer", "predictor"):
        run = trainable(stage=stage, publish=stage == "predictor", **fields)
        said = run_stage(run)
        result = result_of(run)
        assert result["bestValidationLoss"] < 0.95 * result["initialValidationLoss"]
        losses = [line["loss"] for line in metrics_of(run) if "loss" in line]
        assert losses[-1] < 0.95 * losses[0]
        assert said[-1]["event"] == "result"
        assert result["epochs"] * 23 == result["steps"] == metrics_of(run)[-1]["step"]
        phases = [line["phase"] for line in said if line["event"] == "phase"]
        assert phases[0] == "loading"
        assert set(phases) >= {"training", "validating", "saving"}
        assert {line["checkpoint"] for line in said if "checkpoint" in line} <= {result["steps"]}
        assert ("tokenising" in phases) == (stage == "predictor")
    assert run.paths().current.exists()


def test_weights_that_training_made_worse_are_not_kept(trainable: MakeRun) -> None:
    run = trainable(tokenizer={"learning_rate": 1.0})
    run_stage(run)
    result = result_of(run)
    assert (result["bestStep"], result["bestEpoch"]) == (0, 0)
    assert result["bestValidationLoss"] == result["initialValidationLoss"]
    assert same(weights_of(run), scratch_net(TOKENIZER, "tiny", run.training.seed).state_dict())


def test_early_stopping_counts_validations_without_improvement(trainable: MakeRun) -> None:
    run = trainable(
        tokenizer={"learning_rate": 1.0, "epochs": 9},
        training={"precision": "fp32", "early_stopping": {"patience": 2}},
    )
    run_stage(run)
    assert result_of(run)["epochs"] == 2


def test_a_complete_stage_is_left_alone(trainable: MakeRun) -> None:
    run = trainable(tokenizer={"epochs": 1})
    run_stage(run)
    before = {path: path.stat().st_mtime_ns for path in Path(run.output).rglob("*")}
    said = run_stage(run)
    assert {path: path.stat().st_mtime_ns for path in Path(run.output).rglob("*")} == before
    assert said[-1]["result"] == result_of(run)


def test_a_crash_after_training_repeats_only_the_export(trainable: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainable(tokenizer={"epochs": 1})

    def crash(*arguments: object) -> dict[str, object]:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(train, "finish_stage", crash)
        with pytest.raises(OSError, match="power cut"):
            run_stage(run)
    before = _timeless(metrics_of(run))
    monkeypatch.setattr(TokenizerTask, "loss", crash)
    run_stage(run)
    assert _timeless(metrics_of(run)) == before
    assert result_of(run)["steps"] == 23


def test_a_stop_during_validation_is_resumed_bit_for_bit(trainable: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state after an epoch's last step, before its validation, is one to resume from too."""
    scores = 0
    score = TokenizerTask.score

    def counting(self: TokenizerTask, indices: torch.Tensor) -> torch.Tensor:
        nonlocal scores
        scores += 1
        return score(self, indices)

    def past(limit: int) -> bool:
        return scores > limit

    monkeypatch.setattr(TokenizerTask, "score", counting)
    monkeypatch.setitem(batching.VALIDATION_TOKENS, "cpu", 64)  # so that a validation has several rounds
    whole = trainable(run="whole")
    run_stage(whole)
    one_validation = scores // 3
    assert one_validation > 1
    run = trainable(run="stopped")
    # In the validation of the first weights, where there is nothing to save, then in the one after the first epoch.
    for attempt, limit in enumerate((0, one_validation)):
        scores = 0
        said: list[dict[str, Any]] = []
        with pytest.raises(Stopped):
            run_stage(run.model_copy(update={"attempt": attempt}), functools.partial(past, limit), said)
    assert json.loads(run.paths().stage(run.stage).pointer.read_text())["latest"]["step"] == 23
    assert said[-1]["checkpoint"] == 23
    run_stage(run.model_copy(update={"attempt": 2}))
    assert same(weights_of(run), weights_of(whole))
    assert _timeless(metrics_of(run)) == _timeless(metrics_of(whole))
    # The first attempt of three left no checkpoint, and so no line.
    assert [line for line in metrics_of(run) if "attempt" in line] == [
        {"attempt": 1, "step": 0},
        {"attempt": 2, "step": 23},
    ]


def _timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines without what differs between attempts."""
    return [
        {key: value for key, value in line.items() if key != "samplesPerSecond"}
        for line in lines
        if "attempt" not in line
    ]


@pytest.mark.parametrize("stage", ["tokenizer", "predictor"])
def test_recomputed_activations_change_nothing(trainable: MakeRun, stage: str) -> None:
    """Dropout included: the recomputation must draw what the first pass drew."""
    weights = []
    for recompute in (False, True):
        fields = {"tokenizer": {"epochs": 1}, "predictor": {"epochs": 1}, "run": f"run-{recompute}".lower()}
        training = {"precision": "fp32", "gradient_checkpointing": recompute, "windows_per_epoch": 48}
        for name in StageName.with_weights():
            run = trainable(stage=name, training=training, **fields)
            run_stage(run)
            if name == stage:
                break
        weights.append(weights_of(run))
    assert same(*weights)


def test_bf16_and_compile_train_about_as_well(trainable: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler only traces here: generating code takes it a minute, whatever the model's size."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    run_stage(trainable(tokenizer={"epochs": 1}))
    results = []
    for name, training in (
        ("plain", {"precision": "fp32"}),
        ("bf16", {"precision": "bf16"}),
        ("compiled", {"precision": "fp32", "compile": True}),
    ):
        run = trainable(stage="predictor", predictor={"epochs": 1}, training=training | {"windows_per_epoch": 160})
        said = run_stage(run)
        assert ("compiling" in {line.get("phase") for line in said}) == (name == "compiled")
        results.append(result_of(run))
        assert weights_of(run).keys() == scratch_net(PREDICTOR, "tiny", 0).state_dict().keys()
        for path in (run.paths().stage(run.stage).result, run.paths().stage(run.stage).pointer):
            path.unlink()
    plain, *others = (result["bestValidationLoss"] for result in results)
    assert others == pytest.approx([plain, plain], rel=2e-2)
    assert [result["precision"] for result in results] == ["fp32", "bf16", "fp32"]


def test_bars_and_results_behind_uris(
    trainable: MakeRun, bars_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second attempt that finds an empty working copy goes on from what the first left behind the URI."""
    bucket = MemoryStore()
    monkeypatch.setitem(stores._KINDS, "s3", lambda *args, **options: bucket)
    bucket.put("bars/bars.csv", bars_file)
    run = trainable(bars="s3://bucket/bars", output="s3://bucket/results")
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps > 40

    with pytest.raises(Stopped):
        run_stage(run, stop)
    for copy in tmp_path.glob("kronos-*"):
        shutil.rmtree(copy)
    said = run_stage(run)
    assert next(line["step"] for line in said if line.get("phase") == "training") > 0
    kept = Mirror(run, tmp_path / "kept")
    kept.pull()
    left = kept.paths.stage(StageName.TOKENIZER)
    assert json.loads(left.result.read_text()) == said[-1]["result"]
    assert weights_digest(left.best) == said[-1]["result"]["digest"]


@pytest.mark.parametrize("output", ["outputs", "s3://bucket/results"])
def test_a_warm_start_begins_where_the_published_run_ended(
    trainable: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    bucket = MemoryStore()
    monkeypatch.setitem(stores._KINDS, "s3", lambda *args, **options: bucket)
    monkeypatch.chdir(tmp_path)
    warm = {"init": {"published": True}}
    second = {"run": "run-2", "stage_hashes": {"tokenizer": "u" * 12, "predictor": "q" * 12}, "output": output}
    second |= {"stage": "predictor", "tokenizer": warm | {"epochs": 0}, "predictor": warm | {"epochs": 1}}
    with pytest.raises(InputMissing, match="has not published weights yet; train it once from other weights"):
        run_stage(trainable(**second))

    few = {"precision": "fp32", "windows_per_epoch": 64}
    first = {
        stage: run_stage(
            trainable(stage=stage, publish=stage == "predictor", output=output, training=few, **{stage: {"epochs": 1}})
        )[-1]["result"]
        for stage in ("tokenizer", "predictor")
    }
    for copy in tmp_path.glob("kronos-*/outputs"):
        shutil.rmtree(copy)  # of another machine
    result = run_stage(trainable(**second, training=few))[-1]["result"]
    assert result["initialValidationLoss"] == first["predictor"]["bestValidationLoss"]
    assert result["origin"] == f"published:run-1@{first['predictor']['digest'][:12]}"
    start = {"run": "run-1", "digests": {"tokenizer": "0" * 64, "predictor": "0" * 64}}
    with pytest.raises(InputMissing, match="does not contain the weights published by run run-1"):
        run_stage(trainable(**second | {"run": "run-3", "warm_start": start}))


def test_a_damaged_checkpoint_is_reported_once_and_the_one_before_it_used(trainable: MakeRun) -> None:
    run = trainable()
    asked = itertools.count()
    for limit in (10, 30):
        with pytest.raises(Stopped):
            run_stage(run, lambda limit=limit: next(asked) > limit)
    files = run.paths().stage(run.stage)
    before = json.loads(files.pointer.read_text())["previous"]["step"]
    assert before > 0
    step = json.loads(files.pointer.read_text())["latest"]["step"]
    weights = files.checkpoints / f"step-{step}" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (skipped,) = [line for line in run_stage(run) if line["event"] == "checkpointSkipped"]
    assert (skipped["step"], skipped["directory"]) == (step, str(files.checkpoints / f"step-{step}"))
    assert skipped["reason"].startswith("its digest differs")
    assert skipped["directory"] in skipped["message"] and f"resuming from step {before} instead" in skipped["message"]


def test_a_rank_is_given_time_to_save_from_the_first_step_on(trainable: MakeRun) -> None:
    run, stream, begun = trainable(), io.StringIO(), []

    def on_training() -> None:
        said = [json.loads(line) for line in stream.getvalue().splitlines()]
        begun.append([event["phase"] for event in said if event["event"] == "phase"])

    for _ in range(2):  # the second time there is nothing to train
        progress = Progress(run, stream=stream)
        ranks = Ranks(device=torch.device("cpu"))
        train.train_stage(run, ranks, progress=progress, stop_requested=lambda: False, on_training=on_training)
    assert begun == [["loading"]]


def test_a_stop_while_bars_are_read_needs_no_checkpoint(trainable: MakeRun) -> None:
    run = trainable()
    with pytest.raises(Stopped, match="before training began"):
        run_stage(run, stop_requested=lambda: True)
    assert not run.paths().stage(run.stage).pointer.exists()


def test_a_validation_scores_the_same_few_windows_each_time(
    trainable: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: dict[str, list[int]] = {}
    for stage, task in (("tokenizer", TokenizerTask), ("predictor", PredictorTask)):
        seen: list[int] = []
        score = task.score
        monkeypatch.setattr(
            task,
            "score",
            lambda self, indices, score=score, seen=seen: seen.extend(indices.tolist()) or score(self, indices),
        )
        training = {"precision": "fp32", "windows_per_epoch": 16, "validation_windows": 7}
        run = trainable(stage=stage, training=training)
        events = run_stage(run)
        assert result_of(run)["windows"]["validation"] == 7
        assert not [event for event in events if "validationWindows" in str(event.get("message"))]
        assert seen[:7] == seen[7:14] == seen[14:] == sorted(set(seen))
        scored[stage] = seen
    assert scored["tokenizer"] == scored["predictor"]


def test_a_validation_that_costs_more_than_training_is_noted_on_a_cpu(trainable: MakeRun) -> None:
    few = {"epochs": 1, "batch_size": 2}
    events = run_stage(trainable(tokenizer=few, training={"precision": "fp32", "windows_per_epoch": 2}))
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert [note for note in notes if note.endswith("training.validationWindows limits it")]


def test_upstream_exact_samples_in_validation(trainable: MakeRun) -> None:
    """Same first weights, but a loss with chance and future in it; and it is repeatable all the same."""
    run_stage(trainable(tokenizer={"epochs": 1}))
    losses = []
    for exact in (False, True, True):
        training = {"precision": "fp32", "windows_per_epoch": 16, "upstream_exact": exact}
        run = trainable(stage="predictor", predictor={"epochs": 1}, training=training)
        run_stage(run)
        losses.append([line["validationLoss"] for line in metrics_of(run) if "validationLoss" in line])
        files = run.paths().stage(run.stage)
        for path in (files.result, files.pointer):
            path.unlink()
    assert losses[0][0] != losses[1][0]
    assert losses[1] == losses[2]


def test_out_of_memory_halves_the_micro_batch_until_it_is_one(
    trainable: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = TokenizerTask.loss
    room = 2

    def cramped(self: TokenizerTask, model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if len(batch[0]) > room:
            raise torch.OutOfMemoryError
        return loss(self, model, batch)

    monkeypatch.setattr(TokenizerTask, "loss", cramped)
    run = trainable(tokenizer={"epochs": 1})
    with pytest.raises(OutOfMemory, match=r"with 4 windows per process.* uses 2, and the batch of 16 is unchanged"):
        run_stage(run)
    run_stage(run.model_copy(update={"out_of_memory_restarts": 1}))
    _, meta = Checkpoints(run.paths().stage(run.stage)).best_weights()
    assert meta.step == 23
    room = 0
    with pytest.raises(ConfigError, match="gradientCheckpointing"):
        run_stage(trainable(run="smaller", out_of_memory_restarts=2))


def test_an_infinite_validation_loss_ends_the_stage(trainable: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenizerTask, "score", lambda self, indices: torch.tensor(torch.inf))
    with pytest.raises(Diverged, match=r"validation loss is inf after epoch 0.*tokenizer\.learningRate"):
        run_stage(trainable())


def test_impossible_configs_are_refused_before_training(trainable: MakeRun) -> None:
    with pytest.raises(DataError, match="no complete optimizer step"):
        run_stage(trainable(tokenizer={"batch_size": 4096}))
    with pytest.raises(ConfigError, match="out of memory with 1 window"):
        run_stage(trainable(out_of_memory_restarts=3))
    with pytest.raises(InputMissing, match="requires a trained tokenizer"):
        run_stage(trainable(stage="predictor"))
