"""Forecasts: bars in, bars out beside upstream's predict_batch, and thousands of origins without pandas."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from kronos_finance._vendor.kronos_model import Kronos, KronosTokenizer
from kronos_finance._vendor.kronos_model import KronosPredictor as UpstreamForecaster

from benchmarks.gpu.place import DEVICE, SMALL, TOKENIZER_SIZE, Results, bars, gibibytes, wait
from kronos_trainer.data.bars import time_stamps
from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
from kronos_trainer.model.weights import scratch_net

# lookback, horizon, series, samples
CASES = ((20, 3, 2, 2),) if SMALL else ((90, 10, 1, 1), (400, 100, 1, 1), (120, 15, 32, 10))
ORIGINS = 8 if SMALL else 1024


def generation(results: Results) -> None:
    """Both sides forecast the same bars with the same weights."""
    for size in ("tiny",) if SMALL else ("mini", "base"):
        mine = Forecaster(scratch_net(TOKENIZER, TOKENIZER_SIZE, 0), scratch_net(PREDICTOR, size, 0), device=DEVICE)
        tokenizer, predictor = KronosTokenizer(**asdict(TOKENIZERS[TOKENIZER_SIZE])), Kronos(**asdict(PREDICTORS[size]))
        tokenizer.load_state_dict(scratch_net(TOKENIZER, TOKENIZER_SIZE, 0).state_dict())
        predictor.load_state_dict(scratch_net(PREDICTOR, size, 0).state_dict())
        theirs = UpstreamForecaster(predictor.eval(), tokenizer.eval(), device=str(DEVICE))
        for lookback, horizon, series, samples in CASES:
            title = f"generation {size}: {lookback} -> {horizon}, {series} series x {samples}"
            results.attempt(title, partial(_both, mine, theirs, lookback, horizon, series, samples))
        title = f"generation {size}: {ORIGINS} origins x 10, 120 -> 15"
        results.attempt(title, partial(_origins, mine, theirs))


def _both(
    mine: Forecaster, theirs: UpstreamForecaster, lookback: int, horizon: int, series: int, samples: int
) -> dict[str, Any]:
    histories, futures = _series(lookback, horizon, series)
    before = [history["timestamps"] for history in histories]

    def upstream() -> object:
        return theirs.predict_batch(
            histories, before, futures, pred_len=horizon, top_p=0.9, sample_count=samples, verbose=False
        )

    def ours() -> object:
        return mine.forecast_many(histories, [pd.DatetimeIndex(one) for one in futures], Sampling(samples=samples))

    seconds = [_seconds(side) for side in (upstream, ours)]
    return {
        "upstream ms": round(seconds[0] * 1e3, 1),
        "ms": round(seconds[1] * 1e3, 1),
        "windows/s": round(series / seconds[1], 1),
        "x": round(seconds[0] / seconds[1], 2),
    }


def _origins(mine: Forecaster, theirs: UpstreamForecaster) -> dict[str, Any]:
    """As the evaluation forecasts; upstream forecasts 32 of them at once, as many as it has room for."""
    lookback, horizon = 120, 15
    histories, futures = _series(lookback, horizon, 2 if SMALL else 32)
    before = [history["timestamps"] for history in histories]
    reference = _seconds(
        lambda: theirs.predict_batch(
            histories, before, futures, pred_len=horizon, top_p=0.9, sample_count=10, verbose=False
        )
    )
    frame = pd.read_csv(bars(), parse_dates=["timestamps"])
    values = frame.drop(columns="timestamps").to_numpy(np.float32)
    stamps = time_stamps(pd.DatetimeIndex(frame["timestamps"]).as_unit("ns").asi8)
    starts = np.arange(ORIGINS) % (len(frame) - lookback - horizon)
    windows = np.stack([values[start : start + lookback] for start in starts])
    times = np.stack([stamps[start : start + lookback + horizon] for start in starts])
    gibibytes()
    seconds = _seconds(lambda: list(mine.drawer.draw_rows(windows, times, Sampling(samples=10))))
    rate = ORIGINS / seconds
    return {
        "ms": round(seconds * 1e3, 1),
        "windows/s": round(rate),
        "x": round(rate / (len(histories) / reference), 2),
        "GiB": gibibytes(),
    }


def _series(lookback: int, horizon: int, count: int) -> tuple[list[pd.DataFrame], list[pd.Series]]:
    frame = pd.read_csv(bars(), parse_dates=["timestamps"])
    histories = [frame.iloc[i : i + lookback].reset_index(drop=True) for i in range(count)]
    ends = [frame["timestamps"].iloc[i + lookback : i + lookback + horizon] for i in range(count)]
    return histories, [end.reset_index(drop=True) for end in ends]


def _seconds(work: Callable[[], object]) -> float:
    work()
    taken = []
    for _ in range(1 if SMALL else 3):
        wait()
        began = time.perf_counter()
        work()
        wait()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
