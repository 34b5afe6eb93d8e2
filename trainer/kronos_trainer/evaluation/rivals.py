"""Whoever is scored: pairs of nets, sampled in one way or another, and baselines, all from the same origins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kronos_trainer.data.bars import Bars
from kronos_trainer.evaluation import metrics
from kronos_trainer.evaluation.cells import Baseline, Floats, Forecast, Int64
from kronos_trainer.evaluation.forecasting import NetForecaster, lookback_changes, origins_of, relative_close
from kronos_trainer.evaluation.garman_klass import garman_klass
from kronos_trainer.forecast import bands
from kronos_trainer.forecast.calibration import Calibration
from kronos_trainer.forecast.consistency import CLOSE, LEAST, consistent
from kronos_trainer.forecast.sampling import Sampling


class Rival(Protocol):
    """A forecaster of cells, by the rows [B] of their origins in the bars."""

    @property
    def name(self) -> str:
        """As evaluation.json has it."""

    @property
    def label(self) -> str:
        """For people."""

    @property
    def key(self) -> str:
        """Another one where its forecasts would be others."""

    def forecast(self, rows: Int64) -> Forecast:
        """What it says of B cells."""


class Sampled:
    """Bars that a pair of nets draws; the last ones are kept, for two rivals may share them."""

    def __init__(self, bars: Bars, nets: NetForecaster, sampling: Sampling, beat: Callable[[], None]) -> None:
        self.bars = bars
        self.nets = nets
        self.sampling = sampling
        self._beat = beat
        self._last: tuple[bytes, Floats] | None = None

    def drawn(self, rows: Int64) -> Floats:
        """Sampled bars [B, S, H, 6], as drawn."""
        asked = rows.tobytes()
        if self._last is None or self._last[0] != asked:
            self._last = asked, self.nets.bars(self.bars, rows, self.sampling, self._beat)
        return self._last[1]

    def closes(self, rows: Int64) -> Floats:
        """Their closes [B, S, H], 100 x log relative to the origin's.

        A price of 0 or less has no logarithm: it counts as the lowest that a forecast would give.
        """
        origin = self.bars.values[rows, CLOSE].astype(np.float64)[:, None, None]
        return relative_close(self.bars, rows, np.maximum(self.drawn(rows)[..., CLOSE], LEAST * origin))


@dataclass(frozen=True, kw_only=True)
class NetRival:
    """A pair of nets, sampled in one way."""

    name: str
    label: str
    key: str
    sampled: Sampled

    def forecast(self, rows: Int64) -> Forecast:
        """Closes and variance of consistent bars; plausibility of the bars as drawn."""
        drawn, bars, lookback = self.sampled.drawn(rows), self.sampled.bars, self.sampled.nets.lookback
        variance = np.empty(len(rows))
        for cell, row in enumerate(rows):
            fixed, _ = consistent(drawn[cell], bars.values[row + 1 - lookback : row + 1].astype(np.float64))
            variance[cell] = garman_klass(fixed).sum(axis=-1).mean()
        origin = bars.values[rows, CLOSE].astype(np.float64)
        usual = np.median(np.abs(lookback_changes(bars, rows, lookback)), axis=1)
        return Forecast(
            close=self.sampled.closes(rows), variance=variance, shares=metrics.implausible(drawn, origin, usual)
        )


@dataclass(frozen=True, kw_only=True)
class CalibratedRival:
    """A pair of nets with the sampling and the bands that calibration has chosen: what a forecast serves."""

    name: str
    label: str
    key: str
    sampled: Sampled
    calibration: Calibration

    def closes(self, rows: Int64) -> Floats:
        """Calibrated closes [B, S, H], 100 x log relative to the origin's."""
        return 100 * bands.apply_to_paths(self.calibration, self.sampled.closes(rows) / 100)

    def forecast(self, rows: Int64) -> Forecast:
        """Closes alone: nothing else is calibrated."""
        return Forecast(close=self.closes(rows))


@dataclass(frozen=True, kw_only=True)
class BaselineRival:
    """A baseline, which sees bars up to the origin, and fits once on those before the test span."""

    baseline: Baseline
    bars: Bars
    start: int  # of the test span, ns
    lookback: int
    horizon: int
    samples: int
    seed: int

    @property
    def name(self) -> str:
        """Of the baseline."""
        return self.baseline.name

    @property
    def label(self) -> str:
        """Of the baseline."""
        return self.baseline.label

    @property
    def key(self) -> str:
        """Its name: what else changes its forecasts is common to all."""
        return self.baseline.name

    def forecast(self, rows: Int64) -> Forecast:
        """What the baseline says of B cells."""
        origins = origins_of(self.bars, rows, start=self.start, lookback=self.lookback, horizon=self.horizon)
        return self.baseline.forecast(origins, samples=self.samples, seed=self.seed)
