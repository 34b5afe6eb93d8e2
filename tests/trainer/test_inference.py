"""Verdicts on planted truths: no skill is rarely called better, and a real gain is found as often as it can be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.tsa.stattools import diebold_mariano_test

from kronos_trainer.config import Comparison, Verdict
from kronos_trainer.evaluation import document
from kronos_trainer.evaluation.cells import Floats
from kronos_trainer.evaluation.inference import compare, diebold_mariano, overall, overlap_lags
from kronos_trainer.evaluation.scores import Scores, paired

SEEDS = 500
ALPHA = 0.1

Losses = tuple[Floats, Floats]


def apart(random: np.random.Generator) -> Losses:
    """40 dates apart, returns with heavy tails, two forecasts of equal skill, which is none."""
    returns = random.standard_t(3, size=40)
    return np.abs(returns - random.normal(size=40)), np.abs(returns - random.normal(size=40))


def overlapping(random: np.random.Generator) -> Losses:
    """66 dates 5 bars apart, returns over 15 bars; the forecasts change as slowly as the returns."""

    def over_the_horizon(steps: Floats) -> Floats:
        return np.lib.stride_tricks.sliding_window_view(steps, 15)[::5].sum(axis=1)

    bars = 65 * 5 + 15
    returns = over_the_horizon(random.standard_t(4, size=bars))
    mine, other = (over_the_horizon(random.normal(size=bars)) for _ in range(2))
    return np.abs(returns - mine), np.abs(returns - other)


def together(random: np.random.Generator) -> Losses:
    """50 symbols on 60 dates: half of the variance of returns and forecasts is that of the market."""

    def of_a_market() -> Floats:
        return random.standard_t(4, size=(60, 1)) + random.standard_t(4, size=(60, 50))

    returns, model, rival = of_a_market(), Scores(60, 50), Scores(60, 50)
    model.crps, rival.crps = np.abs(returns - of_a_market()), np.abs(returns - of_a_market())
    return paired(model, rival)


@pytest.mark.parametrize(
    ("losses", "lags"),
    [(apart, 0), (overlapping, overlap_lags(15, 5)), (together, 0)],
    ids=["apart", "overlapping", "together"],
)
def test_no_skill_is_rarely_called_better_or_worse(losses: Callable[..., Losses], lags: int) -> None:
    tests = [diebold_mariano(*losses(np.random.default_rng(seed)), lags=lags) for seed in range(SEEDS)]
    verdicts = [test.verdict(ALPHA) for test in tests if test is not None]
    assert len(verdicts) == SEEDS
    most = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / SEEDS)
    assert 0 < verdicts.count(Verdict.BETTER) / SEEDS <= most
    assert 0 < verdicts.count(Verdict.WORSE) / SEEDS <= most


def test_a_real_gain_is_found_as_often_as_theory_says() -> None:
    """30 dates, differences of losses with mean -0.3 and standard deviation 1."""
    found, would_find = [], []
    for seed in range(SEEDS):
        difference = np.random.default_rng(seed).normal(-0.3, 1, size=30)
        test = diebold_mariano(5 + difference, np.full(30, 5.0))
        assert test is not None
        found.append(test.verdict(ALPHA) == Verdict.BETTER)
        if seed < 50:
            would_find.append(test.smallest_difference(ALPHA))
    power = stats.nct.sf(stats.t.ppf(1 - ALPHA, 29), 29, 0.3 * math.sqrt(30))
    assert np.mean(found) == pytest.approx(power, abs=3 * math.sqrt(power * (1 - power) / SEEDS))
    # The smallest gain that 30 dates find with power 0.8: the d of which the same formula gives 0.8, in sds of 1.
    smallest = float(np.mean(would_find))
    assert stats.nct.sf(stats.t.ppf(1 - ALPHA, 29), 29, smallest * math.sqrt(30)) == pytest.approx(0.8, abs=0.02)


def test_a_comparison_has_what_was_found_and_what_it_was_found_from() -> None:
    random = np.random.default_rng(0)
    rival = random.gamma(4, size=60)
    model = 0.9 * rival + random.normal(0, 0.02, size=60)
    model[3], rival[5], rival[7] = np.nan, np.nan, np.inf
    tested = compare("naive", model, rival, confidence=0.9, seed=1)
    assert (tested.rival, tested.verdict, tested.dates) == ("naive", Verdict.BETTER, 57)
    assert tested.indices == tuple(i for i in range(60) if i not in (3, 5, 7))
    assert tested.model == tuple(model[list(tested.indices)]) and tested.loss == tuple(rival[list(tested.indices)])
    assert tested.improvement == pytest.approx(1 - sum(tested.model) / sum(tested.loss))
    # Pairs are drawn together: the gain is the same of easy and hard dates, and so the interval is narrow.
    assert tested.low is not None and tested.high is not None and tested.improvement is not None
    assert 0.09 < tested.low < tested.improvement < tested.high < 0.11
    assert compare("naive", model, rival, confidence=0.9, seed=1) == tested
    wider = compare("naive", model, rival, confidence=0.99, seed=1)
    assert wider.low is not None and wider.low < tested.low
    assert compare("naive", rival, model, confidence=0.9).verdict == Verdict.WORSE


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """60 dates whose losses depend on the one before: 18 of 20 intervals at 90 % hold the gain, less 3 se."""
    held = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        noise = random.normal(size=(2, 61))
        noise = noise[:, 1:] + noise[:, :-1]
        tested = compare("naive", 9 + noise[0], 10 + noise[1], confidence=0.9, seed=seed)
        assert tested.low is not None and tested.high is not None
        held += tested.low <= 0.1 <= tested.high
    assert held >= 14


def test_few_dates_and_many_readings_leave_it_undecided() -> None:
    random = np.random.default_rng(0)
    rival = random.gamma(9, size=40)
    model = rival - 0.3 + random.normal(0, 0.7, size=40)
    few, all_dates = (compare("start", model[:n], rival[:n], confidence=0.9) for n in (19, 40))
    assert few.p_better is not None and few.p_better <= 0.1 and few.verdict == Verdict.UNDECIDED
    assert (few.low, few.high) == (None, None)
    assert all_dates.verdict == Verdict.BETTER and all_dates.p_better is not None
    read_often = compare("start", model, rival, confidence=0.9, alpha=all_dates.p_better / 2)
    assert read_often.verdict == Verdict.UNDECIDED and read_often.p_better == all_dates.p_better
    assert few.smallest_gain is not None and all_dates.smallest_gain is not None
    assert few.smallest_gain > all_dates.smallest_gain
    assert read_often.smallest_gain is not None and read_often.smallest_gain > all_dates.smallest_gain


@pytest.mark.parametrize(
    ("model", "rival", "improvement"),
    [
        ([], [], None),
        ([1.0], [2.0], 0.5),
        ([1.0, 1.0], [2.0, 2.0], 0.5),
        ([1.0] * 30, [2.0] * 30, 0.5),  # a difference without variance, which is no evidence of what dates would do
        ([3.0] * 30, [3.0] * 30, 0.0),
        ([0.1] * 30, [0.3] * 30, 2 / 3),
        ([0.0] * 30, [0.0] * 30, None),
        ([math.nan] * 30, [1.0] * 30, None),
        ([1.0, -1.0] * 15, [0.0] * 30, None),
    ],
)
def test_losses_that_show_nothing_are_undecided(
    model: list[float], rival: list[float], improvement: float | None
) -> None:
    tested = compare("naive", np.array(model), np.array(rival), confidence=0.9)
    assert tested.verdict == Verdict.UNDECIDED
    assert tested.improvement == (None if improvement is None else pytest.approx(improvement))
    assert (tested.p_better, tested.p_worse, tested.low, tested.high, tested.smallest_gain) == (None,) * 5
    assert document.Tested.read(json.loads(json.dumps(tested.wire, allow_nan=False))).dates == tested.dates


@pytest.mark.parametrize("dates", [2, 3, 7, 20])
def test_few_dates_make_no_trouble(dates: int) -> None:
    random = np.random.default_rng(dates)
    model, rival = random.gamma(2, size=(2, dates))
    for lags in (0, 6, 30):
        tested = compare("naive", model, rival, confidence=0.9, lags=lags)
        assert (tested.p_better is None) == (dates < lags + 2)
    rival[1:] = 0  # most resamples have no loss to improve on
    assert compare("naive", model, rival, confidence=0.9).low is None
    alike = np.array([1.5, -0.5, *[0.5] * (dates - 2)])  # all but the first two dates are as the mean
    assert compare("naive", 5 + alike, np.full(dates, 5.0), confidence=0.9).dates == dates


def test_lags_cover_the_overlap() -> None:
    assert [overlap_lags(15, stride) for stride in (30, 15, 14, 5, 1)] == [0, 0, 4, 6, 30]


def test_anybody_can_compute_a_p_value_from_the_file_alone() -> None:
    random = np.random.default_rng(0)
    model, rival = overlapping(random)
    model[4] = np.nan
    text = document.Evaluation(comparisons=(compare("naive", model, rival, confidence=0.9, lags=6),)).dump()

    found = json.loads(text)["comparisons"][0]
    test = diebold_mariano_test(
        [0.0] * len(found["model"]),
        found["model"],
        found["loss"],
        criterion=lambda _, loss: loss,
        harvey_adj=True,
        horizon=found["lags"] + 1,
        lags=found["lags"],
    )
    p_better = test.pvalue / 2 if test.statistic < 0 else 1 - test.pvalue / 2

    assert found["pBetter"] == pytest.approx(p_better, abs=1e-12) and 0.001 < p_better < 0.999
    assert found["pWorse"] == pytest.approx(1 - p_better, abs=1e-12)
    undecided = "Worse" if 1 - p_better <= found["alpha"] else "Undecided"
    assert found["verdict"] == ("Better" if p_better <= found["alpha"] else undecided)


def test_two_rivals_make_one_verdict() -> None:
    better, worse, undecided, seen = (
        Comparison(verdict=verdict)
        for verdict in (Verdict.BETTER, Verdict.WORSE, Verdict.UNDECIDED, Verdict.NOT_OUT_OF_SAMPLE)
    )
    assert overall(better, better) == Verdict.BETTER
    for other in (better, undecided, seen, None):
        assert overall(worse, other) == overall(other, worse) == Verdict.WORSE
    for other in (better, undecided, None):
        assert overall(seen, other) == overall(other, seen) == Verdict.NOT_OUT_OF_SAMPLE
        assert overall(undecided, other) == overall(other, None) == Verdict.UNDECIDED
