"""A strategy on a market: bt keeps positions, cash and costs; what is traded in which bar is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import bt
import numpy as np
import pandas as pd

from kronos_trainer.backtest.market import Market
from kronos_trainer.backtest.rules import Orders, Rule, Swap, Weights
from kronos_trainer.evaluation.cells import Floats

CAPITAL = 1_000_000.0
_DUST = 1e-9  # of the equity: less is not traded
_ROUNDS = 50  # to find the equity that is left after the costs of restoring weights; each gains three digits or more


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of a trade, as shares of its value at the open."""

    commission: float
    slippage: float

    @property
    def rate(self) -> float:
        """Both together."""
        return self.commission + self.slippage


@dataclass(frozen=True, kw_only=True)
class Trade:
    """One fill."""

    row: int  # of the market
    symbol: int
    quantity: float  # below 0: sold
    price: float  # the open, or the last close
    commission: float  # in money, as what follows
    slippage: float
    reason: str  # signal, delisted or end

    @property
    def value(self) -> float:
        """What was bought or sold, before costs; above 0."""
        return abs(self.quantity) * self.price

    @property
    def cash(self) -> float:
        """What it has changed the cash by."""
        return -self.quantity * self.price - self.commission - self.slippage


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What a strategy has had in each of T rows, after the trades there, in money."""

    equity: Floats  # [T]
    cash: Floats  # [T]
    long: Floats  # [T]: value of what is held
    short: Floats  # [T]: value of what is owed, not above 0
    trades: tuple[Trade, ...]
    bankrupt: bool  # nothing was left, and nothing was traded from there on


def trade(market: Market, rule: Rule, costs: Costs, capital: float = CAPITAL) -> Ledger:
    """Trades all dates by a rule: filled at the next open of a symbol, and worse than that by the costs.

    Sales come first. What cannot be traded for want of a bar waits for the symbol's next one, or until the next date
    decides anew. A symbol that has no more bars is sold at its last close.
    """
    trader = _Trader(market, rule, costs)
    strategy = bt.Strategy("strategy", [trader], children=list(market.symbols))
    strategy.set_commissions(lambda quantity, price: abs(quantity) * price * costs.commission)
    strategy.use_integer_positions(False)
    index = pd.DatetimeIndex(market.times.astype("datetime64[ns]"))
    # bt takes half of the spread for each trade. Its own loop puts a day before the first, which moves every statistic.
    prices = pd.DataFrame(market.prices, index, list(market.symbols))
    strategy.setup(prices, bidoffer=2 * costs.slippage * prices)
    strategy.adjust(capital)
    rows = len(market.times)
    for row, time in enumerate(index):
        strategy.update(time, inow=row)
        if strategy.bankrupt or strategy.value <= 0:
            rows = row
            break
        if trader.has_work(row):  # of 500 symbols, each update takes milliseconds
            strategy.run()
            strategy.update(time, inow=row)
    values = [np.asarray(security.values, np.float64)[:rows] for security in strategy.securities]
    held = np.array(values).reshape(len(values), rows)
    equity, cash = (np.asarray(found, np.float64)[:rows] for found in (strategy.values, strategy.cash))
    ended = np.zeros(len(market.times) - rows)  # a loss of more than everything counts as one of everything
    return Ledger(
        equity=np.concatenate([equity, ended]),
        cash=np.concatenate([cash, ended]),
        long=np.concatenate([np.where(held > 0, held, 0.0).sum(axis=0), ended]),
        short=np.concatenate([np.where(held < 0, held, 0.0).sum(axis=0), ended]),
        trades=tuple(trader.trades),
        bankrupt=rows < len(market.times),
    )


class _Trader(bt.Algo):  # type: ignore[misc]  # bt has no types
    """What bt calls in a row that has work."""

    def __init__(self, market: Market, rule: Rule, costs: Costs) -> None:
        super().__init__("trader")
        self.trades: list[Trade] = []
        self._market = market
        self._rule = rule
        self._costs = costs
        self._number = {name: symbol for symbol, name in enumerate(market.symbols)}
        self._date = {int(row): date for date, row in enumerate(market.rows) if row < market.last}
        self._ends = set(market.ends.tolist())
        self._row = 0
        self._sell: set[int] = set()  # what waits for a bar
        self._buy: list[int] = []
        self._slots = 0
        self._target: dict[int, float] = {}
        self._long_only = True

    def has_work(self, row: int) -> bool:
        """Whether anything may be traded in a row, which is the one that bt calls for next."""
        self._row = row
        waits = bool(self._sell or self._buy or self._target)
        return waits or row in self._date or row in self._ends or row == self._market.last

    def __call__(self, target: bt.Strategy) -> bool:
        held = self._held(target)
        for symbol in sorted(held):
            if self._row == self._market.last or self._market.ends[symbol] <= self._row:
                over = self._market.ends[symbol] <= self._row
                self._fill(target, symbol, -held.pop(symbol), "delisted" if over else "end")
        if self._row == self._market.last:
            return True
        if self._row in self._date:
            self._take(self._rule.decide(self._date[self._row], held.keys()))
        if self._sell or self._buy:
            self._swap(target, held)
        if self._target:
            self._restore(target, held)
        return True

    def _take(self, orders: Orders) -> None:
        """Replaces what still waits."""
        self._sell, self._buy, self._target = set(), [], {}
        if isinstance(orders, Swap):
            self._sell, self._slots = set(orders.sell), orders.slots
            self._buy = [symbol for symbol in orders.buy if self._market.ends[symbol] > self._row]
        else:
            assert isinstance(orders, Weights)
            known = np.flatnonzero(np.isfinite(orders.target)).tolist()
            self._target, self._long_only = {symbol: float(orders.target[symbol]) for symbol in known}, orders.long_only

    def _swap(self, target: bt.Strategy, held: dict[int, float]) -> None:
        for symbol in self._tradable(sorted(self._sell)):
            self._sell.discard(symbol)
            self._fill(target, symbol, -held.pop(symbol), "signal")
        free = self._slots - len(held)
        now = self._tradable(self._buy)[: max(0, free)]
        if not now:
            return
        share = target.capital / free
        for symbol in now:
            self._buy.remove(symbol)
            price = float(self._market.opens[self._row, symbol])
            self._fill(target, symbol, share / (price * (1 + self._costs.rate)), "signal")

    def _restore(self, target: bt.Strategy, held: Mapping[int, float]) -> None:
        """Trades to the weights, of the equity that is left after the costs of doing so."""
        now = self._tradable(sorted(self._target))
        weights = np.array([self._target.pop(symbol) for symbol in now])
        prices = self._market.opens[self._row, now]
        before = np.array([held.get(symbol, 0.0) for symbol in now])
        equity = left = float(target.value)
        for _ in range(_ROUNDS):
            change = weights * left / prices - before
            paid = self._costs.rate * float(np.abs(change * prices).sum())
            left, last = equity - paid, left
            if abs(left - last) <= _DUST * equity:
                break
        if self._long_only:
            # The money of a sale that waits for a bar is not there yet.
            spent = float((change * prices)[change > 0].sum()) * (1 + self._costs.rate)
            there = float(target.capital) - float((change * prices)[change < 0].sum()) * (1 - self._costs.rate)
            change[change > 0] *= min(1.0, max(0.0, there) / spent) if spent > 0 else 1.0
        for place in np.argsort(change, kind="stable"):  # sales first
            quantity, position = float(change[place]), float(before[place])
            if weights[place] * position < 0:  # from one side to the other is two trades
                self._fill(target, now[place], -position, "signal")
                quantity += position
            if abs(quantity * prices[place]) > _DUST * equity:
                # Exactly what there is, or something too small to see would be held for good.
                closes = weights[place] == 0 and position != 0
                self._fill(target, now[place], -position if closes else quantity, "signal")

    def _fill(self, target: bt.Strategy, symbol: int, quantity: float, reason: str) -> None:
        price = float(self._market.prices[self._row, symbol])
        target.transact(quantity, child=self._market.symbols[symbol])
        value = abs(quantity) * price
        if value:
            self.trades.append(
                Trade(
                    row=self._row, symbol=symbol, quantity=quantity, price=price, reason=reason,
                    commission=value * self._costs.commission, slippage=value * self._costs.slippage,
                )
            )  # fmt: skip

    def _tradable(self, symbols: Sequence[int]) -> list[int]:
        return [symbol for symbol in symbols if np.isfinite(self._market.opens[self._row, symbol])]

    def _held(self, target: bt.Strategy) -> dict[int, float]:
        found = {self._number[name]: float(one.position) for name, one in target.children.items()}
        return {symbol: position for symbol, position in found.items() if position != 0}
