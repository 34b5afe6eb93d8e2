"""A backtest of a run, from its evaluation's files and the bars to a summary. Called by the command and by a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kronos_trainer.backtest import trials, wording
from kronos_trainer.backtest.accounting import CAPITAL, Costs, Ledger, trade
from kronos_trainer.backtest.document import BUY_AND_HOLD, EQUAL_WEIGHT, STRATEGY, Backtest, Trial
from kronos_trainer.backtest.market import Market, market_of
from kronos_trainer.backtest.performance import deflated, monthly, performance
from kronos_trainer.backtest.rules import BuyAndHold, EqualWeight, LongShort, Rule, TopK, rule_of
from kronos_trainer.config import Backtest as Settings
from kronos_trainer.config import RunConfig, RunPaths, Strategy
from kronos_trainer.data.bars import Bars
from kronos_trainer.data.windows import instant_text
from kronos_trainer.evaluation.document import Evaluation
from kronos_trainer.evaluation.signals import Signals


@dataclass(frozen=True, kw_only=True)
class Traded:
    """A backtest; the ledgers are by the names of `Backtest.performance`."""

    summary: Backtest
    market: Market
    ledgers: Mapping[str, Ledger]


def traded(
    run: RunConfig, paths: RunPaths, bars: Bars, signals: Signals, judged: Evaluation, settings: Settings
) -> Traded:
    """Trades on the signals of a run, and records the trial beside its results.

    Raises ConfigError where the strategy does not fit the symbols, InputMissing where the bars are others, DataError
    where there is nothing to trade on, StorageError.
    """
    rule = rule_of(settings, signals.expected)
    market = market_of(bars, signals)
    costs = Costs(commission=settings.cost_bps / 1e4, slippage=settings.slippage_bps / 1e4)
    rules: dict[str, Rule] = {STRATEGY: rule, BUY_AND_HOLD: BuyAndHold(there=market.there)}
    if len(market.symbols) > 1:
        rules[EQUAL_WEIGHT] = EqualWeight(there=market.there)
    ledgers = {name: trade(market, one, costs) for name, one in rules.items()}
    measured = {name: performance(market, ledger) for name, ledger in ledgers.items()}
    own = measured[STRATEGY]
    trial = Trial(
        run=run.run,
        hash=signals.hash,
        strategy=_name(rule).value,
        top_k=rule.k if isinstance(rule, TopK | LongShort) else 0,
        drop_out=rule.drop if isinstance(rule, TopK) else 0,
        first=instant_text(int(market.times[0])),
        last=instant_text(int(market.times[-1])),
        sharpe=own.sharpe,
    )
    tried = trials.record(paths.trials, trial)
    number = trials.count(tried, judged.readings)
    known = [one.sharpe for one in tried if one.sharpe is not None]
    hurdle = probability = None
    if own.sharpe is not None and own.sharpe_error:
        hurdle, probability = deflated(own.sharpe, own.sharpe_error, known, number)
    found = Backtest(
        version=1,
        model=run.model.model_dump(),
        run=run.run,
        hash=signals.hash,
        timeframe=run.timeframe.value,
        horizon=signals.horizon,
        digest=signals.digest,
        strategy=trial.strategy,
        label=rule.label,
        top_k=trial.top_k,
        drop_out=trial.drop_out,
        cost_bps=settings.cost_bps,
        slippage_bps=settings.slippage_bps,
        capital=CAPITAL,
        first=trial.first,
        last=trial.last,
        dates=int(np.count_nonzero(market.rows < market.last)),
        bars=len(market.times),
        symbols=len(market.symbols),
        unforeseen=market.unforeseen,
        delisted=int(np.count_nonzero(market.ends <= market.last)),
        contaminated=judged.contaminated,
        performance=measured,
        trials=number,
        tried=tried,
        hurdle=hurdle,
        deflated=probability,
        months=monthly(market, ledgers[STRATEGY]),
    )
    said = {"verdict": wording.verdict(found), "sentence": wording.sentence(found), "caveats": wording.caveats(found)}
    return Traded(summary=found.model_copy(update=said), market=market, ledgers=ledgers)


def _name(rule: Rule) -> Strategy:
    if isinstance(rule, TopK):
        return Strategy.TOP_K
    return Strategy.LONG_SHORT if isinstance(rule, LongShort) else Strategy.LONG_FLAT
