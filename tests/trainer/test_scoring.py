"""Rivals are scored date by date: kept, taken up again, cut short by time, never told what comes after an origin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kronos_trainer.config import Data, Timeframe, Window
from kronos_trainer.data.bars import Bars, read_bars
from kronos_trainer.data.windows import split_bars
from kronos_trainer.errors import Stopped
from kronos_trainer.evaluation.baselines import baselines
from kronos_trainer.evaluation.cells import Forecast, Int64
from kronos_trainer.evaluation.forecasting import NetForecaster, origins_of, outcome_of
from kronos_trainer.evaluation.origins import Dates, dates_of
from kronos_trainer.evaluation.rivals import BaselineRival, NetRival, Rival, Sampled
from kronos_trainer.evaluation.scoreboard import Scoreboard
from kronos_trainer.evaluation.scoring import Limits, Watch, rows_of, score_all
from kronos_trainer.forecast.drawing import Drawer
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import scratch_net

WINDOW = Window(lookback=12, horizon=3)
DATA = Data.model_validate(
    {"source": {"path": "bars"}, "split": {"fractions": {"train": 0.4, "validation": 0.2, "test": 0.4}}}
)


@pytest.fixture
def bars(bars_file: Path) -> Bars:
    return read_bars(bars_file, Timeframe.D1, DATA)


@pytest.fixture
def dates(bars: Bars) -> Dates:
    return dates_of(bars, split_bars(bars, DATA, WINDOW).spans["test"], WINDOW, embargo=3)


@dataclass
class Fake:
    """A rival with random paths, which counts the cells that it was asked for."""

    bars: Bars
    name: str = "fake"
    label: str = "a fake"
    key: str = "1"
    asked: list[int] = field(default_factory=list)

    def forecast(self, rows: Int64) -> Forecast:
        self.asked += rows.tolist()
        draws = [np.random.default_rng(int(row)).normal(0, 1, (40, WINDOW.horizon)) for row in rows]
        return Forecast(close=np.stack(draws), variance=np.ones(len(rows)))


def scored(
    bars: Bars,
    dates: Dates,
    rivals: list[Rival],
    file: Path,
    *,
    seconds: float = 1e9,
    beat: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = lambda: 0.0,
) -> tuple[list[int], Scoreboard]:
    board = Scoreboard(file, {"bars": bars.digest}, len(dates), len(bars.symbols))
    watch = Watch(dates=lambda done, planned: None, beat=beat, keep=lambda: None, clock=clock)
    limits = Limits(seconds=seconds, save_every=1e9)
    return score_all(bars, dates, rivals, board, lookback=WINDOW.lookback, limits=limits, watch=watch), board


def test_what_was_scored_before_a_stop_is_not_forecast_again_and_the_scores_are_those_of_one_go(
    bars: Bars, dates: Dates, tmp_path: Path
) -> None:
    whole = Fake(bars)
    done, board = scored(bars, dates, [whole], tmp_path / "whole.npz")
    assert done == list(range(len(dates))) and sorted(whole.asked) == sorted(dates.rows[dates.rows >= 0].tolist())

    beats = iter(range(10**6))

    def stop() -> None:
        if next(beats) == 1:
            raise Stopped("stopped")

    first, second = Fake(bars), Fake(bars)
    with pytest.raises(Stopped, match=rf"of {len(dates)} dates, which are saved"):
        scored(bars, dates, [first], tmp_path / "cut.npz", beat=stop)
    assert 0 < len(set(first.asked)) < len(whole.asked)
    done, resumed = scored(bars, dates, [second], tmp_path / "cut.npz")
    assert done == list(range(len(dates)))
    again = set(first.asked) & set(second.asked)
    assert len(again) <= 20 and len(set(second.asked)) < len(whole.asked)  # at most the chunk that was cut
    one, other = board.rows["fake"].scores, resumed.rows["fake"].scores
    np.testing.assert_array_equal(one.crps, other.crps)
    np.testing.assert_array_equal(one.expected, other.expected)
    assert (np.isfinite(one.expected) == np.isfinite(one.crps)).all()
    assert one.span() == other.span()
    third = Fake(bars)
    scored(bars, dates, [third], tmp_path / "cut.npz")
    assert third.asked == []
    # Another key, other bars, a damaged file: forecast anew.
    changed = Fake(bars, key="2")
    scored(bars, dates, [changed], tmp_path / "cut.npz")
    assert len(changed.asked) == len(whole.asked)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 half a file")
    anew = Fake(bars, key="2")
    scored(bars, dates, [anew], tmp_path / "cut.npz")
    assert len(anew.asked) == len(whole.asked)


def test_without_time_fewer_dates_are_scored_and_they_are_spread(bars: Bars, dates: Dates, tmp_path: Path) -> None:
    ticks = iter(range(10**6))
    done, board = scored(bars, dates, [Fake(bars)], tmp_path / "s.npz", seconds=4, clock=lambda: float(next(ticks)))
    assert 0 < len(done) < len(dates) and done == sorted(done)
    assert max(np.diff([-1, *done, len(dates)])) <= 3 * len(dates) / len(done)
    assert np.isfinite(board.rows["fake"].scores.of(np.array(done)).crps).any(axis=1).all()
    # The time of earlier attempts counts: no more than a chunk is done in each later one.
    more, _ = scored(bars, dates, [Fake(bars)], tmp_path / "s.npz", seconds=4, clock=lambda: 0.0)
    assert len(more) <= len(done)


def every_rival(bars: Bars, dates: Dates, start: int) -> list[Rival]:
    drawer = Drawer(scratch_net(TOKENIZER, "tiny", 1), scratch_net(PREDICTOR, "tiny", 2), max_context=64)
    nets = NetForecaster(drawer=drawer, lookback=WINDOW.lookback, horizon=WINDOW.horizon)
    sampled = Sampled(bars, nets, Sampling(samples=4, top_p=1.0, seed=3), lambda: None)
    origins = origins_of(bars, dates.rows[dates.rows >= 0], start=start, lookback=12, horizon=3)
    applicable, _ = baselines(origins)
    return [
        NetRival(name="finetuned", label="", key="", sampled=sampled),
        *(
            BaselineRival(baseline=one, bars=bars, start=start, lookback=12, horizon=3, samples=4, seed=3)
            for one in applicable
        ),
    ]


def test_a_forecaster_that_peeks_would_be_unmasked(bars: Bars, dates: Dates) -> None:
    """All bars after the origin are garbled: no forecast may change, and what came must."""
    start = int(dates.times[0])
    date = 2
    row = dates.rows[date]
    cells = row[row >= 0]
    values = bars.values.copy()
    for symbol, origin in enumerate(row):
        if origin >= 0:
            after = slice(origin + 1, bars.offsets[symbol + 1])
            values[after] = np.random.default_rng(symbol).lognormal(3, 1, values[after].shape)
    garbled = replace(bars, values=values)
    for rival, other in zip(every_rival(bars, dates, start), every_rival(garbled, dates, start), strict=True):
        ours, theirs = rival.forecast(cells), other.forecast(cells)
        assert any(part is not None for part in (ours.close, ours.variance, ours.rank)), rival.name
        for part in ("close", "variance", "rank"):
            np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part), err_msg=rival.name)
    before, came = (outcome_of(one, cells, lookback=12, horizon=3) for one in (bars, garbled))
    assert (before.close != came.close).all() and (before.scale == came.scale).all()


def test_nets_of_one_lookback_share_their_random_numbers_and_a_symbol_without_it_has_no_forecast(bars: Bars) -> None:
    tokenizer, predictor = scratch_net(TOKENIZER, "tiny", 1), scratch_net(PREDICTOR, "tiny", 2)
    rows = np.array([40, bars.offsets[1] + 40, 60])

    def drawn(lookback: int, rows: Int64) -> np.ndarray:
        drawer = Drawer(tokenizer, predictor, max_context=64)
        nets = NetForecaster(drawer=drawer, lookback=lookback, horizon=2)
        return nets.bars(bars, rows, Sampling(samples=3, top_p=1.0, seed=1))

    torch.manual_seed(9)
    together = drawn(12, rows)
    np.testing.assert_array_equal(together[1:2], drawn(12, rows[1:2]))
    longer = drawn(50, rows)
    assert np.isnan(longer[:2]).all() and np.isfinite(longer[2]).all()


def test_cells_to_calibrate_on_are_every_dates_alike(dates: Dates) -> None:
    assert len(rows_of(dates, 10**6)[0]) == (dates.rows >= 0).sum()
    few, which = rows_of(dates, len(dates))
    assert which.tolist() == list(range(len(dates))) and set(few) <= set(dates.rows.flatten())
    nothing = Dates(times=np.empty(0, np.int64), rows=np.empty((0, 2), np.int64), stride=3)
    assert len(rows_of(nothing, 10)[0]) == 0
