"""What training and forecasting promise of a GPU. On a CPU the same tests run with tiny nets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import test_optimizer
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from kronos_trainer.config import Data, ExitCode, RunConfig, StageName, Training, Window
from kronos_trainer.data.bars import Bars, time_stamps
from kronos_trainer.data.windows import Splits, split_bars
from kronos_trainer.errors import Stopped
from kronos_trainer.forecast.drawing import Drawer
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.predictor import TimeEmbedding
from kronos_trainer.model.sizes import PREDICTORS
from kronos_trainer.model.weights import scratch_net
from kronos_trainer.storage.checkpoint import Restored
from kronos_trainer.training.batching import BatchPlan
from kronos_trainer.training.comet import NullReporter
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.graph import WARM_UP, GraphStep, cuda_graph
from kronos_trainer.training.loop import Loop
from kronos_trainer.training.metrics import Metrics
from kronos_trainer.training.optimizer import Optimizer
from kronos_trainer.training.precision import choose_precision
from kronos_trainer.training.predictor import PredictorTask
from kronos_trainer.training.progress import Progress
from kronos_trainer.training.step import EagerStep
from kronos_trainer.training.task import Task
from kronos_trainer.training.tokenizer import TokenizerTask
from kronos_trainer.training.tokens import TokenCache
from kronos_trainer.training.transfers import to_device

MakeRun = Callable[..., RunConfig]

CPU = torch.device("cpu")
STEPS = 8
STAGES = StageName.with_weights()


@dataclass(frozen=True)
class Scale:
    """How much is computed: on a GPU enough to reach the kernels that large shapes get."""

    predictor: str
    tokenizer: str
    batch: int
    lookbacks: tuple[int, ...]


TINY = Scale("tiny", "tiny", 4, (12, 40))
REAL = Scale("small", "base", 64, (120, 400))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def ranks(request: pytest.FixtureRequest) -> Iterator[Ranks]:
    """This process alone, on the device, as a training sets it up."""
    if request.param == "cpu":
        yield Ranks(device=CPU)
        return
    yield Ranks.join(gpu_required=True)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def scale(ranks: Ranks) -> Scale:
    return TINY if ranks.device == CPU else REAL


def windows(lookback: int) -> Splits:
    """Windows of hourly bars of one symbol, a seeded random walk: 400 to train, and more of longer ones."""
    rows = 600 + 8 * lookback
    random = np.random.default_rng(7)
    close = 100 * np.exp(random.normal(0, 0.01, rows).cumsum())
    volume = random.lognormal(10, 0.5, rows)
    values = np.stack([close, close * 1.002, close * 0.998, close, volume, volume * close], axis=1).astype(np.float32)
    times = np.arange(1, rows + 1) * 3_600_000_000_000
    bars = Bars(("A",), np.array([0, rows]), values, times, time_stamps(times), "d", ())
    fractions = {"train": 0.6, "validation": 0.3, "test": 0.1}
    data = Data.model_validate({"source": {"path": "-"}, "split": {"fractions": fractions}})
    return split_bars(bars, data, Window(lookback=lookback, horizon=3, max_context=512))


def task_of(
    stage: StageName,
    splits: Splits,
    ranks: Ranks,
    scale: Scale,
    directory: Path,
    precision: str,
    *,
    dropout: bool = True,
) -> Task:
    """A stage's task around first weights that are the same on every device."""
    chosen = choose_precision(Training.model_validate({"precision": precision}), ranks.device)
    tokenizer = scratch_net(TOKENIZER, scale.tokenizer, seed=1).to(ranks.device)
    predictor = scratch_net(PREDICTOR, scale.predictor, seed=2).to(ranks.device)
    if not dropout:
        _without_dropout(tokenizer)
        _without_dropout(predictor)
    if stage is StageName.TOKENIZER:
        return TokenizerTask(tokenizer, splits, chosen, ranks.mean)
    # Encoded on the CPU: a bit near 0 may flip from one device to another.
    encoder = scratch_net(TOKENIZER, "tiny", seed=3).eval()
    caches = []
    for name, part in (("train", splits.train), ("validation", splits.validation)):
        cache = TokenCache(directory, name, part)
        cache.fill(encoder.encode, rank=0, world=1, beat=lambda: None)
        cache.finish()
        caches.append(cache)
    return PredictorTask(predictor, *caches, chosen, upstream_exact=False)


