"""Forecasts on the validation span, whose CRPS selects the predictor's best weights (training.selectBy: crps).

The best token loss is often not the best forecast. Called by the predictor's task and by the loop.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from kronos_trainer.config import RunConfig
from kronos_trainer.data.bars import Bars
from kronos_trainer.data.windows import instant_text, validation_order
from kronos_trainer.errors import ConfigError
from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.evaluation.forecasting import NetForecaster, outcome_of
from kronos_trainer.evaluation.metrics import crps
from kronos_trainer.evaluation.origins import dates_of
from kronos_trainer.evaluation.rivals import Sampled
from kronos_trainer.forecast.drawing import Drawer
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer

PATHS = 32  # of a forecast: the unbiased estimate needs few, and all epochs share their random numbers
TOGETHER = 16  # forecasts that a process computes at once


class Forecasts:
    """Forecasts from fixed origins, made with the weights that the nets have when they are asked for.

    A path's random numbers depend on the seed and its history alone: two epochs draw the same ones, whichever rank
    draws them, and no generator that training uses is touched.
    """

    together = TOGETHER

    def __init__(
        self, bars: Bars, rows: Int64, nets: NetForecaster, *, seed: int, beat: Callable[[], None] = lambda: None
    ) -> None:
        """`rows` [B] are those of the origins in the bars."""
        self._bars = bars
        self._rows = rows
        self._nets = nets
        self._sampling = Sampling(temperature=1.0, top_p=1.0, samples=PATHS, seed=seed)
        self._beat = beat
        self._actual = _closes(bars, rows, lookback=nets.lookback, horizon=nets.horizon)

    def __len__(self) -> int:
        return len(self._rows)

    def score(self, part: range) -> float:
        """Sum over the forecasts with these numbers of their CRPS, a mean over the horizon, in percent of the close.

        The predictor must be in eval mode.
        """
        there = slice(part.start, part.stop)
        paths = Sampled(self._bars, self._nets, self._sampling, self._beat).closes(self._rows[there])
        return float(crps(paths, self._actual[there]).mean(axis=1).sum())


def origins(bars: Bars, span: tuple[int, int], run: RunConfig) -> Int64:
    """Rows of at most `training.selectWindows` origins in a span [start, end) of wall-clock ns, ascending.

    They are drawn from the seed, of all symbols and all dates that are one horizon apart. Raises ConfigError where
    there is none.
    """
    window, training = run.window, run.training
    rows = dates_of(bars, span, window).rows
    found = rows[rows >= 0]
    if len(found):
        closes = _closes(bars, found, lookback=window.lookback, horizon=window.horizon)
        found = np.sort(found[np.isfinite(closes).all(axis=1)])
    if not len(found):
        start, end = map(instant_text, span)
        raise ConfigError(
            f"training.selectBy crps needs forecasts on the validation span, but none of {window.horizon} bars fits "
            f"between {start} and {end}; give data.split a longer validation span, lower window.horizon, or set "
            "training.selectBy to loss"
        )
    chosen = validation_order(len(found), seed=training.seed, limit=training.select_windows)
    return np.asarray(found[chosen.numpy()])


def forecasts_of(
    bars: Bars,
    rows: Int64,
    run: RunConfig,
    tokenizer: KronosTokenizer,
    predictor: KronosPredictor,
    device: torch.device,
    beat: Callable[[], None],
) -> Forecasts:
    """Forecasts of a run's nets, from the origins in these rows."""
    drawer = Drawer(tokenizer, predictor, max_context=run.window.max_context, clip=run.data.clip, device=device)
    nets = NetForecaster(drawer=drawer, lookback=run.window.lookback, horizon=run.window.horizon)
    return Forecasts(bars, rows, nets, seed=run.training.seed, beat=beat)


def _closes(bars: Bars, rows: Int64, *, lookback: int, horizon: int) -> Floats:
    return outcome_of(bars, rows, lookback=lookback, horizon=horizon).close
