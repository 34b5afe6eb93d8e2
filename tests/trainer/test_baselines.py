"""Rivals without a net: what they promise in closed form, and that none of them sees what comes after its origin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from kronos_trainer.evaluation.baselines import BASELINES, baselines
from kronos_trainer.evaluation.baselines.garch import Garch
from kronos_trainer.evaluation.baselines.har import Har
from kronos_trainer.evaluation.baselines.past import Past
from kronos_trainer.evaluation.baselines.seasonal import season
from kronos_trainer.evaluation.cells import Baseline, Floats, Forecast, Int64, Origin
from kronos_trainer.evaluation.garman_klass import garman_klass

Bars = npt.NDArray[np.float32]

HOUR = 3_600_000_000_000
DAY = 24 * HOUR
START = int(np.datetime64("2015-01-05", "ns").astype(np.int64))  # a Monday
LOOKBACK, HORIZON = 60, 5


def days(count: int) -> Int64:
    """Daily bars of weekdays."""
    numbers = np.arange(count)
    return START + (numbers // 5 * 7 + numbers % 5) * DAY


def bars_of(closes: npt.ArrayLike, spread: npt.ArrayLike = 0.004) -> Bars:
    """Bars with these closes that open where the last one closed; `spread` is how far high and low leave the body."""
    closes = np.asarray(closes, np.float64)
    opens = np.concatenate([closes[:1], closes[:-1]])
    highs = np.maximum(opens, closes) * np.exp(spread)
    lows = np.minimum(opens, closes) * np.exp(-np.asarray(spread))
    volumes = np.full(len(closes), 1e5)
    return np.stack([opens, highs, lows, closes, volumes, volumes * closes], axis=1).astype(np.float32)


def clustered(count: int, seed: int, *, deviation: float = 0.01) -> Bars:
    """Bars of a GARCH(1,1) with t innovations, whose range follows their volatility."""
    random = np.random.default_rng(seed)
    innovations = random.standard_t(6, count) * np.sqrt(4 / 6)
    variances, variance = np.empty(count), 1.0
    returns = np.empty(count)
    for bar in range(count):
        variances[bar] = variance
        returns[bar] = np.sqrt(variance) * innovations[bar]
        variance = 0.05 + 0.15 * returns[bar] ** 2 + 0.8 * variance
    spread = deviation * np.sqrt(variances) * random.uniform(0.2, 0.6, count)
    return bars_of(100 * np.exp(np.cumsum(returns * deviation)), spread)


def origin_of(
    bars: Bars, at: int | None = None, *, symbol: str = "A", fitted: int | None = None, times: Int64 | None = None
) -> Origin:
    """The cell whose last bar is number `at`."""
    at = len(bars) - 1 if at is None else at
    times = days(len(bars)) if times is None else times
    return Origin(
        symbol=symbol,
        bars=bars[: at + 1],
        times=times[: at + 1],
        fitted=at // 2 if fitted is None else fitted,
        lookback=LOOKBACK,
        horizon=HORIZON,
    )


def made(name: str, origins: Sequence[Origin]) -> Baseline:
    baseline, why = BASELINES[name](Past.before(origins))
    assert baseline is not None, why
    return baseline


def forecast(name: str, *origins: Origin, samples: int = 50, seed: int = 7) -> Forecast:
    return made(name, origins).forecast(origins, samples=samples, seed=seed)


def closes_of(found: Forecast) -> Floats:
    assert found.close is not None
    return found.close


def variance_of(found: Forecast) -> Floats:
    assert found.variance is not None
    return found.variance


def rank_of(found: Forecast) -> Floats:
    assert found.rank is not None
    return found.rank


def test_the_naive_median_is_the_last_close_and_its_band_widens_with_the_root_of_the_step() -> None:
    bars = clustered(300, 1)
    paths = closes_of(forecast("naive", origin_of(bars), samples=20_001))[0]
    assert np.median(paths, axis=0) == pytest.approx(0, abs=1e-12)
    returns = 100 * np.diff(np.log(bars[-LOOKBACK:, 3].astype(np.float64)))
    assert paths.std(axis=0) == pytest.approx(returns.std() * np.sqrt(np.arange(1, HORIZON + 1)), rel=0.03)


def test_drift_moves_each_step_of_the_naive_paths_by_the_mean_return() -> None:
    bars = clustered(300, 1)
    origin = origin_of(bars)
    mean = 100 * np.log(float(bars[-1, 3]) / float(bars[-LOOKBACK, 3])) / (LOOKBACK - 1)
    moved = closes_of(forecast("drift", origin)) - closes_of(forecast("naive", origin))
    assert moved == pytest.approx(np.broadcast_to(mean * np.arange(1, HORIZON + 1), moved.shape))


def test_a_season_that_repeats_exactly_is_forecast_exactly() -> None:
    week = np.array([1.0, -0.5, 0.25, 0.75, -1.25]) / 100
    bars = bars_of(100 * np.exp(np.cumsum(np.resize(week, 202))))  # ends on a Tuesday
    paths = closes_of(forecast("seasonalNaive", origin_of(bars)))[0]
    expected = 100 * np.cumsum(week[[2, 3, 4, 0, 1]])
    assert paths == pytest.approx(np.broadcast_to(expected, paths.shape), abs=1e-3)


def test_the_band_of_the_seasonal_forecast_is_how_far_the_last_season_was_off() -> None:
    bars = clustered(300, 2)
    paths = closes_of(forecast("seasonalNaive", origin_of(bars), samples=20_001))[0]
    returns = 100 * np.diff(np.log(bars[:, 3].astype(np.float64)))
    off = (returns[5:] - returns[:-5])[-LOOKBACK + 1 :]
    assert np.median(paths, axis=0) == pytest.approx(returns[-5:].cumsum())
    assert paths.std(axis=0)[0] == pytest.approx(off.std(), rel=0.03)


def intraday(bars: int, day: int, step: int) -> Int64:
    """`bars` of `step` ns from 09:00, on `day` weekdays."""
    return (days(day)[:, None] + 9 * HOUR + np.arange(bars) * step).ravel()


@pytest.mark.parametrize(
    ("times", "bars"),
    [
        (days(200), 5),
        (START + np.arange(200) * DAY, 7),
        (START + np.arange(500) * HOUR, 24),
        (intraday(7, 40, HOUR), 7),
        (START + np.arange(2000) * HOUR // 4, 96),
        (START + np.arange(40) * HOUR, 24),
        (START + np.arange(9) * DAY, 7),
        (START + np.arange(300) * 7 * DAY, 52),
        (np.arange("2010-01", "2022-01", dtype="datetime64[M]").astype("datetime64[ns]").astype(np.int64), 12),
        (np.array([START]), 7),
    ],
    ids=["weekdays", "every day", "hours", "stock exchange", "quarters", "2 days", "9 days", "weeks", "months", "1"],
)
def test_a_season_is_a_day_a_week_or_a_year_in_bars(times: Int64, bars: int) -> None:
    assert season(times) == bars


def test_garch_is_wider_after_turbulence_and_scaled_to_what_lies_within_bars() -> None:
    bars = clustered(3000, 3)
    returns = 100 * np.diff(np.log(bars[:, 3].astype(np.float64)))
    past = np.convolve(returns**2, np.ones(10) / 10)[: len(returns)]
    test = np.arange(2000, 2990)
    calm, wild = 2000 + np.argsort(past[test - 1])[[20, -20]]
    found = forecast("garch", *(origin_of(bars, int(at), fitted=2000) for at in (calm, wild)), samples=2000)
    width = closes_of(found).std(axis=1)
    assert (width[1] > 1.5 * width[0]).all()
    assert variance_of(found)[1] > 2 * variance_of(found)[0]

    origins = [origin_of(bars, int(at), fitted=2000) for at in test[::10]]
    found = forecast("garch", *origins, samples=400)
    came = np.array([garman_klass(bars[len(one.bars) :][:HORIZON]).sum() for one in origins])
    assert variance_of(found).mean() == pytest.approx(came.mean(), rel=0.25)
    realised = np.array([returns[len(one.bars) - 1 :][:HORIZON].sum() for one in origins])
    inside = np.abs(realised) < np.quantile(np.abs(closes_of(found)[:, :, -1]), 0.8, axis=1)
    assert 0.7 < inside.mean() < 0.9


def test_simulated_paths_of_garch_have_the_variance_it_expects() -> None:
    bars = clustered(1500, 3)
    baseline = Garch(Past.before([origin_of(bars, fitted=1400)]))
    found = baseline.forecast([origin_of(bars, fitted=1400)], samples=100_000, seed=1)
    history = bars[:1400]
    squared = np.mean(np.diff(100 * np.log(history[:, 3].astype(np.float64))) ** 2)
    within = garman_klass(history).mean() / squared
    assert closes_of(found)[0, :, -1].var() * within == pytest.approx(variance_of(found)[0], rel=0.05)


def test_garch_is_capped_at_fifty_symbols_and_says_so() -> None:
    bars = clustered(300, 4)
    origins = [origin_of(bars, symbol=f"S{number:02}", fitted=260) for number in range(60)]
    apply, reasons = baselines(origins)
    assert "garch" in [one.name for one in apply]
    assert reasons["garch"].startswith("only 50 of 60 symbols")
    few = [origins[0], origins[1], origins[3], origins[59]]
    found = made("garch", origins[::-1]).forecast(few, samples=2, seed=1)
    assert np.isfinite(closes_of(found)).all(axis=(1, 2)).tolist() == [True, True, False, True]


def qlike(came: Floats, expected: Floats) -> float:
    return float(np.mean(came / expected - np.log(came / expected) - 1))


def test_har_beats_a_constant_where_volatility_clusters() -> None:
    bars = clustered(4000, 5)
    origins = [origin_of(bars, at, fitted=2500) for at in range(2500, 3990, HORIZON)]
    found = variance_of(forecast("har", *origins))
    came = np.array([garman_klass(bars[len(one.bars) :][:HORIZON]).sum() for one in origins])
    constant = np.full(len(came), garman_klass(bars[:2500]).mean() * HORIZON)
    assert qlike(came, found) < 0.6 * qlike(came, constant)
    assert np.polyfit(np.log(found), np.log(came), 1)[0] == pytest.approx(1, abs=0.2)  # neither timid nor jumpy


def test_the_forecast_of_har_is_the_mean_of_a_skewed_variance_and_not_its_median() -> None:
    bars = bars_of(np.full(4000, 100.0), 0.004 * np.random.default_rng(8).lognormal(size=4000))
    origins = [replace(origin_of(bars, at, fitted=3900), horizon=1) for at in range(3900, 4000, 10)]
    found = variance_of(forecast("har", *origins))
    assert found.mean() == pytest.approx(garman_klass(bars[:3900]).mean(), rel=0.15)  # of the median it is e^2 times


def test_bars_that_stand_still_have_a_floor_under_the_logarithm_of_har() -> None:
    bars = clustered(800, 6)
    bars[300:320, :4] = bars[300, 3]
    bars[760:, :4] = bars[760, 3]
    found = variance_of(forecast("har", origin_of(bars, fitted=700)))
    assert 0 < found[0] < 0.1 * garman_klass(bars[:700]).mean() * HORIZON


def test_garman_klass_of_bars_computed_by_hand() -> None:
    e = np.e
    bars = np.array(
        [[1, e, 1, 1, 0, 0], [1, e, 1, e, 0, 0], [2, 2, 2, 2, 0, 0], [1, 2, 0, 1, 0, 0], [1, 1, 1, e, 0, 0]]
    )
    found = garman_klass(bars)
    assert found == pytest.approx([5000, 10_000 * (1.5 - 2 * np.log(2)), 0, np.nan, 0], nan_ok=True)


def test_momentum_has_the_sign_of_the_last_return_and_reversal_the_opposite() -> None:
    closes = np.linspace(100, 50, 100)
    closes[-5:] = closes[-6] * np.exp([0.01, 0.02, 0.03, 0.02, 0.01])
    origin = origin_of(bars_of(closes))
    assert rank_of(forecast("momentum5", origin)) == pytest.approx([1.0], abs=1e-4)
    assert rank_of(forecast("reversal5", origin)) == pytest.approx([-1.0], abs=1e-4)
    assert rank_of(forecast("momentum20", origin))[0] < 0


def reverting(count: int, seed: int) -> Bars:
    """Returns of which four fifths are taken back by the next one."""
    random = np.random.default_rng(seed)
    returns = np.zeros(count)
    for bar in range(1, count):
        returns[bar] = -0.8 * returns[bar - 1] + 0.01 * random.standard_normal()
    return bars_of(100 * np.exp(returns.cumsum()))


def test_trees_find_a_return_that_can_be_predicted() -> None:
    pytest.importorskip("lightgbm")
    every = {f"S{number}": reverting(1500, number) for number in range(3)}
    origins = [
        origin_of(bars, at, symbol=symbol, fitted=1200)
        for symbol, bars in every.items()
        for at in range(1200, 1490, HORIZON)
    ]
    found = forecast("lightgbm", *origins, samples=200)
    came = np.array(
        [100 * np.log(every[one.symbol][len(one.bars) - 1 + HORIZON, 3] / one.bars[-1, 3]) for one in origins]
    )
    assert np.corrcoef(rank_of(found), came)[0, 1] > 0.2
    means = closes_of(found).mean(axis=1)
    assert means[:, -1] == pytest.approx(rank_of(found), abs=1.0)
    inside = np.mean(np.abs(came - means[:, -1]) < np.quantile(np.abs(closes_of(found)[:, :, -1] - means[:, -1:]), 0.8))
    assert 0.7 < inside < 0.9


def test_without_lightgbm_it_is_left_out_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    apply, reasons = baselines([origin_of(clustered(3000, 1))])
    assert [one.name for one in apply] == [name for name in BASELINES if name != "lightgbm"]
    assert list(reasons) == ["lightgbm"]
    assert "pip install" in reasons["lightgbm"]


def test_what_needs_more_bars_than_there_are_is_left_out_with_the_number_it_needs() -> None:
    _, reasons = baselines([origin_of(clustered(90, 1), fitted=80)])
    assert set(reasons) == {"garch", "har", "lightgbm"}
    assert "251 bars" in reasons["garch"] and "there are 80" in reasons["garch"]


def every_cell(bars: dict[str, Bars]) -> list[Origin]:
    return [
        origin_of(one, at, symbol=symbol, fitted=1100) for symbol, one in bars.items() for at in range(1100, 1190, 30)
    ]


@pytest.fixture(scope="module")
def market() -> dict[str, Bars]:
    return {f"S{number}": clustered(1200, 10 + number) for number in range(3)}


def same(one: Forecast, other: Forecast) -> None:
    for name in ("close", "variance", "rank"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_after_an_origin_and_nothing_fitted_once_on_the_test_span_changes_a_forecast(
    name: str, market: dict[str, Bars]
) -> None:
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    random = np.random.default_rng(0)
    cells = every_cell(market)
    honest = forecast(name, *cells)
    assert any(
        values is not None and np.isfinite(values).all() for values in (honest.close, honest.rank, honest.variance)
    )
    garbled = {symbol: bars.copy() for symbol, bars in market.items()}
    for bars in garbled.values():
        bars[1100:] = random.uniform(1, 1000, bars[1100:].shape)
    baseline = made(name, every_cell(garbled))
    for cell, origin in enumerate(cells):
        shown = garbled[origin.symbol].copy()
        shown[: len(origin.bars)] = origin.bars  # garbage from the bar after the origin on
        found = baseline.forecast([replace(origin, bars=shown[: len(origin.bars)])], samples=50, seed=7)
        same(found, part(honest, [cell]))


def part(whole: Forecast, cells: list[int]) -> Forecast:
    return Forecast(
        close=None if whole.close is None else whole.close[cells],
        variance=None if whole.variance is None else whole.variance[cells],
        rank=None if whole.rank is None else whole.rank[cells],
    )


@pytest.mark.parametrize("name", BASELINES)
def test_a_cell_is_forecast_alike_in_any_batch_and_order_and_otherwise_with_another_seed(
    name: str, market: dict[str, Bars]
) -> None:
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    cells = every_cell(market)
    whole = forecast(name, *cells)
    order = [5, 0, 7, 2]
    other = made(name, cells[::-1]).forecast([cells[at] for at in order], samples=50, seed=7)
    same(other, part(whole, order))
    if whole.close is not None:
        assert len({tuple(paths[:, -1] - np.median(paths[:, -1])) for paths in whole.close}) == len(cells)
        assert not np.array_equal(whole.close, closes_of(forecast(name, *cells, seed=8)))


def test_symbols_of_the_same_bars_have_draws_of_their_own() -> None:
    one = origin_of(clustered(300, 1))
    first, second = closes_of(forecast("naive", one, replace(one, symbol="B")))
    assert not np.array_equal(first, second)


def broken(kind: str) -> Bars:
    bars = clustered(1200, 20)
    if kind == "zero":
        bars[:, :4] = 0
    elif kind == "negative":
        bars[:, :4] *= -1
    elif kind == "constant":
        bars[:, :4] = 7
    elif kind == "zero at the origin":
        bars[-1, :4] = 0
    elif kind == "one zero":
        bars[-10, :4] = 0
    elif kind == "not a number":
        bars[:, :4] = np.nan
    elif kind == "tiny":
        bars[:, :4] *= 1e-12
    elif kind == "huge":
        bars[:, :4] *= 1e30
    elif kind == "steps":
        bars[:, :4] = 7
        bars[600:, :4] = 8
    elif kind == "crash":
        bars[1150:, :4] *= 1e-6
    return bars


FORECAST_ALL_THE_SAME = {"constant", "one zero", "tiny", "huge", "steps", "crash"}


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    "kind",
    [
        "zero",
        "negative",
        "constant",
        "zero at the origin",
        "one zero",
        "not a number",
        "tiny",
        "huge",
        "steps",
        "crash",
    ],
)
def test_odd_prices_give_nan_or_a_forecast_and_never_a_warning_or_an_infinity(name: str, kind: str) -> None:
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    odd, fine = origin_of(broken(kind), symbol="odd", fitted=1100), origin_of(clustered(1200, 21), fitted=1100)
    found = forecast(name, odd, fine, samples=3)
    for values in (found.close, found.variance, found.rank):
        if values is not None:
            assert np.isfinite(values[1]).all()
            assert not np.isinf(values).any()
            if kind not in FORECAST_ALL_THE_SAME:
                assert np.isnan(values[0]).all()
            elif kind in ("tiny", "huge", "crash"):
                assert np.isfinite(values[0]).all()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 30, 65])
def test_few_bars_give_nan_and_never_a_crash(name: str, count: int) -> None:
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    young = origin_of(clustered(count, 22), symbol="young", fitted=count - 1)
    fine = origin_of(clustered(1200, 21), fitted=1100)
    found = forecast(name, young, fine, samples=3)
    for values in (found.close, found.variance, found.rank):
        assert values is None or np.isfinite(values[1]).all()
    if count == 1:
        assert all(values is None or np.isnan(values[0]).all() for values in (found.close, found.variance, found.rank))


def test_a_fit_of_garch_that_does_not_converge_leaves_its_symbol_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from arch.univariate.base import ARCHModelResult

    monkeypatch.setattr(ARCHModelResult, "convergence_flag", 4)
    found = forecast("garch", origin_of(clustered(400, 1), fitted=350))
    assert np.isnan(closes_of(found)).all() and np.isnan(variance_of(found)).all()


def test_har_alone_may_be_asked_for_no_cell() -> None:
    origin = origin_of(clustered(400, 1), fitted=350)
    assert len(variance_of(Har(Past.before([origin])).forecast([], samples=1, seed=0))) == 0
