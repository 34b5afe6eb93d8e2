"""The macro view: planted seasons and regimes are found, nothing is found in a random walk, and nothing looks ahead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_examples as examples
from closing_prices import bars_of

from kronos_trainer import report
from kronos_trainer.config import StageName, Timeframe
from kronos_trainer.evaluation.document import Evaluation
from kronos_trainer.macro.document import Macro, Row, Table
from kronos_trainer.macro.market import Market, market_of
from kronos_trainer.macro.regimes import RECENT, states
from kronos_trainer.macro.seasons import seasons
from kronos_trainer.macro.view import macro_view

DAYS = pd.bdate_range("2000-01-03", periods=2500).as_unit("ns")


def market(returns: np.ndarray, days: pd.DatetimeIndex = DAYS) -> Market:
    return Market(days.asi8[: len(returns)], returns, returns.cumsum())


def table(found: list[Table] | tuple[Table, ...], name: str) -> dict[str, Row]:
    (one,) = [one for one in found if one.name == name]
    return {row.label: row for row in one.rows}


def test_the_market_is_the_mean_of_the_symbols_that_have_both_bars() -> None:
    days = DAYS[:4]
    one = pd.Series([100.0, 110.0, 121.0, 121.0], days)
    other = pd.Series([50.0, 50.0, 45.0], days[[0, 1, 3]])  # one bar is missing: its change is that of two days
    gone = pd.Series([0.0, 10.0], days[:2])  # a price of 0 has no return
    found = market_of(bars_of({"A": one, "B": other, "C": gone}))
    up = 100 * np.log(1.1)
    assert found.times.tolist() == days.asi8[1:].tolist()
    np.testing.assert_allclose(found.returns, [up / 2, up, 100 * np.log(0.9) / 2], rtol=1e-6)
    np.testing.assert_allclose(found.level, np.cumsum(found.returns))


def test_a_planted_weekday_stands_out_and_nothing_of_a_random_walk_does() -> None:
    random = np.random.default_rng(2)
    noise = random.normal(0, 1, len(DAYS))
    planted, _ = seasons(market(noise + 0.3 * (DAYS.day_of_week == 1)), daily=True, seed=0)
    tuesday = table(planted, "weekday")["Tuesday"]
    assert tuesday.low is not None and tuesday.low > 0.1 and tuesday.count == 500
    assert tuesday.value == pytest.approx(0.3, abs=0.1)
    beside = rows = 0
    for seed in range(20):
        found, _ = seasons(market(np.random.default_rng(seed).normal(0, 1, 700)), daily=True, seed=0)
        beside += sum(one.beside for one in found)
        rows += sum(len(one.rows) for one in found if one.neutral is not None)
    assert 0.02 * rows < beside < 0.09 * rows  # of intervals that hold in 95 of 100 cases


def test_the_turn_of_a_month_is_its_last_day_and_the_first_three() -> None:
    days = pd.bdate_range("2024-01-22", "2024-03-08").as_unit("ns")
    turn = {
        "2024-01-31",
        "2024-02-01",
        "2024-02-02",
        "2024-02-05",
        "2024-02-29",
        "2024-03-01",
        "2024-03-04",
        "2024-03-05",
    }
    returns = np.array([5.0 if str(day.date()) in turn else -1.0 for day in days])
    found = table(seasons(market(returns, days), daily=True, seed=0)[0], "turn")
    assert {label: (row.count, row.value) for label, row in found.items()} == {
        "last 1 and first 3 days of a month": (8, 5.0),
        "other days": (len(days) - 8, -1.0),
    }


def test_a_season_of_the_year_is_one_only_where_shuffled_months_have_none() -> None:
    month = np.asarray(DAYS.month)
    noise = np.random.default_rng(3).normal(0, 0.5, len(DAYS))
    planted = table(seasons(market(noise + 0.2 * np.sin(month / 12 * 2 * np.pi)), daily=True, seed=0)[0], "year")
    (found,) = planted.values()
    assert found.value is not None and found.high is not None and found.value > found.high and found.count == 115
    (nothing,) = table(seasons(market(noise), daily=True, seed=0)[0], "year").values()
    assert nothing.value is not None and nothing.high is not None and nothing.value <= nothing.high
    assert nothing.value > 0.05  # which is why its value alone says nothing
    short, notes = seasons(market(noise[:700]), daily=True, seed=0)
    assert "year" not in {one.name for one in short} and notes == [
        "season of the year: 33 months of bars, 60 are needed"
    ]


def test_a_state_is_known_at_its_date_and_not_from_later_bars() -> None:
    random = np.random.default_rng(4)
    calm, stormy = random.normal(0.02, 0.5, 1000), random.normal(-0.1, 3, 500)
    found = market(np.concatenate([calm, stormy, calm]))
    start = int(found.times[900])
    dates = found.times[[5, 990, 1200, 2400]]
    volatility, drawdown = states(found, dates, start)
    assert volatility.at[0] == -1 and volatility.at[2] == 2  # fewer than RECENT bars; the storm
    below = 100 * (1 - np.exp((found.level - np.maximum.accumulate(found.level)) / 100))
    wanted = [0 if below[place] < 5 else 1 if below[place] < 15 else 2 for place in (5, 990, 1200, 2400)]
    assert drawdown.at.tolist() == wanted and 2 in wanted
    for date, place in zip(dates, (5, 990, 1200, 2400), strict=True):
        garbled = found.returns.copy()
        garbled[place + 1 :] = random.normal(0, 50, len(garbled) - place - 1)
        again = states(market(garbled), np.array([date]), min(start, int(date)))
        once = states(found, np.array([date]), min(start, int(date)))
        assert [one.at.tolist() for one in again] == [one.at.tolist() for one in once]
        assert [one.labels for one in again] == [one.labels for one in once]
    assert RECENT < 900


def test_errors_are_told_by_what_was_known_at_their_dates() -> None:
    random = np.random.default_rng(5)
    close = pd.Series(100 * np.exp(random.normal(0, 0.01, len(DAYS)).cumsum()), DAYS)
    dates = DAYS[2000::20]
    model, naive = random.uniform(1, 2, len(dates)), np.full(len(dates), 1.5)
    spring = np.asarray(dates.quarter == 2)
    model[spring] += 1
    found = Evaluation.load(
        Evaluation(
            dates=tuple(map(str, dates)),
            forecasters={
                name: {"name": name, "losses": {"crps": tuple(losses)}}
                for name, losses in (("finetuned", model), ("naive", naive))
            },
        ).dump()
    )
    view = macro_view(bars_of({"A": close}), Timeframe.D1, found, start=int(dates.asi8[0]))
    losses, over = table(view.tables, "quarterLoss"), table(view.tables, "quarterOverNaive")
    assert losses["April to June"].value == pytest.approx(model[spring].mean())
    assert over["April to June"].value == pytest.approx((model - naive)[spring].mean())
    assert over["April to June"].low is not None and over["April to June"].low > 0
    for name in ("quarter", "volatility", "drawdown"):
        assert sum(row.count for row in table(view.tables, f"{name}Loss").values()) == len(dates)
    assert Macro.load(view.dump()).dump() == view.dump()
    for timeframe in (Timeframe.W1, Timeframe.MO1):
        slower = macro_view(bars_of({"A": close}), timeframe, found, start=int(dates.asi8[0]))
        assert not {"weekday", "turn"} & {one.name for one in slower.tables}


def test_a_report_shows_it_and_that_nothing_was_fed_to_the_model(tmp_path: Path) -> None:
    example = examples.judged(tmp_path)
    rows = (Row(label="<b>", count=40, value=0.5, low=0.2, high=0.8), Row(label="other", count=1))
    shown = Table(name="x", title="By <x>", unit="%", observations="bars", neutral=0.0, rows=rows)
    example.write(example.paths.stage(StageName.EVALUATION).macro, Macro(tables=(shown,)).dump())
    page, facts, text = report.write(example.run, example.paths)
    html = page.read_text()
    assert "Looked at, not fed to the model" in html and "By &lt;x&gt;" in html and "<b></th>" not in html
    assert "1 of 2 intervals leave out 0" in html
    assert '"macro"' in facts.read_text() and "Macro view" in text.read_text()
    example.paths.stage(StageName.EVALUATION).macro.write_text("{")
    report.write(example.run, example.paths)
    assert "not fed to the model" not in page.read_text()


def test_intervals_beside_the_neutral_value_are_counted() -> None:
    one = Table(neutral=0.0, rows=(Row(low=0.1, high=1.0), Row(low=-1.0, high=1.0), Row()))
    assert one.beside == 1 and one.model_copy(update={"neutral": None}).beside == 0
