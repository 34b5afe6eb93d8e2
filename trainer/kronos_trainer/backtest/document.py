"""summary.json: what a backtest has found. Fields are only ever added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field

from kronos_trainer.config.tolerant import Count, Number, Tolerant

STRATEGY, BUY_AND_HOLD, EQUAL_WEIGHT = "strategy", "buyAndHold", "equalWeight"


class Month(Tolerant):
    """A calendar month."""

    year: Count = 0
    month: Count = 0
    value: Number | None = Field(None, description="Return, as a share.")


class Trial(Tolerant):
    """A strategy that was tried on an evaluation of this model."""

    run: str = ""
    hash: str = Field("", description="Of the evaluation.")
    strategy: str = ""
    top_k: Count = 0
    drop_out: Count = 0
    first: str = Field("", description="Bar of the first date, ISO 8601.")
    last: str = ""
    sharpe: Number | None = Field(None, description="Of a year.")

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """Equal for the same trial."""
        return self.run, self.hash, self.strategy, self.top_k, self.drop_out


class Performance(Tolerant):
    """Of a strategy, after costs. Shares, if nothing else is said; absent where they are not defined."""

    total_return: Number | None = None
    annual_return: Number | None = Field(None, description="Compound; absent for less than a year.")
    volatility: Number | None = Field(None, description="Of a year.")
    sharpe: Number | None = Field(None, description="Of a year, over a rate of 0.")
    sharpe_error: Number | None = Field(None, description="Its standard error (Mertens 2002).")
    max_drawdown: Number | None = None
    turnover: Number | None = Field(None, description="Times a year that the capital was bought and sold again.")
    exposure: Number | None = Field(None, description="Mean of long and short positions together.")
    net_exposure: Number | None = Field(None, description="Mean of long less short positions.")
    hit_rate: Number | None = Field(None, description="Of closed positions, those that have gained.")
    positions: Count = 0
    trades: Count = 0
    costs: Number | None = Field(None, description="Commission and slippage together, of the capital at the start.")
    bankrupt: bool = False


class Backtest(Tolerant):
    """summary.json."""

    version: Count = 1
    model: Mapping[str, Any] = Field({}, description="Namespace and name of the KronosModel.")
    run: str = ""
    hash: str = Field("", description="Of the evaluation whose forecasts were traded.")
    timeframe: str = ""
    horizon: Count = 0
    digest: str = Field("", description="SHA-256 of the bars.")
    strategy: str = ""
    label: str = ""
    top_k: Count = 0
    drop_out: Count = 0
    cost_bps: Number = 0.0
    slippage_bps: Number = 0.0
    capital: Number = 0.0
    first: str = Field("", description="First bar of the equity curve, ISO 8601.")
    last: str = ""
    dates: Count = 0
    bars: Count = 0
    symbols: Count = 0
    unforeseen: Count = Field(0, description="Pairs of date and symbol with a bar but without a forecast.")
    delisted: Count = Field(0, description="Symbols whose bars end before the backtest does.")
    contaminated: str = Field("", description="As in evaluation.json.")
    performance: Mapping[str, Annotated[Performance, BeforeValidator(Performance.read_inside)]] = Field(
        {}, description="strategy, buyAndHold and, with several symbols, equalWeight."
    )
    trials: Count = Field(0, description="Strategies and evaluations that these bars have been read for.")
    tried: tuple[Annotated[Trial, BeforeValidator(Trial.read_inside)], ...] = ()
    hurdle: Number | None = Field(None, description="Sharpe ratio that the best of so many would have without skill.")
    deflated: Number | None = Field(None, description="Deflated Sharpe ratio: probability of a true one above that.")
    months: tuple[Annotated[Month, BeforeValidator(Month.read_inside)], ...] = ()
    verdict: str = ""
    sentence: str = ""
    caveats: tuple[str, ...] = ()

    @classmethod
    def load(cls, text: str) -> Self:
        """From the text of a summary.json. Raises ValueError where it is no JSON object."""
        return cls.read(json.loads(text))

    def dump(self) -> str:
        """The text of summary.json."""
        return json.dumps(self.wire, indent=1, allow_nan=False) + "\n"
