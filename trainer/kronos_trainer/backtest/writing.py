"""Puts the results of a backtest in their places: <root>/backtest_results/<model>/<run>/."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from kronos_trainer.backtest.accounting import Ledger
from kronos_trainer.backtest.document import STRATEGY
from kronos_trainer.backtest.market import Market
from kronos_trainer.backtest.page import page
from kronos_trainer.backtest.running import Traded
from kronos_trainer.config import BacktestPaths
from kronos_trainer.evaluation.origins import instant_texts
from kronos_trainer.storage import durable


def write(files: BacktestPaths, found: Traded) -> Path:
    """Replaces the files of a backtest, and returns its page. Raises StorageError.

    The same backtest has the same files, byte for byte.
    """
    times = instant_texts(found.market.times)
    durable.write_text(files.trades, _trades(found.market, found.ledgers[STRATEGY], times))
    durable.write_text(files.equity, _equity(found, times))
    durable.write_text(files.summary, found.summary.dump())
    durable.write_text(files.page, page(found))
    return files.page


def _trades(market: Market, ledger: Ledger, times: Sequence[str]) -> str:
    header = ("time", "symbol", "side", "quantity", "price", "value", "commission", "slippage", "reason")
    return _csv(
        header,
        (
            (
                times[one.row], market.symbols[one.symbol], "buy" if one.quantity > 0 else "sell", abs(one.quantity),
                one.price, one.value, one.commission, one.slippage, one.reason,
            )
            for one in ledger.trades
        ),
    )  # fmt: skip


def _equity(found: Traded, times: Sequence[str]) -> str:
    own = found.ledgers[STRATEGY]
    others = {name: ledger.equity for name, ledger in found.ledgers.items() if name != STRATEGY}
    columns = {
        "equity": own.equity,
        "drawdown": own.equity / np.maximum.accumulate(own.equity) - 1,
        "cash": own.cash,
        "long": own.long,
        "short": own.short,
    } | others
    return _csv(("time", *columns), zip(times, *(values.tolist() for values in columns.values()), strict=True))


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.10g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()
