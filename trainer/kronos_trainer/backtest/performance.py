"""The statistics of an equity curve, and how sure they are. Returns are those of bars; the risk-free rate is 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import ffn
import numpy as np
import pandas as pd
from scipy.stats import norm

from kronos_trainer.backtest.accounting import Ledger
from kronos_trainer.backtest.document import Month, Performance
from kronos_trainer.backtest.market import Market

_YEAR = 365.25 * 86_400e9  # ns
_LEAST_YEARS = 0.999  # a shorter span says nothing of a year


def curve(market: Market, ledger: Ledger) -> pd.Series[float]:
    """The equity over time."""
    return pd.Series(ledger.equity, pd.DatetimeIndex(market.times.astype("datetime64[ns]")), name="equity")


def performance(market: Market, ledger: Ledger) -> Performance:
    """What a strategy has earned, risked and paid."""
    equity = curve(market, ledger)
    per_year = bars_per_year(market)
    returns = _returns(equity)
    with np.errstate(invalid="ignore", divide="ignore"):
        gross = np.divide(ledger.long - ledger.short, ledger.equity)
        net = np.divide(ledger.long + ledger.short, ledger.equity)
    years = float(market.times[-1] - market.times[0]) / _YEAR
    traded = sum(trade.value for trade in ledger.trades)
    won = [gain > 0 for gain in positions(ledger)]
    total = float(ffn.calc_total_return(equity))
    return Performance(
        total_return=total,
        annual_return=float(ffn.calc_cagr(equity)) if years >= _LEAST_YEARS and total > -1 else None,
        volatility=_number(returns.std() * math.sqrt(per_year)),
        sharpe=_number(ffn.calc_sharpe(returns, nperiods=per_year)),
        sharpe_error=_number(sharpe_error(returns) * math.sqrt(per_year)),
        max_drawdown=_number(ffn.calc_max_drawdown(equity)),
        # One side of the trades, as a share of what there was.
        turnover=_number(traded / 2 / float(equity.mean()) / years if years > 0 else math.nan),
        exposure=_number(float(np.nanmean(gross))),
        net_exposure=_number(float(np.nanmean(net))),
        hit_rate=sum(won) / len(won) if won else None,
        positions=len(won),
        trades=len(ledger.trades),
        costs=sum(trade.commission + trade.slippage for trade in ledger.trades) / float(equity.iloc[0]),
        bankrupt=ledger.bankrupt,
    )


def bars_per_year(market: Market) -> float:
    """By which statistics of a bar become those of a year."""
    return (len(market.times) - 1) * _YEAR / float(market.times[-1] - market.times[0])


def sharpe_error(returns: pd.Series[float]) -> float:
    """Standard error of the Sharpe ratio of one bar; NaN where there is none.

    Mertens (2002), "Comments on variance of the IID estimator in Lo (2002)": Lo's formula for returns that are
    independent of each other, with their skewness and kurtosis. With n - 1, as in Bailey and Lopez de Prado (2012).
    """
    ratio = float(ffn.calc_sharpe(returns, annualize=False, nperiods=1))
    if len(returns) < 4 or not math.isfinite(ratio):
        return math.nan
    skewness, kurtosis = _moment(returns.skew()), _moment(returns.kurt()) + 3.0
    variance = 1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2
    return math.sqrt(variance / (len(returns) - 1)) if variance > 0 else math.nan


def deflated(sharpe: float, error: float, tried: Sequence[float], trials: int) -> tuple[float, float]:
    """The Sharpe ratio that the best of so many trials without any skill would have, and the deflated Sharpe ratio: how
    probable it is that the true one is above that.

    All ratios are of a year. `tried` are those of the trials that are known; where they are less than two, they are
    taken to scatter as one estimate does. Bailey and Lopez de Prado (2014), "The Deflated Sharpe Ratio: Correcting for
    Selection Bias, Backtest Overfitting, and Non-Normality".
    """
    scatter = float(np.std(tried, ddof=1)) if len(tried) > 1 else error
    hurdle = float(ffn.calc_expected_max_sharpe(trials, scatter))
    return hurdle, float(norm.cdf((sharpe - hurdle) / error))


def monthly(market: Market, ledger: Ledger) -> tuple[Month, ...]:
    """The return of each month, the first and the last of which may be cut."""
    equity = curve(market, ledger)
    ends = equity.resample("ME").last().dropna()  # ffn.to_monthly leaves out a last month that is cut
    starts = [float(equity.iloc[0]), *ends.iloc[:-1].tolist()]
    return tuple(
        Month(year=time.year, month=time.month, value=end / start - 1 if start > 0 else None)
        for time, start, end in zip(ends.index, starts, ends.tolist(), strict=True)
    )


def positions(ledger: Ledger) -> list[float]:
    """What each position has brought after costs, from the trade that opened it to the one that closed it."""
    gains, running, held = [], {}, {}  # type: list[float], dict[int, float], dict[int, float]
    for trade in ledger.trades:
        held[trade.symbol] = held.get(trade.symbol, 0.0) + trade.quantity
        running[trade.symbol] = running.get(trade.symbol, 0.0) + trade.cash
        if abs(held[trade.symbol]) * trade.price <= 1e-9 * trade.value:
            gains.append(running.pop(trade.symbol))
            held.pop(trade.symbol)
    return gains


def _returns(equity: pd.Series[float]) -> pd.Series[float]:
    """Of each bar; nothing comes after everything was lost."""
    alive = equity.shift(1) > 0
    returns: pd.Series[float] = ffn.to_returns(equity)[alive]
    return returns


def _moment(value: object) -> float:
    assert isinstance(value, float)  # of a series of numbers
    return value


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
