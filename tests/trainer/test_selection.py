"""Best weights by the CRPS of validation forecasts: which epoch they are of, and that nothing else moves."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kronos_trainer.config import RunConfig
from kronos_trainer.data.bars import Bars, prepare_bars
from kronos_trainer.data.windows import split_bars
from kronos_trainer.errors import ConfigError, Diverged, Stopped
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import save_weights, scratch_net
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.progress import Progress
from kronos_trainer.training.selection import Forecasts, forecasts_of, origins
from kronos_trainer.training.train import train_stage

MakeRun = Callable[..., RunConfig]
CPU = torch.device("cpu")
BY_CRPS = {"precision": "fp32", "windows_per_epoch": 32, "validation_windows": 8, "select_by": "crps"}


@pytest.fixture
def predictor(trainable: MakeRun, tmp_path: Path) -> MakeRun:
    """A run of a predictor, two steps an epoch, whose tokenizer is used as it is; four forecasts a validation."""
    weights = tmp_path / "tokenizer"
    weights.mkdir()
    save_weights(scratch_net(TOKENIZER, "tiny", 1), weights)

    def make(*, epochs: int = 4, run: str = "run-1", **training: Any) -> RunConfig:
        fields: dict[str, Any] = {"tokenizer": {"epochs": 0, "init": {"path": str(weights)}}}
        fields["predictor"] = {"epochs": epochs}
        return trainable(stage="predictor", run=run, training=BY_CRPS | {"select_windows": 4} | training, **fields)

    return make


def run_stage(run: RunConfig, stop_requested: Callable[[], bool] = lambda: False) -> None:
    ranks = Ranks(device=CPU)
    train_stage(run, ranks, progress=Progress(run, silent=True), stop_requested=stop_requested)


def result_of(run: RunConfig) -> dict[str, Any]:
    result = run.paths().stage(run.stage).completed()
    assert result is not None
    return result.wire


def lines_of(run: RunConfig, kind: str) -> list[dict[str, Any]]:
    lines = run.paths().stage(run.stage).metrics.read_text().splitlines()
    return [line for line in map(json.loads, lines) if kind in line]


def scripted(monkeypatch: pytest.MonkeyPatch, values: Iterator[float]) -> None:
    """A validation's forecasts, four at once, score the next of these values."""
    monkeypatch.setattr(Forecasts, "score", lambda self, part: next(values) * len(part))


def test_the_epoch_with_the_best_forecasts_is_kept_where_the_loss_has_another(
    predictor: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, iter([5.0, 4.0, 1.0, 2.0, 3.0]))
    run = predictor()
    run_stage(run)
    losses = [line["validationLoss"] for line in lines_of(run, "validationLoss")]
    assert [line["crps"] for line in lines_of(run, "crps")] == [5.0, 4.0, 1.0, 2.0, 3.0]
    assert losses.index(min(losses)) == 4  # by the loss it would be the last
    result = result_of(run)
    assert (result["selectedBy"], result["bestEpoch"], result["bestStep"]) == ("crps", 2, 4)
    assert (result["initialCrps"], result["bestCrps"], result["bestValidationLoss"]) == (5.0, 1.0, losses[2])


