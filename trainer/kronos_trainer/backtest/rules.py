"""From signals to orders: what a strategy wants to hold after each date. Pure, and told of no price."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Set
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kronos_trainer.config import Backtest, Strategy
from kronos_trainer.errors import BadEnvironment, ConfigError
from kronos_trainer.evaluation.cells import Floats

MOST_HELD = 50  # of a top-k whose topK nobody has set


@dataclass(frozen=True, kw_only=True)
class Swap:
    """Sell these symbols (their indices), and buy these, the first ones first. Others are left alone.

    Cash is split equally over the free ones of `slots` places.
    """

    sell: tuple[int, ...]
    buy: tuple[int, ...]
    slots: int


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Shares of the capital that each symbol is to be worth [N]: below 0 short, NaN to be left alone."""

    target: Floats
    long_only: bool


Orders = Swap | Weights


class Rule(Protocol):
    """A strategy."""

    @property
    def label(self) -> str:
        """For people."""

    def decide(self, date: int, held: Set[int]) -> Orders:
        """What to trade after the close of a date (its index), while these symbols are held."""


@dataclass(frozen=True, kw_only=True)
class TopK:
    """Holds `k` symbols; at most `drop` of them are replaced at a date, by symbols of a higher signal.

    TopkDropoutStrategy of Qlib, which would also replace one by a worse one where there are few others. A symbol
    without a signal ranks last and is never bought; of equal ones the first is better.
    """

    signals: Floats  # [D, N]
    k: int
    drop: int

    @property
    def label(self) -> str:
        """For people."""
        count = self.signals.shape[1]
        if self.k == 1:
            return f"the one of {count} symbols that is expected to rise most"
        replaced = "" if self.drop == self.k else f", at most {self.drop} replaced at a time"
        return f"the {self.k} of {count} symbols that are expected to rise most{replaced}"

    def decide(self, date: int, held: Set[int]) -> Orders:
        """See `Rule`."""
        row = np.nan_to_num(self.signals[date], nan=-np.inf)

        def ranked(symbols: Set[int]) -> list[int]:
            return sorted(symbols, key=lambda symbol: (-row[symbol], symbol))

        able = frozenset(np.flatnonzero(np.isfinite(self.signals[date])).tolist())
        new = ranked(able - held)[: max(0, self.drop + self.k - len(held))]
        best = ranked(held | frozenset(new))[: self.k]
        return Swap(
            sell=tuple(symbol for symbol in ranked(held) if symbol not in best),
            buy=tuple(symbol for symbol in new if symbol in best),
            slots=self.k,
        )


@dataclass(frozen=True, kw_only=True)
class LongFlat:
    """Holds each symbol that is expected to rise, with an equal part of the capital for each that there is."""

    signals: Floats  # [D, N]

    @property
    def label(self) -> str:
        """For people."""
        one = self.signals.shape[1] == 1
        return "long while a rise is expected, else in cash" if one else "each symbol that is expected to rise"

    def decide(self, date: int, held: Set[int]) -> Orders:
        """See `Rule`. What has no signal is sold."""
        rising = frozenset(np.flatnonzero(self.signals[date] > 0).tolist())  # NaN is not
        return Swap(sell=tuple(sorted(held - rising)), buy=tuple(sorted(rising - held)), slots=self.signals.shape[1])


