"""Time of one forecast on the CPU, tokens to bars, against upstream's predict."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd
import torch
from kronos_finance._vendor.kronos_model import Kronos, KronosTokenizer
from kronos_finance._vendor.kronos_model import KronosPredictor as UpstreamForecaster

from benchmarks.series import hourly_frame
from benchmarks.timing import interleave, show
from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
from kronos_trainer.model.weights import scratch_net

# lookback, horizon, samples, the ratio that we aim at
CASES = ((90, 10, 1, 2.5), (400, 100, 1, 10.0), (90, 10, 10, 9.0))
SIZE = "mini"


def run() -> None:
    """Both sides forecast the same bars with the same weights; sampled tokens differ, the amount of work does not."""
    ours = Forecaster(scratch_net(TOKENIZER, "base", 0), scratch_net(PREDICTOR, SIZE, 0))
    theirs_tokenizer = KronosTokenizer(**asdict(TOKENIZERS["base"]))
    theirs_tokenizer.load_state_dict(ours.drawer.tokenizer.state_dict())
    theirs_predictor = Kronos(**asdict(PREDICTORS[SIZE]))
    theirs_predictor.load_state_dict(ours.drawer.predictor.state_dict())
    theirs = UpstreamForecaster(theirs_predictor.eval(), theirs_tokenizer.eval(), device="cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for lookback, horizon, samples, goal in CASES:
            _case(ours, theirs, lookback, horizon, samples, goal)
    finally:
        torch.set_num_threads(threads)


def _case(ours: Forecaster, theirs: UpstreamForecaster, lookback: int, horizon: int, samples: int, goal: float) -> None:
    frame = hourly_frame()
    history = frame.iloc[:lookback].reset_index(drop=True)
    future = frame["timestamps"].iloc[lookback : lookback + horizon].reset_index(drop=True)

    def upstream() -> pd.DataFrame:
        return theirs.predict(
            history,
            history["timestamps"],
            future,
            pred_len=horizon,
            T=1.0,
            top_p=0.9,
            sample_count=samples,
            verbose=False,
        )

    def cached() -> pd.DataFrame:
        return ours.forecast_many([history], [pd.DatetimeIndex(future)], Sampling(samples=samples))[0]

    timings = interleave({"upstream": upstream, "KV cache": cached}, rounds=5)
    title = f"Generation, {SIZE}, {lookback} -> {horizon}, {samples} sample(s), one thread"
    show(title, "bars/s", horizon, timings, {"KV cache": goal})