def test_an_epoch_without_forecasts_is_neither_the_best_nor_counted_as_one_without_improvement(
    predictor: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of seven epochs every third has them, and the last; two without improvement after the start end the stage."""
    scripted(monkeypatch, iter([1.0, 2.0, 3.0]))
    run = predictor(epochs=7, select_every=3, early_stopping={"patience": 2})
    run_stage(run)
    assert [line["epoch"] for line in lines_of(run, "crps")] == [0, 3, 6]
    assert (result_of(run)["bestEpoch"], result_of(run)["epochs"]) == (0, 6)

    scripted(monkeypatch, iter([3.0, 2.0, 1.0]))
    run = predictor(epochs=5, run="run-2", select_every=3)
    run_stage(run)
    assert [line["epoch"] for line in lines_of(run, "crps")] == [0, 3, 5]
    assert result_of(run)["bestEpoch"] == 5


def test_forecasts_disturb_no_training_and_a_stop_among_them_is_resumed_bit_for_bit(
    predictor: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, scored, limit = Forecasts.score, 0, 10**6

    def counting(self: Forecasts, part: range) -> float:
        nonlocal scored
        scored += 1
        return score(self, part)

    monkeypatch.setattr(Forecasts, "score", counting)
    monkeypatch.setattr(Forecasts, "together", 2)  # so that a validation has two rounds
    whole, stopped = (predictor(epochs=2, run=name) for name in ("whole", "stopped"))
    run_stage(whole)
    assert scored == 6
    scored, limit = 0, 3  # in the middle of the second validation
    with pytest.raises(Stopped):
        run_stage(stopped, lambda: scored >= limit)
    assert json.loads(stopped.paths().stage(stopped.stage).pointer.read_text())["latest"]["step"] == 2
    limit = 10**6
    run_stage(stopped)
    by_loss = predictor(epochs=2, run="loss", select_by="loss")
    run_stage(by_loss)

    def left(run: RunConfig) -> dict[str, torch.Tensor]:
        return load_file(run.paths().stage(run.stage).checkpoints / "step-4" / "weights.safetensors")

    for other in (stopped, by_loss):
        assert all(torch.equal(left(other)[name], weights) for name, weights in left(whole).items())
        assert lines_of(other, "validationLoss")[0]["validationLoss"] == result_of(whole)["initialValidationLoss"]
    assert lines_of(stopped, "crps") == lines_of(whole, "crps")
    assert [result_of(run).get("selectedBy") for run in (whole, by_loss)] == ["crps", "loss"]
    assert result_of(by_loss)["bestCrps"] is None


def test_forecasts_that_are_no_numbers_end_the_stage(predictor: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, iter([float("nan")]))
    with pytest.raises(Diverged, match=r"the validation CRPS is nan after epoch 0"):
        run_stage(predictor())


def test_two_ranks_select_as_one(predictor: MakeRun, run_gang: Callable[..., Any]) -> None:
    """Each forecasts its share, with the random numbers that one process would take for it."""
    two, one = (predictor(epochs=1, run=name, select_windows=5) for name in ("two", "one"))
    gang = run_gang(two)
    assert gang.code == 0, gang.stderr
    run_stage(one)
    first, last = ([line["crps"] for line in lines_of(run, "crps")] for run in (two, one))
    assert first[0] == pytest.approx(last[0], rel=1e-9)
    assert first[1] == pytest.approx(last[1], rel=0.05)  # with other dropout


def bars_of(run: RunConfig) -> Bars:
    return prepare_bars(Path(run.bars), run.timeframe, run.data, Path(tempfile.gettempdir()) / "bars").open()


def test_origins_are_a_seeded_sample_of_the_validation_span(trainable: MakeRun) -> None:
    def chosen(**training: Any) -> list[int]:
        run = trainable(training=BY_CRPS | training)
        bars = bars_of(run)
        span = split_bars(bars, run.data, run.window).spans["validation"]
        rows = origins(bars, span, run)
        assert all(span[0] <= bars.times[row] and bars.times[row + run.window.horizon] < span[1] for row in rows)
        return rows.tolist()

    every = chosen(select_windows=1000)
    few = chosen(select_windows=4)
    assert len(every) > len(few) == 4 and few == chosen(select_windows=4)
    assert few == sorted(few) and set(few) < set(every)
    assert few != chosen(select_windows=4, seed=1)


def test_a_validation_span_without_a_forecast_is_refused(trainable: MakeRun) -> None:
    run = trainable(training=BY_CRPS)
    bars = bars_of(run)
    start, _ = split_bars(bars, run.data, run.window).spans["validation"]
    with pytest.raises(ConfigError, match=r"none of 3 bars fits between .* set training\.selectBy to loss"):
        origins(bars, (start, start + 3 * 86_400_000_000_000), run)


def test_forecasts_follow_the_weights(trainable: MakeRun) -> None:
    """Asked twice of the same origins, they are drawn anew; and a part of them is scored as it would be among all."""
    run = trainable(training=BY_CRPS | {"select_windows": 4})
    bars = bars_of(run)
    rows = origins(bars, split_bars(bars, run.data, run.window).spans["validation"], run)
    model = scratch_net(PREDICTOR, "tiny", 0)
    forecasts = forecasts_of(bars, rows, run, scratch_net(TOKENIZER, "tiny", 0), model, CPU, lambda: None)
    parts = forecasts.score(range(1)) + forecasts.score(range(1, 4))
    before = forecasts.score(range(4))
    assert before == forecasts.score(range(4)) == pytest.approx(parts) and before > 0
    model.load_state_dict(scratch_net(PREDICTOR, "tiny", 5).state_dict())
    assert forecasts.score(range(4)) != before
