"""Scores of single forecasts, worked by hand, and their means over symbols and dates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scoringrules

from kronos_trainer.evaluation import metrics, scores
from kronos_trainer.evaluation.cells import Floats, Forecast, Outcome
from kronos_trainer.evaluation.scores import Scores, forecaster, paired, score


def cell(*paths: list[float]) -> Floats:
    """Of one cell: [1, S, H]."""
    return np.array([paths], dtype=float)


def outcome(close: object, *, scale: float = 1.0) -> Outcome:
    values = np.array(close, dtype=float)
    return Outcome(close=values, scale=np.full(len(values), scale), variance=np.full(len(values), 2.0))


def bar(opened: float, high: float, low: float, close: float, volume: float = 1.0) -> list[float]:
    return [opened, high, low, close, volume, volume * close]


def test_the_crps_by_hand() -> None:
    # |x - y|: 1.5, 0.5, 1.5, mean 7/6. |x - x'| of the three pairs: 1, 3, 2, mean 2.
    assert metrics.crps(cell([1], [2], [4]), np.array([[2.5]])) == pytest.approx(np.array([[7 / 6 - 2 / 2]]))
    # Paths that are all alike: the absolute error.
    assert metrics.crps(cell([3], [3], [3]), np.array([[1.0]])) == pytest.approx(np.array([[2.0]]))


def test_the_crps_is_the_fair_one_of_every_step_and_cell() -> None:
    random = np.random.default_rng(0)
    close, came = random.normal(size=(3, 7, 4)), random.normal(size=(3, 4))
    for b in range(3):
        for h in range(4):
            x = close[b, :, h]
            fair = np.abs(x - came[b, h]).mean() - np.abs(x[:, None] - x).sum() / (7 * 6) / 2
            assert metrics.crps(close, came)[b, h] == pytest.approx(fair)


@pytest.mark.parametrize("samples", [2, 5, 30])
def test_few_paths_cost_no_crps(samples: int) -> None:
    """Of a normal forecast that is right it is 1 / sqrt(pi), however few paths; the usual estimate adds 1 / S of it."""
    random = np.random.default_rng(samples)
    found = metrics.crps(random.normal(size=(40_000, samples, 1)), random.normal(size=(40_000, 1)))
    assert found.mean() == pytest.approx(1 / math.sqrt(math.pi), abs=4 * found.std() / math.sqrt(len(found)))


def test_the_energy_score_by_hand_and_of_a_library() -> None:
    # Distances to (3, 0): 3 and 4; between the paths: 5.
    assert metrics.energy(cell([0, 0], [3, 4]), np.array([[3.0, 0.0]])) == pytest.approx([3.5 - 5 / 2])
    random = np.random.default_rng(0)
    close, came = random.normal(size=(2, 6, 3)), random.normal(size=(2, 3))
    assert metrics.energy(close, came) == pytest.approx(scoringrules.es_ensemble(came, close, estimator="fair"))


def test_quantiles_and_their_loss_by_hand() -> None:
    close = cell(*([float(x)] for x in range(1, 10)))  # 1 ... 9 at the levels 0.1 ... 0.9
    assert metrics.quantiles(close, [0.1, 0.25, 0.5, 0.9])[:, 0, 0].tolist() == pytest.approx([1, 2.5, 5, 9])
    # Above the lower quantile: 2 x 0.1 x (3 - 1); below the upper: 2 x (1 - 0.9) x (4 - 3).
    found = metrics.quantile_loss(np.array([[[1.0]], [[4.0]]]), [0.1, 0.9], np.array([[3.0]]))
    assert found == pytest.approx(np.array([[(0.4 + 0.2) / 2]]))


@pytest.mark.parametrize(("samples", "band"), [(9, "coverage80"), (39, "coverage95"), (100, "coverage50")])
def test_bands_of_a_right_forecast_cover_as_often_as_they_say(samples: int, band: str) -> None:
    random = np.random.default_rng(samples)
    found = score(Forecast(close=random.normal(size=(4_000, samples, 1))), outcome(random.normal(size=(4_000, 1))))
    assert found[band].mean() == pytest.approx(int(band[-2:]) / 100, abs=4 * 0.5 / math.sqrt(4_000))
    assert ("coverage95" in found) == (samples >= 39)


def test_the_probability_integral_transform_by_hand() -> None:
    # Between the first and the second of three paths: the interval from 1/4 to 2/4.
    assert metrics.pit(cell([1], [2], [3]), np.array([[1.5]]))[0] == pytest.approx([0, 0, 0.2, 0.4, 0.4, 0, 0, 0, 0, 0])
    # Tied with two of them: from 1/4 to 1.
    ties = metrics.pit(cell([1], [2], [2]), np.array([[2.0]]))[0]
    assert ties == pytest.approx([0, 0, 0.05 / 0.75] + [0.1 / 0.75] * 7)
    # All alike and right: nothing is known.
    assert metrics.pit(cell([1], [1], [1]), np.array([[1.0]]))[0] == pytest.approx([0.1] * 10)


def test_direction_by_hand() -> None:
    expected, came = np.array([1, -1, 1, 0, 1, np.nan]), np.array([2, 2, -2, 2, 0, 2])
    assert metrics.direction(expected, came).tolist() == pytest.approx([1, 0, 0, 0.5, np.nan, np.nan], nan_ok=True)


def test_correlations_by_hand_and_where_there_are_none() -> None:
    expected, came = np.array([1.0, 2, 3, 4, 50]), np.array([2.0, 1, 3, 4, 5])
    ic, rank_ic = metrics.correlations(expected, came)
    assert rank_ic == pytest.approx(1 - 6 * (1 + 1) / (5 * (25 - 1)))
    # Deviations -11, -10, -9, -8, 38 and -1, -2, 0, 1, 2.
    assert ic == pytest.approx((11 + 20 - 8 + 76) / math.sqrt((121 + 100 + 81 + 64 + 1444) * 10))
    assert np.isnan(metrics.correlations(expected[:4], came[:4])).all()
    assert np.isnan(metrics.correlations(np.where(expected == 3, np.nan, expected), came)).all()
    assert np.isnan(metrics.correlations(np.ones(5), came)).all()


def test_loss_of_variances_by_hand() -> None:
    found = metrics.qlike(np.array([4.0, 2, 0, 1, np.nan]), np.array([2.0, 2, 1, 0, 1]))
    assert found.tolist() == pytest.approx([0.5 - math.log(0.5) - 1, 0, np.nan, np.nan, np.nan], nan_ok=True)


def test_implausible_bars_by_hand() -> None:
    good, e = bar(1, 2, 0.5, 1), math.e
    bars = np.array([[[bar(1, 2, 1.5, e), good], [bar(1, 4, 1, 2, -1), good], [bar(1, 4, 1, e), bar(0, 2, 0, 1)]]])
    found = metrics.implausible(bars, close=np.array([1.0]), change=np.array([50.0]))
    # Of six bars one has a high below its close, one a low above its open, one a volume and one a price that cannot be.
    assert {name: share for name, (share,) in found.items() if name != "firstJump"} == pytest.approx(
        {"highBelowBody": 1 / 6, "lowAboveBody": 1 / 6, "negativeVolume": 1 / 6, "priceNotPositive": 1 / 6}
    )
    # The first bars of the paths close 100, 100 log 2 and 100 above the origin, whose usual change is 50.
    assert found["firstJump"] == pytest.approx([2.0])
    dead = metrics.implausible(np.zeros((1, 2, 3, 6)), close=np.array([0.0]), change=np.array([0.0]))
    assert dead["priceNotPositive"] == [1.0] and np.isnan(dead["firstJump"])


def test_a_cell_by_hand() -> None:
    found = score(
        Forecast(close=cell([0, -2], [1, -4], [5, -9]), variance=np.array([4.0])), outcome([[2, 3]], scale=0.5)
    )
    assert found["absoluteError"].tolist() == [[1, 7]]  # of the medians 1 and -4
    assert found["squaredError"].tolist() == [[0, 64]]  # of the means 2 and -5
    assert found["mase"].tolist() == [(1 + 7) / 2 / 0.5]
    assert found["size"].tolist() == [2.5]
    assert (found["direction"], found["rose"], found["expected"], found["rank"]) == (0, 1, -5, -5)
    assert found["coverage50"].tolist() == [[1, 0]]
    far = math.sqrt(29) + math.sqrt(50) + math.sqrt(153)  # of the paths from (2, 3), and then from each other
    assert found["energy"] == pytest.approx([far / 3 - (math.sqrt(5) + math.sqrt(74) + math.sqrt(41)) / 3 / 2])
    assert found["qlike"] == pytest.approx([0.5 - math.log(0.5) - 1])
    # Nine paths of 1 ... 9 are their own deciles: 2 and 8 are the band of 60 %, 1 and 9 that of 80 %.
    nine = score(Forecast(close=cell(*([float(x)] for x in range(1, 10)))), outcome([[9.0]]))
    assert (nine["coverage80"], nine["width80"]) == (1, 8)
    # 2 x level x (9 - quantile) of each, mean over nine levels
    assert nine["quantileLoss"] == pytest.approx([sum(2 * k / 10 * (9 - k) for k in range(1, 10)) / 9])


def test_dates_come_first_then_the_span() -> None:
    """Two symbols on the first date, one on the second, none on the third; with paths all alike, CRPS is the error."""
    kept = Scores(dates=3, symbols=2)
    kept.add(0, np.array([0, 1]), score(Forecast(close=np.zeros((2, 3, 2))), outcome([[1, 3], [-5, -7]])))
    kept.add(1, np.array([1]), score(Forecast(close=np.zeros((1, 3, 2))), outcome([[-8, -8]])))
    kept.add(2, np.array([0]), score(Forecast(close=np.full((1, 3, 2), np.nan)), outcome([[8, 8]])))
    found = forecaster("zero", "no change", kept, symbols=["A", "B"], horizon=2, stride=2)
    assert found.losses["crps"] == (4, 8, None)
    assert found.losses["squaredError"] == ((1 + 9 + 25 + 49) / 4, 64, None)
    assert found.metrics["crps"] == found.metrics["mae"] == 6  # not 16 / 3, the mean of the cells
    assert found.metrics["rmse"] == pytest.approx(math.sqrt((21 + 64) / 2))
    assert found.metrics["wql"] == pytest.approx(1.0)  # no change at all has the loss of the changes themselves
    assert found.metrics["cells"] == 3
    assert found.metrics["direction"] == 0.5 and found.metrics["majority"] == 0.75
    assert found.by_step["crps"] == ((3 + 8) / 2, (5 + 8) / 2)
    assert found.by_symbol["A"]["crps"] == 2 and found.by_symbol["B"]["crps"] == 7
    assert found.metrics["coverage50"] == 0 and "coverage80" not in found.metrics and "qlike" not in found.metrics
    # Wilson, 0 of 2: from 0 to z^2 / (2 + z^2).
    assert found.intervals["coverage50"] == pytest.approx((0, 1.959964**2 / (2 + 1.959964**2)), abs=1e-5)
    assert sum(value or 0 for value in found.pit) == pytest.approx(1)
    later = forecaster("zero", "", kept.of(np.array([2, 1])), symbols=["A", "B"], horizon=2, stride=2)
    assert later.losses["crps"] == (None, 8) and later.metrics["crps"] == 8


def test_intervals_count_only_dates_that_do_not_overlap() -> None:
    kept = Scores(dates=30, symbols=1)
    random = np.random.default_rng(0)
    for date in range(30):
        close = random.normal(size=(1, 50, 3))
        kept.add(date, np.array([0]), score(Forecast(close=close), outcome(random.normal(size=(1, 3)))))
    apart, close = (forecaster("x", "", kept, symbols=["A"], horizon=3, stride=stride).intervals for stride in (3, 1))
    assert close["coverage80"][1] - close["coverage80"][0] > 1.4 * (apart["coverage80"][1] - apart["coverage80"][0])
    losses = np.array(forecaster("x", "", kept, symbols=["A"], horizon=3, stride=3).losses["crps"])
    half = 2.04523 * losses.std(ddof=1) / math.sqrt(30)  # the t distribution's 97.5 % with 29 degrees of freedom
    assert apart["crps"] == pytest.approx((losses.mean() - half, losses.mean() + half), rel=1e-5)


def test_ranks_need_no_paths() -> None:
    kept = Scores(dates=2, symbols=6)
    came = outcome(np.array([[1.0], [2], [3], [4], [5], [6]]))
    kept.add(0, np.arange(6), score(Forecast(rank=np.array([1.0, 2, 3, 4, 5, 60])), came))
    kept.add(1, np.arange(6), score(Forecast(rank=np.array([2.0, 1, 3, 4, 5, np.nan])), came))
    found = forecaster("momentum", "", kept, symbols=list("ABCDEF"), horizon=1, stride=1)
    assert found.losses == {"rankIc": pytest.approx((1, 0.9))}
    assert found.metrics == pytest.approx({"rankIc": 0.95, "rankIcir": 0.95 / math.sqrt(0.005)})
    # From paths: the mean of the last step, against which no path alone is.
    kept.add(1, np.arange(6), score(Forecast(close=np.arange(6.0)[:, None, None] + [[[-9.0], [10.0]]]), came))
    assert kept.by_date["rankIc"][1] == pytest.approx(1) and kept.by_date["ic"][1] == pytest.approx(1)


def test_two_are_compared_on_the_cells_that_both_were_scored_on() -> None:
    model, rival = Scores(dates=3, symbols=2), Scores(dates=3, symbols=2)
    model.crps[:] = [[1, 100], [2, 4], [np.nan, 9]]
    rival.crps[:] = [[3, np.nan], [5, 7], [9, np.nan]]
    mine, other = paired(model, rival)
    assert mine.tolist() == pytest.approx([1, 3, np.nan], nan_ok=True)
    assert other.tolist() == pytest.approx([3, 6, np.nan], nan_ok=True)


def test_cells_are_scored_alone_whatever_is_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    close, came = random.normal(size=(5, 45, 3)), random.normal(size=(5, 3))
    close[1, 7, 2], close[2, 0, 0], came[3, 1] = np.nan, np.inf, np.nan
    whole = score(Forecast(close=close), outcome(came))
    for name, values in whole.items():
        if name != "came":
            assert np.isnan(values[1:4]).all() and np.isfinite(values[[0, 4]]).all(), name
    monkeypatch.setattr(scores, "CHUNK", 1)
    for b in (0, 4):
        alone = score(Forecast(close=close[b : b + 1]), outcome(came[b : b + 1]))
        assert all(np.array_equal(alone[name][0], whole[name][b]) for name in whole)
    flat = score(Forecast(close=np.zeros((1, 45, 3)), variance=np.zeros(1)), outcome(np.zeros((1, 3)), scale=0.0))
    assert flat["crps"].tolist() == [[0, 0, 0]] and np.isnan(flat["mase"]) and np.isnan(flat["direction"])