def _without_dropout(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attn_dropout"):
            module.attn_dropout = 0.0


class Saved:
    """The last state that a loop has saved, on the CPU."""

    def __call__(self, *, weights: Any, optimizer: Any, meta: Any, best: Any) -> None:
        def copy(leaf: object) -> object:
            return leaf.detach().cpu().clone() if isinstance(leaf, Tensor) else leaf

        self.state = Restored(meta, tree_map(copy, dict(weights)), tree_map(copy, optimizer))


def loop_of(
    run: RunConfig,
    task: Task,
    splits: Splits,
    ranks: Ranks,
    scale: Scale,
    save: Saved,
    *,
    passes: int,
    stop_at: int | None = None,
) -> Loop:
    """A loop of STEPS steps of so many passes each, asked to stop after some step. One pass is captured on a GPU."""
    loop = Loop(
        run,
        task,
        ranks=ranks,
        plan=BatchPlan(batch=scale.batch, micro=scale.batch // passes, world=1),
        train_windows=len(splits.train),
        validation_windows=torch.arange(2),
        steps_per_epoch=STEPS,
        save=save,
        metrics=Metrics(None, NullReporter()),
        progress=Progress(run, silent=True),
        stop_requested=lambda: loop.state.step == stop_at,
    )
    return loop


def same(left: object, right: object) -> bool:
    """Whether two nested states have equal bits."""
    leaves = (tree_leaves(tree) for tree in (left, right))
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(*leaves, strict=True))


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_training_has_the_bits_of_one_that_was_not_interrupted(
    make_run: MakeRun,
    ranks: Ranks,
    scale: Scale,
    tmp_path: Path,
    stage: StageName,
    long: bool,
    precision: str,
    passes: int,
) -> None:
    """8 steps against 4 and another 4, dropout and draws included."""
    lookback = scale.lookbacks[long]
    splits = windows(lookback)
    one = {"init": {"scratch": {"size": "tiny"}}, "epochs": 1, "learning_rate": 1e-3}
    run = make_run(stage=stage, tokenizer=one, predictor=one, training={"precision": precision})

    def started(save: Saved, stop_at: int | None = None) -> Loop:
        task = task_of(stage, splits, ranks, scale, tmp_path, precision)
        return loop_of(run, task, splits, ranks, scale, save, passes=passes, stop_at=stop_at)

    whole, half, rest = Saved(), Saved(), Saved()
    started(whole).train()
    with pytest.raises(Stopped):
        started(half, stop_at=STEPS // 2).train()
    assert half.state.meta.step == STEPS // 2
    resumed = started(rest)
    resumed.restore(half.state)
    resumed.train()
    assert rest.state.meta.step == STEPS
    assert same(rest.state.weights, whole.state.weights) and same(rest.state.optimizer, whole.state.optimizer)
    assert not same(half.state.weights, whole.state.weights)


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_and_validation_are_those_of_a_cpu(
    ranks: Ranks, scale: Scale, tmp_path: Path, stage: StageName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos_trainer.model.predictor.draw", lambda logits: torch.full_like(logits[..., 0], 5).long())
    splits = windows(scale.lookbacks[0])
    gradients, scores = [], []
    for number, where in enumerate((Ranks(device=CPU), ranks)):
        task = task_of(stage, splits, where, scale, tmp_path / str(number), "fp32", dropout=False)
        task.loss(task.model.train(), task.batch(torch.arange(8) * 5)).backward()
        gradients.append({name: one.grad.cpu() for name, one in task.model.named_parameters() if one.grad is not None})
        with torch.no_grad():
            task.model.eval()
            scores.append(task.score(torch.arange(8)).item())
    here, there = gradients
    assert here.keys() == there.keys() == {name for name, _ in task.model.named_parameters()}
    for name, wanted in here.items():
        assert (there[name] - wanted).norm() <= 1e-4 * wanted.norm(), name
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)


def test_ids_are_those_of_a_cpu_whatever_the_batch_and_tf32(ranks: Ranks, scale: Scale) -> None:
    values = windows(scale.lookbacks[0]).train.values(torch.arange(256))
    tokenizer = scratch_net(TOKENIZER, scale.tokenizer, seed=1).eval()
    wanted = torch.stack(tokenizer.encode(values))
    tokenizer.to(ranks.device)
    torch.set_float32_matmul_precision("high")
    try:
        found = torch.stack(tokenizer.encode(to_device(values, ranks.device))).cpu()
        few = [torch.stack(tokenizer.encode(to_device(part, ranks.device))).cpu() for part in values.split(16)]
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found, wanted) and torch.equal(torch.cat(few, dim=1), wanted)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_captured_step_has_the_bits_of_an_eager_one(
    make_run: MakeRun, ranks: Ranks, scale: Scale, tmp_path: Path, stage: StageName, precision: str
) -> None:
    """Seeds, rates, losses and weights, for batches that differ, over a capture and a zeroing of the sums.

    On a CPU what is captured is called again at each replay, and nothing else of the step is.
    """
    run = make_run(stage=stage)
    splits = windows(scale.lookbacks[0])
    captures: list[str] = []

    def capture(work: Callable[[], None]) -> Callable[[], object]:
        captures.append("captured")
        return work if ranks.device == CPU else cuda_graph(work)

    outcomes = []
    for graph in (False, True):
        task = task_of(stage, splits, ranks, scale, tmp_path, precision)
        optimizer = Optimizer(task.model, run.weights_stage, steps=20, upstream_exact=False)
        plan = BatchPlan(batch=scale.batch, micro=scale.batch, world=1)
        eager = EagerStep(run, task, task.model, optimizer=optimizer, ranks=ranks, plan=plan)
        step = GraphStep(eager, capture=capture) if graph else eager
        sums = []
        for number, batch in enumerate(torch.arange(6 * scale.batch).view(6, -1)):
            step(number, batch)
            sums.append(eager.sums.cpu().clone())
            if number == WARM_UP:
                eager.sums.zero_()
        outcomes.append((sums, [weight.detach().cpu().clone() for weight in task.model.parameters()]))
    assert captures == ["captured"]
    assert same(*outcomes)
    losses = torch.stack(outcomes[0][0])[: WARM_UP + 1, 0].diff()
    assert len(losses.unique()) == WARM_UP  # the batches do differ


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_no_step_waits_for_the_device(
    make_run: MakeRun, ranks: Ranks, scale: Scale, tmp_path: Path, stage: StageName, passes: int
) -> None:
    splits = windows(scale.lookbacks[0])
    loop = loop_of(
        make_run(stage=stage),
        task_of(stage, splits, ranks, scale, tmp_path, "bf16"),
        splits,
        ranks,
        scale,
        Saved(),
        passes=passes,
    )
    batch = torch.arange(scale.batch)
    for _ in range(WARM_UP + 1):  # in which handles and moments are made, and a graph is captured
        loop._train_step(batch)
    if ranks.device == CPU:
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        loop._train_step(batch + 1)
        loop._train_step(batch + 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_the_guard_against_divergence_holds(make_run: MakeRun, ranks: Ranks, bad: float) -> None:
    test_optimizer.test_a_bad_gradient_freezes_weights_and_moments_for_good(make_run, bad, ranks.device)


def test_calendar_gradients_have_the_same_bits_every_time(ranks: Ranks) -> None:
    """Few rows that many ids share: what an embedding on a GPU adds up in any order."""
    torch.manual_seed(0)
    module = TimeEmbedding(PREDICTORS["mini"]).to(ranks.device)
    splits = windows(133)
    stamps = splits.train.stamps(torch.arange(64)).to(ranks.device)
    weights = torch.randn(*stamps.shape[:2], PREDICTORS["mini"].d_model, device=ranks.device)
    found = []
    for _ in range(5):
        module.zero_grad()
        (module(stamps) * weights).sum().backward()
        found.append([parameter.grad for parameter in module.parameters()])
    assert all(same(found[0], again) for again in found[1:])


def test_a_forecast_without_chance_is_that_of_a_cpu(ranks: Ranks, scale: Scale) -> None:
    random = np.random.default_rng(3)
    rows, horizon = scale.lookbacks[0], 8
    close = 50 * np.exp(random.normal(0, 0.02, rows).cumsum())
    history = pd.DataFrame(
        {"timestamps": pd.date_range("2024-01-01", periods=rows, freq="h"), "open": close, "high": close * 1.01}
        | {"low": close * 0.99, "close": close, "volume": random.lognormal(3, 1, rows), "amount": close}
    )
    future = pd.date_range(history["timestamps"].iloc[-1], periods=horizon + 1, freq="h")[1:]
    paths = []
    for device in (CPU, ranks.device):
        nets = scratch_net(TOKENIZER, scale.tokenizer, seed=1), scratch_net(PREDICTOR, scale.predictor, seed=2)
        (drawn,) = Drawer(*nets, device=device).draw([history], [future], Sampling(top_k=1))
        paths.append(drawn.paths)
    np.testing.assert_allclose(paths[1], paths[0], rtol=1e-4)


def test_a_gpu_that_is_too_small_ends_with_71(trainable: MakeRun, ranks: Ranks, scale: Scale, tmp_path: Path) -> None:
    """By a real lack of memory of torch's allocator; without a GPU the same rank trains to its end."""
    settings = {"init": {"scratch": {"size": scale.tokenizer}}, "epochs": 1, "batch_size": 64, "micro_batch_size": 64}
    run = trainable(tokenizer=settings, training={"precision": "fp32", "windows_per_epoch": 64})
    config, script = tmp_path / "run.json", tmp_path / "cramped.py"
    config.write_text(run.dump())
    script.write_text(
        "import sys, torch\n"
        "from kronos_trainer.stopping import StopSignal\n"
        "from kronos_trainer.training.rank import end, main\n"
        "if torch.cuda.is_available():\n"
        "    whole = torch.cuda.get_device_properties(0).total_memory\n"
        "    torch.cuda.set_per_process_memory_fraction(2**26 / whole)\n"
        "end(main(sys.argv[1:], StopSignal()))\n"
    )
    done = _process(script, config, tmp_path, CUDA_VISIBLE_DEVICES="" if ranks.device == CPU else "0")
    said, errors = done.communicate(timeout=120)
    if ranks.device == CPU:
        assert done.returncode == ExitCode.DONE, errors
        return
    assert done.returncode == ExitCode.OUT_OF_MEMORY, errors
    assert "out of GPU memory with 64 windows per process" in said


def _process(script: Path, config: Path, directory: Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), "--run", str(config)],
        env=os.environ | {"TMPDIR": str(directory)} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
