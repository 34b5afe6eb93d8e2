"""The accounting of a backtest against a ledger by hand, what foresight earns, and what a strategy may know."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronos_trainer.backtest.accounting import Costs, Ledger, trade
from kronos_trainer.backtest.market import Market, market_of
from kronos_trainer.backtest.performance import deflated, monthly, performance, positions, sharpe_error
from kronos_trainer.backtest.rules import (
    BuyAndHold,
    EqualWeight,
    LongFlat,
    LongShort,
    Orders,
    Swap,
    TopK,
    Weights,
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


