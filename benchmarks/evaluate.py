"""Scoring of a model: paths a second against upstream's predict_batch, and the memory that many symbols take."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from kronos_finance._vendor.kronos_model import Kronos, KronosTokenizer
from kronos_finance._vendor.kronos_model import KronosPredictor as UpstreamForecaster

from benchmarks.series import hourly_bars, hourly_frame
from benchmarks.timing import interleave, show
from kronos_trainer.config import Window
from kronos_trainer.data.bars import Bars, time_stamps
from kronos_trainer.evaluation.cells import Forecast, Int64
from kronos_trainer.evaluation.forecasting import NetForecaster
from kronos_trainer.evaluation.origins import dates_of
from kronos_trainer.evaluation.scoreboard import Scoreboard
from kronos_trainer.evaluation.scoring import Limits, Watch, score_all
from kronos_trainer.forecast.drawing import Drawer
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
from kronos_trainer.model.weights import scratch_net

SIZE = "mini"
LOOKBACK, HORIZON = 90, 10
ORIGINS, PATHS = 2, 100
ROUNDS = 3
GOAL = 8.0  # times as many paths a second

SYMBOLS, DATES = 5_000, 5
DAY = 86_400_000_000_000  # ns


def run() -> None:
    """The speed with real nets, then the memory with forecasters that only return numbers."""
    _speed()
    _memory()


def _speed() -> None:
    """Both sides draw the same number of paths after the same bars, with the same weights."""
    tokenizer, predictor = scratch_net(TOKENIZER, "base", 0), scratch_net(PREDICTOR, SIZE, 0)
    nets = NetForecaster(drawer=Drawer(tokenizer, predictor), lookback=LOOKBACK, horizon=HORIZON)
    theirs_tokenizer, theirs_predictor = (
        KronosTokenizer(**asdict(TOKENIZERS["base"])),
        Kronos(**asdict(PREDICTORS[SIZE])),
    )
    theirs_tokenizer.load_state_dict(tokenizer.state_dict())
    theirs_predictor.load_state_dict(predictor.state_dict())
    theirs = UpstreamForecaster(theirs_predictor.eval(), theirs_tokenizer.eval(), device="cpu")
    bars, frame = hourly_bars(), hourly_frame()
    rows = LOOKBACK - 1 + HORIZON * np.arange(ORIGINS)
    histories = [frame.iloc[row + 1 - LOOKBACK : row + 1].reset_index(drop=True) for row in rows]
    futures = [frame["timestamps"].iloc[row + 1 : row + 1 + HORIZON].reset_index(drop=True) for row in rows]

    def upstream() -> list[pd.DataFrame]:
        return theirs.predict_batch(
            histories,
            [history["timestamps"] for history in histories],
            futures,
            pred_len=HORIZON,
            T=1.0,
            top_p=1.0,
            sample_count=PATHS,
            verbose=False,
        )

    def ours() -> object:
        return nets.bars(bars, rows, Sampling(temperature=1.0, top_p=1.0, samples=PATHS, seed=0))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timings = interleave({"upstream's predict_batch": upstream, "evaluation": ours}, rounds=ROUNDS)
    finally:
        torch.set_num_threads(threads)
    title = f"Evaluation, {SIZE}, {LOOKBACK} -> {HORIZON}, {ORIGINS} origins x {PATHS} paths, one thread"
    show(title, "paths/s", ORIGINS * PATHS, timings, {"evaluation": GOAL})


@dataclass(frozen=True)
class _Fake:
    """A rival whose paths are noise."""

    name: str
    label: str = "noise"
    key: str = "noise"

    def forecast(self, rows: Int64) -> Forecast:
        return Forecast(close=np.random.default_rng(int(rows[0])).normal(0, 1, (len(rows), PATHS, HORIZON)))


def _memory() -> None:
    # A process of its own, whose peak is that of nothing else.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        before, peak, seconds = pool.apply(_score)
    print(f"\nScoring of two forecasters, {SYMBOLS:,} symbols x {DATES} dates, {PATHS} paths of {HORIZON}")
    print(f"  {peak - before:.2f} GiB above the bars and the libraries ({before:.2f} GiB), in {seconds:.0f} s")


def _score() -> tuple[float, float, float]:
    """GiB before scoring, at its peak, and the seconds that it took."""
    bars, window = _daily_bars(), Window(lookback=LOOKBACK, horizon=HORIZON)
    span = int(bars.times[LOOKBACK - 1]), int(bars.times[-1]) + 1
    before, started = _forget_peak(), time.perf_counter()
    dates = dates_of(bars, span, window)
    assert len(dates) == DATES, len(dates)
    with tempfile.TemporaryDirectory() as directory:
        board = Scoreboard(Path(directory) / "scores.npz", {}, len(dates), SYMBOLS)
        limits = Limits(seconds=1e9, save_every=0)
        watch = Watch(dates=lambda done, total: None, beat=lambda: None, keep=lambda: None)
        score_all(bars, dates, [_Fake("one"), _Fake("other")], board, lookback=LOOKBACK, limits=limits, watch=watch)
    return before, _peak(), time.perf_counter() - started


def _daily_bars() -> Bars:
    """Random walks, one bar a day for every symbol."""
    length = LOOKBACK + DATES * HORIZON
    days = np.datetime64("2020-01-01", "ns").astype(np.int64) + DAY * np.arange(length)
    walks = np.random.default_rng(0).normal(0, 0.01, (SYMBOLS, length)).cumsum(axis=1)
    close = (100 * np.exp(walks)).astype(np.float32)
    values = np.stack([close, close * 1.01, close * 0.99, close, close, close], axis=-1)
    return Bars(
        symbols=tuple(f"S{number:04d}" for number in range(SYMBOLS)),
        offsets=length * np.arange(SYMBOLS + 1),
        values=values.reshape(-1, 6),
        times=np.tile(days, SYMBOLS),
        stamps=np.tile(time_stamps(days), (SYMBOLS, 1)),
        digest="",
        notes=(),
    )


def _forget_peak() -> float:
    """GiB that this process has resident now, from which its peak counts from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    """Most memory that this process has had resident, in GiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**20