@dataclass(frozen=True, kw_only=True)
class LongShort:
    """Holds the `k` best symbols and is short of the `k` worst, each with an equal part of the capital.

    A single symbol is held with all of the capital, or short with all of it.
    """

    signals: Floats  # [D, N]
    k: int

    @property
    def label(self) -> str:
        """For people."""
        if self.signals.shape[1] == 1:
            return "long while a rise is expected, else short"
        return f"long the {self.k} best and short the {self.k} worst of {self.signals.shape[1]} symbols"

    def decide(self, date: int, held: Set[int]) -> Orders:
        """See `Rule`. With too few signals both sides become smaller alike."""
        row = self.signals[date]
        target = np.zeros(len(row))
        if len(row) == 1:
            target[0] = np.sign(row[0]) if np.isfinite(row[0]) else 0.0
            return Weights(target=target, long_only=False)
        able = np.flatnonzero(np.isfinite(row))
        ranked = able[np.argsort(-row[able], kind="stable")]
        each = min(self.k, len(ranked) // 2)
        target[ranked[:each]] = 1 / (2 * self.k)
        target[ranked[len(ranked) - each :]] = -1 / (2 * self.k)
        return Weights(target=target, long_only=False)


@dataclass(frozen=True, kw_only=True)
class BuyAndHold:
    """Buys every symbol that has a bar at the first date, and keeps it to its end."""

    there: npt.NDArray[np.bool_]  # [D, N]: whether a symbol has a bar at a date

    @property
    def label(self) -> str:
        """For people."""
        return "buy and hold"

    def decide(self, date: int, held: Set[int]) -> Orders:
        """See `Rule`."""
        first = frozenset(np.flatnonzero(self.there[0]).tolist())
        return Swap(sell=(), buy=tuple(sorted(first - held)), slots=len(first))


@dataclass(frozen=True, kw_only=True)
class EqualWeight:
    """Holds every symbol with the same part of the capital, which is restored at each date."""

    there: npt.NDArray[np.bool_]  # [D, N]: whether a symbol has a bar at a date

    @property
    def label(self) -> str:
        """For people."""
        return "equal weight"

    def decide(self, date: int, held: Set[int]) -> Orders:
        """See `Rule`. What has no bar at the date is left alone."""
        there = self.there[date]
        count = len(held | set(np.flatnonzero(there).tolist()))
        return Weights(target=np.where(there, 1 / max(1, count), np.nan), long_only=True)


def rule_of(settings: Backtest, signals: Floats) -> TopK | LongFlat | LongShort:
    """The strategy for signals [D, N]. Raises ConfigError where it does not fit N symbols."""
    count = signals.shape[1]
    strategy = settings.strategy or (Strategy.LONG_FLAT if count == 1 else Strategy.TOP_K)
    if strategy is Strategy.LONG_FLAT:
        _unused(settings, strategy, "top_k", "drop_out")
        return LongFlat(signals=signals)
    if strategy is Strategy.LONG_SHORT:
        _unused(settings, strategy, "drop_out")
        k = settings.top_k or _fifth(count)
        if count > 1 and 2 * k > count:
            raise ConfigError(f"topK {k}: long-short needs at least {2 * k} symbols, and there are {count}")
        return LongShort(signals=signals, k=k)
    if count == 1:
        raise ConfigError("top-k chooses among several symbols, and there is one: use long-flat or long-short")
    k = settings.top_k or _fifth(count)
    if k >= count:
        raise ConfigError(f"topK {k}: must be less than the number of symbols, {count}, or nothing is chosen")
    drop = settings.drop_out or math.ceil(k / 5)
    if drop > k:
        raise ConfigError(f"dropOut {drop}: must not exceed topK, {k}")
    return TopK(signals=signals, k=k, drop=drop)


def check(settings: Backtest, symbols: int) -> None:
    """Raises ConfigError where a strategy does not fit so many symbols, BadEnvironment without bt or ffn.

    For a run, in which hours of forecasts come before its backtest.
    """
    missing = [name for name in ("bt", "ffn") if importlib.util.find_spec(name) is None]
    if missing:
        raise BadEnvironment(f"a backtest needs {' and '.join(missing)}: pip install 'kronos-operator[trainer]'")
    rule_of(settings, np.empty((0, symbols)))


def _fifth(count: int) -> int:
    return min(MOST_HELD, max(1, count // 5))


def _unused(settings: Backtest, strategy: Strategy, *names: str) -> None:
    given = {"top_k": "topK", "drop_out": "dropOut"}
    for name in names:
        if getattr(settings, name) is not None:
            raise ConfigError(f"{given[name]}: {strategy} has no use for it; leave it out")
