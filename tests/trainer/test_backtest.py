"""The accounting of a backtest against a ledger by hand, what foresight earns, and what a strategy may know."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronos_trainer.backtest.accounting import Costs, trade
from kronos_trainer.backtest.market import market_of
from kronos_trainer.backtest.performance import deflated, monthly, performance, positions, sharpe_error
from kronos_trainer.backtest.rules import (
    BuyAndHold,
    EqualWeight,
    LongFlat,
    LongShort,
    TopK,
    rule_of,
)
from kronos_trainer.config import Backtest
from kronos_trainer.data.bars import Bars, time_stamps
from kronos_trainer.errors import ConfigError, DataError, InputMissing
from kronos_trainer.evaluation.signals import Signals

DAY = 86_400_000_000_000
FREE = Costs(commission=0.0, slippage=0.0)
NAN = math.nan


def bars_of(series: dict[str, list[tuple[int, float, float]]], digest: str = "d") -> Bars:
    """Bars of symbols: the day, open and close of each."""
    values, times, offsets = [], [], [0]
    for rows in series.values():
        for day, opened, close in rows:
            values.append([opened, max(opened, close), min(opened, close), close, 1.0, 1.0])
            times.append(day * DAY)
        offsets.append(len(times))
    return Bars(
        symbols=tuple(series),
        offsets=np.array(offsets),
        values=np.array(values, np.float32),
        times=np.array(times),
        stamps=time_stamps(np.array(times)),
        digest=digest,
        notes=(),
    )


def signals_of(symbols: tuple[str, ...], days: list[int], expected: Any, horizon: int, digest: str = "d") -> Signals:
    return Signals(
        run="r",
        hash="h",
        digest=digest,
        horizon=horizon,
        symbols=symbols,
        times=np.array(days) * DAY,
        expected=np.array(expected, np.float64),
    )


def test_the_ledger_of_ten_bars_is_the_one_by_hand() -> None:
    """Commission 1 %, slippage 0.5 %: three of four symbols are held, one has no bar when it is to be bought, and then
    none at a date; one is delisted."""
    opens = {
        "A": [10, 10, 11, 12, 13, 14, 15, 16, 17, 18],
        "B": [20, None, 20, None, 24, 26, 27, 28, 30, 32],
        "C": [50, 40, 44, 48, 52],
        "D": [5, 5, 5, 5, 5, 8, 8, 10, 10, 10],
    }
    bars = bars_of(
        {
            name: [(day, float(price), price + 0.5) for day, price in enumerate(prices) if price is not None]
            for name, prices in opens.items()
        }
    )
    # Dates on days 0, 3 and 6, of which two symbols may be replaced.
    expected = [[3, 2, 1, -1], [3, NAN, 1, -1], [1, 2, NAN, -1]]
    signals = signals_of(("A", "B", "C", "D"), [0, 3, 6], expected, 3)
    market = market_of(bars, signals)
    assert market.last == 9 and market.rows.tolist() == [1, 4, 7] and market.ends.tolist() == [10, 10, 5, 10]
    assert market.unforeseen == 0
    found = trade(market, TopK(signals=signals.expected, k=3, drop=2), Costs(commission=0.01, slippage=0.005), 3000.0)

    bought, sold = 1 + 0.015, 1 - 0.015
    a, c = 1000 / (10 * bought), 1000 / (40 * bought)  # day 1: a third of the cash each; B has no bar
    b = 1000 / (20 * bought)  # day 2: the rest, for the last free place
    d = b * 24 * sold / (5 * bought)  # day 4: B is sold, and D bought with what it brought
    gone = c * 52.5 * sold  # day 5: C had its last bar on day 4, and is sold at its close; the cash stays
    again = gone / (28 * bought)  # day 7: B again, on the free place
    end = (a * 18 + again * 32 + d * 10) * sold  # day 9
    by_hand = [
        (1, "A", a, 10), (1, "C", c, 40), (2, "B", b, 20), (4, "B", -b, 24), (4, "D", d, 5), (5, "C", -c, 52.5),
        (7, "B", again, 28), (9, "A", -a, 18), (9, "B", -again, 32), (9, "D", -d, 10),
    ]  # fmt: skip
    assert [(one.row, market.symbols[one.symbol]) for one in found.trades] == [row[:2] for row in by_hand]
    for one, (_, _, quantity, price) in zip(found.trades, by_hand, strict=True):
        assert (one.quantity, one.price) == pytest.approx((quantity, price))
        assert (one.commission, one.slippage) == pytest.approx((0.01 * one.value, 0.005 * one.value))
    assert [one.reason for one in found.trades] == ["signal"] * 5 + ["delisted", "signal"] + ["end"] * 3
    value = [
        3000, 2000 / bought + 1000, a * 11 + b * 20 + c * 44, a * 12 + b * 20.5 + c * 48, a * 13 + d * 5 + c * 52,
        gone + a * 14 + d * 8, gone + a * 15 + d * 8, a * 16 + again * 28 + d * 10, a * 17 + again * 30 + d * 10, end,
    ]  # fmt: skip
    assert found.equity == pytest.approx(value)
    cash = [3000, 1000, 0, 0, 0, gone, gone, 0, 0, end]
    assert found.cash == pytest.approx(cash, abs=1e-8)
    assert found.cash + found.long + found.short == pytest.approx(found.equity)
    assert positions(found) == pytest.approx(
        [b * (24 * sold - 20 * bought), c * (52.5 * sold - 40 * bought), a * (18 * sold - 10 * bought),
         again * (32 * sold - 28 * bought), d * (10 * sold - 5 * bought)]
    )  # fmt: skip
    measured = performance(market, found)
    assert measured.hit_rate == 1 and measured.trades == 10
    assert measured.total_return == pytest.approx(end / 3000 - 1)
    paid = 0.015 * sum(abs(quantity) * price for _, _, quantity, price in by_hand)
    assert measured.costs == pytest.approx(paid / 3000)


def walk(days: int, symbols: int, seed: int = 0) -> Bars:
    """Symbols whose open is the last close, a random walk."""
    random = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(random.normal(0, 0.02, (days, symbols)), axis=0))
    opens = np.vstack([np.full((1, symbols), 100.0), closes[:-1]])
    return bars_of(
        {
            f"S{symbol}": [(day, float(opens[day, symbol]), float(closes[day, symbol])) for day in range(days)]
            for symbol in range(symbols)
        }
    )


def foresight(bars: Bars, days: list[int], horizon: int, shift: int = 0) -> Signals:
    """What came after each date, or `shift` dates before it."""
    count = len(bars.symbols)
    closes = bars.values[:, 3].reshape(count, -1).astype(np.float64)
    came = np.array([100 * np.log(closes[:, day + horizon] / closes[:, day]) for day in days])
    return signals_of(bars.symbols, days, np.roll(came, shift, axis=0), horizon)


def test_perfect_foresight_earns_what_arithmetic_says_and_late_foresight_does_not() -> None:
    bars, horizon = walk(401, 5), 4
    days = list(range(0, 396, horizon))
    closes = bars.values[:, 3].reshape(5, -1).astype(np.float64)
    costs = Costs(commission=0.001, slippage=0.0005)
    signals = foresight(bars, days, horizon)
    market = market_of(bars, signals)
    # One symbol in turn, the best of each horizon: the product of its growths, and of the costs of each change.
    best = [int(np.argmax(row)) for row in signals.expected]
    # Opens are the closes before, so a decision at a close is filled at that very price.
    growth = math.prod(
        closes[symbol, min(day + horizon, 399)] / closes[symbol, day] for symbol, day in zip(best, days, strict=True)
    )
    changes = sum(one != other for one, other in pairwise(best))
    rule = TopK(signals=signals.expected, k=1, drop=1)
    assert trade(market, rule, FREE).equity[-1] / 1e6 == pytest.approx(growth)
    paid = ((1 - 0.0015) / (1 + 0.0015)) ** changes * (1 - 0.0015) / (1 + 0.0015)
    assert trade(market, rule, costs).equity[-1] / 1e6 == pytest.approx(growth * paid)
    known = performance(market, trade(market, rule, costs))
    assert known.sharpe is not None and known.sharpe_error is not None and known.sharpe > 5 * known.sharpe_error
    late = foresight(bars, days, horizon, shift=1)
    shifted = performance(market_of(bars, late), trade(market, TopK(signals=late.expected, k=1, drop=1), costs))
    assert shifted.sharpe is not None and abs(shifted.sharpe) < 2 * known.sharpe_error


def test_no_trade_knows_what_comes_after_it() -> None:
    """From some day on all is garbled, of that day itself but its open: the trades until then stay as they were."""
    bars, days = walk(60, 6), list(range(0, 50, 5))
    signals = foresight(bars, days, 5)
    for rule in (TopK(signals=signals.expected, k=2, drop=1), LongFlat(signals=signals.expected),
                 LongShort(signals=signals.expected, k=2)):  # fmt: skip
        one = trade(market_of(bars, signals), rule, FREE)
        assert len({trade.row for trade in one.trades}) >= 8
        for day in (1, 5, 6, 7, 11, 26, 30, 31):
            values, today = bars.values.copy(), bars.times == day * DAY
            random = np.random.default_rng(day)
            after = bars.times > day * DAY
            values[after] = random.lognormal(4, 1, values[after].shape)
            values[today, 1:] = random.lognormal(4, 1, values[today, 1:].shape)
            other = trade(market_of(replace(bars, values=values), signals), rule, FREE)
            row = day  # the first date is on day 0
            assert [trade for trade in one.trades if trade.row <= row] == [
                trade for trade in other.trades if trade.row <= row
            ]
            assert one.equity[:row].tolist() == other.equity[:row].tolist()
            assert one.equity[row + 1] != other.equity[row + 1]


holes = st.lists(st.tuples(st.integers(1, 39), st.integers(0, 4)), max_size=60)


@settings(deadline=None, max_examples=40)
@given(holes, st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(12, 40))
def test_whatever_is_missing_nothing_is_borrowed_and_no_more_is_held_than_allowed(
    missing: list[tuple[int, int]], k: int, drop: int, seed: int, end: int
) -> None:
    whole = walk(40, 5, seed)
    series = {
        name: [
            (day, *map(float, whole.values[40 * number + day, [0, 3]]))
            for day in range(40 if number else end)  # one is delisted
            if (day, number) not in missing
        ]
        for number, name in enumerate(whole.symbols)
    }
    bars, days = bars_of(series), list(range(0, 36, 3))
    random = np.random.default_rng(seed).normal(0, 1, (len(days), 5))
    market = market_of(bars, signals_of(bars.symbols, days, random, 3))
    signals = np.where(market.there, random, np.nan)
    costs = Costs(commission=0.002, slippage=0.001)
    drop = min(drop, k)
    for rule, most in (
        (TopK(signals=signals, k=k, drop=drop), k), (LongFlat(signals=signals), 5),
        (BuyAndHold(there=market.there), 5), (EqualWeight(there=market.there), 5), (LongShort(signals=signals, k=2), 4),
    ):  # fmt: skip
        found = trade(market, rule, costs)
        held: dict[int, float] = {}
        sold: dict[int, int] = {}
        cash = found.equity[0]
        for one in found.trades:
            held[one.symbol] = held.get(one.symbol, 0.0) + one.quantity
            cash += one.cash
            assert one.reason != "signal" or np.isfinite(market.opens[one.row, one.symbol])
            if one.reason == "signal" and one.quantity < 0:
                date = int(np.searchsorted(market.rows, one.row, side="right"))
                sold[date] = sold.get(date, 0) + 1
            if not isinstance(rule, LongShort):
                assert min(held.values()) > -1e-9 and sum(value > 1e-9 for value in held.values()) <= most
        assert np.abs(list(held.values()) or [0]).max() < 1e-9 and cash == pytest.approx(found.equity[-1])
        assert found.cash + found.long + found.short == pytest.approx(found.equity)
        if isinstance(rule, LongShort):
            decided = [row for row in market.rows if row < market.last]
            gross = (found.long - found.short)[decided] / found.equity[decided]
            assert (gross[np.isfinite(market.opens[decided]).all(axis=1)] < 1 + 1e-6).all()
        else:
            assert found.cash.min() > -1e-6
        if isinstance(rule, TopK):
            assert max(sold.values(), default=0) <= drop


def test_long_short_earns_the_difference_and_can_lose_everything() -> None:
    rising = [(day, 100.0 * 1.02**day, 100.0 * 1.02 ** (day + 1)) for day in range(13)]
    falling = [(day, 100.0 * 0.98**day, 100.0 * 0.98 ** (day + 1)) for day in range(13)]
    bars = bars_of({"UP": rising, "DOWN": falling})
    signals = signals_of(bars.symbols, [0, 4, 8], [[1, -1]] * 3, 4)
    market = market_of(bars, signals)
    found = trade(market, LongShort(signals=signals.expected, k=1), FREE)
    assert (found.long + found.short)[[1, 5, 9]] == pytest.approx(0, abs=1e-3)
    four = 1 + 0.5 * (1.02**4 - 1) - 0.5 * (0.98**4 - 1)
    three = 1 + 0.5 * (1.02**3 - 1) - 0.5 * (0.98**3 - 1)
    assert found.equity[-1] / 1e6 == pytest.approx(four * four * three, rel=1e-5)  # it ends with the last bar

    doubling = [(day, 10.0 * 2**day, 10.0 * 2 ** (day + 1)) for day in range(13)]
    bars = bars_of({"UP": doubling})
    signals = signals_of(bars.symbols, [0, 4, 8], [[-1]] * 3, 4)
    market = market_of(bars, signals)
    ruined = trade(market, LongShort(signals=signals.expected, k=1), FREE)
    assert ruined.bankrupt and ruined.equity[-1] == 0 and ruined.equity.min() >= 0
    measured = performance(market, ruined)
    assert measured.bankrupt and measured.total_return == -1 and measured.max_drawdown == -1
    assert measured.annual_return is None


def test_the_deflated_sharpe_ratio_is_that_of_its_paper_and_of_ffn() -> None:
    # Bailey and Lopez de Prado (2014), page 10: 5 years of daily returns, the best of 100 trials.
    sharpe = 2.5 / math.sqrt(250)
    error = math.sqrt((1 + 3 * sharpe + 9 / 4 * sharpe**2) / 1249)
    half = math.sqrt(0.5 / 250) / math.sqrt(2)
    hurdle, probability = deflated(sharpe, error, [-half, half], 100)
    assert hurdle == pytest.approx(0.1132, abs=1e-4) and probability == pytest.approx(0.9004, abs=1e-4)

    import ffn

    returns = pd.Series(np.random.default_rng(1).standard_t(4, 500) / 100 + 0.001)
    own = float(ffn.calc_sharpe(returns, nperiods=1, annualize=False))
    tried = [own, 0.01, -0.03, 0.05]
    theirs = ffn.calc_deflated_sharpe_ratio(returns, tried, nperiods=1, annualized_trials=False)
    assert deflated(own, sharpe_error(returns), tried, 4)[1] == pytest.approx(theirs)
    # One trial has nothing to be deflated by.
    assert deflated(1.0, 0.5, [1.0], 1)[0] == 0


def test_statistics_of_curves_that_hardly_move() -> None:
    bars = bars_of({"A": [(day, 10.0, 10.0) for day in range(40)]})
    signals = signals_of(("A",), [0, 10, 20], [[-1], [-1], [-1]], 10)
    market = market_of(bars, signals)
    flat = trade(market, rule_of(Backtest(), signals.expected), FREE)
    measured = performance(market, flat)
    assert flat.trades == () and measured.total_return == 0 and measured.hit_rate is None
    assert measured.sharpe is None and measured.sharpe_error is None and measured.exposure == 0
    assert [(one.year, one.month, one.value) for one in monthly(market, flat)] == [(1970, 1, 0), (1970, 2, 0)]
    rises = bars_of({"A": [(day, 10.0 + day, 11.0 + day) for day in range(40)]})
    market = market_of(rises, signals)
    held = trade(market, LongFlat(signals=-signals.expected), FREE)
    assert len(held.trades) == 2 and performance(market, held).max_drawdown == 0


def test_mistakes_say_what_to_do() -> None:
    several, one = np.zeros((3, 5)), np.zeros((3, 1))
    for fields, signals, words in (
        ({"strategy": "top-k"}, one, "use long-flat or long-short"),
        ({"top_k": 5}, several, "must be less than the number of symbols, 5"),
        ({"drop_out": 2}, several, "dropOut 2: must not exceed topK, 1"),
        ({"strategy": "long-short", "top_k": 3}, several, "needs at least 6 symbols, and there are 5"),
        ({"strategy": "long-flat", "top_k": 3}, several, "topK: long-flat has no use for it"),
        ({"strategy": "long-short", "drop_out": 1}, several, "dropOut: long-short has no use for it"),
    ):
        with pytest.raises(ConfigError, match=words):
            rule_of(Backtest.model_validate(fields), signals)
    bars = walk(20, 2)
    with pytest.raises(InputMissing, match="give the old ones with --bars"):
        market_of(bars, signals_of(bars.symbols, [0], [[1, 2]], 5, digest="other"))
    with pytest.raises(DataError, match="no forecast to trade on"):
        market_of(bars, signals_of(bars.symbols, [0], [[NAN, NAN]], 5))
    rule = rule_of(Backtest(), np.zeros((3, 400)))
    assert isinstance(rule, TopK) and (rule.k, rule.drop) == (50, 10)
