"""Bars in, bars out, for frames in any common form. Called from notebooks, and by code that evaluates a model."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from kronos_trainer.config import Timeframe, Window
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.data.rows import BadRows
from kronos_trainer.data.series import Adjust, Label
from kronos_trainer.errors import ConfigError, InputMissing
from kronos_trainer.forecast.calibration import calibration_of
from kronos_trainer.forecast.consistency import total
from kronos_trainer.forecast.drawing import Drawer
from kronos_trainer.forecast.frames import Bars, Series, resampled_series, series_of, stamps_of
from kronos_trainer.forecast.kind import Kind
from kronos_trainer.forecast.lengths import beyond_training, lookback_of
from kronos_trainer.forecast.quantiles import not_calibrated
from kronos_trainer.forecast.results import in_form_of
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.forecast.times import next_times
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer

if TYPE_CHECKING:
    from kronos_trainer.evaluation.frames import EvaluationFrames
    from kronos_trainer.report.notebook import RunReport

Future = Sequence[Any] | pd.Index | pd.Series


class Forecaster:
    """A tokenizer and a predictor, ready to continue bars; `kronos_trainer.load` creates one."""

    def __init__(
        self,
        tokenizer: KronosTokenizer,
        predictor: KronosPredictor,
        *,
        max_context: int = 512,
        clip: float = 5.0,
        device: str | torch.device = "cpu",
        timeframe: Timeframe | None = None,
        window: Window | None = None,
        time_zone: str | None = None,
        calendar: str | None = None,
        label: Label = "left",
        adjust: Adjust = "none",
        run: Path | None = None,
    ) -> None:
        """`max_context` in bars, `clip` in standard deviations; the others are those of the training, if known.

        `run` is the directory of their run; its files are read when they are asked for.
        """
        self.drawer = Drawer(tokenizer, predictor, max_context=max_context, clip=clip, device=device)
        self.timeframe = timeframe
        self.window = window
        self.time_zone = time_zone
        self.calendar = calendar
        self.label = label
        self.adjust = adjust
        self.run = run

    def forecast(
        self,
        bars: Bars,
        future: int | Future | None = None,
        sampling: Sampling | None = None,
        *,
        horizon: int | None = None,
        lookback: int | None = None,
        samples: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        paths: bool = False,
        quantiles: Sequence[float] = (),
        raw: bool | None = None,
        calendar: str | None = None,
        bad_rows: BadRows = "refuse",
    ) -> Any:
        """The bars after the last of `bars`, with columns open, high, low, close, volume and amount.

        `bars` is a DataFrame with columns as the readers know them (Open, close, Volume, ...), in any order of rows,
        with the stamps as its index or in a column; volume and amount may be missing. Several symbols are a dict of
        frames, a column `symbol`, or a level of the index or of the columns. The result has the same form: the same
        index, zone and structure of symbols (a dict for a dict). All paths are rows with a column `path` before;
        quantiles are columns, such as close_q05, calibrated if the model is and not `raw`.

        `horizon` is the number of bars, `future` their times (a list, Series or Index); the default is the model's
        horizon. Other times follow `calendar`, the model's, or the pattern of the history. `lookback` is the number of
        last bars that the model uses: by default as many as in training, else as many as its context holds. The other
        arguments are those of `Sampling` and `Kind`. The frame is not modified; notes are in the result's
        `attrs["notes"]`.

        Raises errors of `kronos_trainer.errors`: DataError for unusable bars, naming row and column,
        ConfigError for invalid arguments, InputMissing for a damaged calibration.json, OutOfMemory.
        """
        times: Future | None = None
        if isinstance(future, int | np.integer):
            horizon = int(future)
        else:
            times = future
        given: dict[str, Any] = {
            "samples": samples,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
        }
        kind = Kind.asked(
            given, sampling=sampling, paths=paths, quantiles=quantiles, raw=raw, calibration=calibration_of(self.run)
        )
        length = _length(horizon, times, self.window)
        every, notes = series_of(bars, self.time_zone, bad_rows, self.label, self.adjust)
        if self.timeframe is not None:
            every = [resampled_series(series, self.timeframe) for series in every]
        futures, said = self._futures(every, times, length, calendar or self.calendar)
        histories = [
            series.bars.tail(lookback_of(len(series.bars), lookback, self.window, self.drawer.max_context))
            for series in every
        ]
        clocks = [series.by_clock(after) for series, after in zip(every, futures, strict=True)]
        drawn = self.drawer.draw(histories, clocks, kind.sampling, raw=kind.raw)
        lengths = [(str(series.symbol), len(history)) for series, history in zip(every, histories, strict=True)]
        notes += said + beyond_training(length, lookback, self.drawer.max_context, self.window, lengths)
        notes += kind.notes(length)
        repaired = total(one.repairs for one in drawn if one.repairs is not None).note()
        notes += filter(None, [not_calibrated(drawn, kind), repaired])
        return in_form_of(bars, every, futures, drawn, kind, notes)

    def _futures(
        self, every: Sequence[Series], future: Future | None, length: int, calendar: str | None
    ) -> tuple[list[pd.DatetimeIndex], list[str]]:
        """The future timestamps, in the form of each series' own, and notes on them."""
        if future is not None:
            return [stamps_of(future, series, self.label)[:length] for series in every], []
        notes: dict[str, None] = {}
        futures = []
        for series in every:
            local, zone = series.local()
            times, note = next_times(local, length, calendar, zone)
            futures.append(series.as_own(times))
            notes |= {note: None} if note else {}
        return futures, list(notes)

    @property
    def evaluation(self) -> EvaluationFrames:
        """How good the run was on its test span, as DataFrames. Raises InputMissing if it was not judged."""
        from kronos_trainer.evaluation.frames import EvaluationFrames

        return EvaluationFrames.of_run(self._run())

    def report(self) -> RunReport:
        """The report of the run: a notebook shows its page. Raises InputMissing if there is none."""
        from kronos_trainer.report.notebook import report_of

        return report_of(self._run())

    def _run(self) -> Path:
        if self.run is None:
            raise InputMissing("these weights are of no run: load a model by its name, or a run by its directory")
        return self.run

    def forecast_many(
        self,
        histories: Sequence[pd.DataFrame],
        futures: Sequence[pd.DatetimeIndex],
        sampling: Sampling | None = None,
        *,
        raw: bool | None = None,
    ) -> list[pd.DataFrame]:
        """The average of the paths of each series, with columns timestamps and FEATURES.

        Histories are frames as `readers.read_frame` returns them, of which all rows are used: the numbers of `Drawer`,
        without the search for columns, times and symbols.
        """
        drawn = self.drawer.draw(histories, futures, sampling, raw=raw)
        return [_frame(future, one.average) for future, one in zip(futures, drawn, strict=True)]


def _length(horizon: int | None, future: Future | None, window: Window | None) -> int:
    if future is not None and horizon is not None and horizon > len(future):
        raise ConfigError(f"horizon {horizon} exceeds the {len(future)} times of future")
    length = (
        horizon if horizon is not None else len(future) if future is not None else window.horizon if window else None
    )
    if length is None:
        raise ConfigError("set horizon= (number of bars) or future= (their timestamps)")
    if not isinstance(length, Integral) or length < 1:
        raise ConfigError(f"horizon {length!r} is not a number of bars, 1 or more")
    return int(length)


def _frame(times: pd.DatetimeIndex, bars: Any) -> pd.DataFrame:
    return pd.concat([pd.Series(times, name="timestamps"), pd.DataFrame(bars, columns=list(FEATURES))], axis=1)
