"""What a backtest says in words: its sentence, and what a sceptic would hold against it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kronos_trainer.backtest.document import BUY_AND_HOLD, EQUAL_WEIGHT, STRATEGY, Backtest, Performance
from kronos_trainer.config import Strategy
from kronos_trainer.evaluation.gate import LEAST_DATES
from kronos_trainer.report.wording import MINUS, count, date, number, percent, plain, signed

LOST, LUCK, SKILL, SEEN = "Lost money", "May be luck", "Unlikely to be luck", "Not out of sample"
CERTAIN = 0.95  # deflated Sharpe ratio above which luck is unlikely; the level of Bailey and Lopez de Prado
LABELS = {STRATEGY: "this strategy", BUY_AND_HOLD: "buy and hold", EQUAL_WEIGHT: "equal weight"}


def verdict(found: Backtest) -> str:
    """In a few words. A backtest is never called good: at best it is unlikely to be luck."""
    own = _own(found)
    if own.total_return is None or own.total_return <= 0:
        return LOST
    if found.contaminated:
        return SEEN
    sure = found.deflated is not None and found.deflated >= CERTAIN and found.dates >= LEAST_DATES
    return SKILL if sure else LUCK


def sentence(found: Backtest) -> str:
    """What it has earned, beside doing nothing, and how sure that is."""
    own, held = _own(found), found.performance.get(BUY_AND_HOLD, Performance())
    said = (
        f"{found.label[:1].upper()}{found.label[1:]}: {signed(own.total_return)} after costs from {date(found.first)} "
        f"to {date(found.last)}, where buy and hold earned {signed(held.total_return)}."
    )
    if own.sharpe is None:
        return f"{said} It has no Sharpe ratio, since its value hardly moved."
    error = "" if own.sharpe_error is None else f" with a standard error of {ratio(own.sharpe_error)}"
    return f"{said} Its Sharpe ratio is {ratio(own.sharpe)} a year{error}."


def caveats(found: Backtest) -> tuple[str, ...]:
    """Why the result is not what trading would have earned, the gravest first."""
    return tuple(_caveats(found))


def _caveats(found: Backtest) -> Iterator[str]:
    own = _own(found)
    if found.contaminated:
        yield (
            f"Not out of sample: {plain(found.contaminated)}. What the weights have seen they may remember; nothing "
            "here says what they would earn on bars that they have not."
        )
    if own.bankrupt:
        yield "The losses of short positions exceeded the capital: everything was lost, and trading ended there."
    others = {LABELS[name]: one for name, one in found.performance.items() if name != STRATEGY}
    richer = [name for name, one in others.items() if _above(one.total_return, own.total_return)]
    calmer = [name for name, one in others.items() if name not in richer and _above(one.sharpe, own.sharpe)]
    if richer:
        earned = " and ".join(f"{name} ({signed(others[name].total_return)})" for name in richer)
        yield f"It earned less than {earned}: the forecasts have cost money."
    if calmer:
        yield f"For the risk that it took it earned less than {' and '.join(calmer)}: the Sharpe ratio there is higher."
    if own.sharpe is not None and own.sharpe_error is not None and abs(own.sharpe) < 2 * own.sharpe_error:
        yield (
            f"A Sharpe ratio of {ratio(own.sharpe)} with a standard error of {ratio(own.sharpe_error)} cannot be told "
            "from none at all."
        )
    if found.dates < LEAST_DATES:
        yield f"It decided {_times(found.dates).lower()}. Fewer than {LEAST_DATES} prove nothing, whatever they earn."
    if found.trials > 1:
        sure = (
            "" if found.deflated is None else f"; that this one is truly above it is sure to {chance(found.deflated)}"
        )
        yield (
            f"These bars have been read {found.trials} times by strategies and evaluations of this model. The best of "
            f"so many without any skill has a Sharpe ratio of {ratio(found.hurdle)}{sure}. What was tried elsewhere is "
            "not counted, and a strategy that was changed after a look at this page is a new trial on used bars."
        )
    yield (
        f"Every trade is filled at the open, at {number(found.slippage_bps)} basis points worse and "
        f"{number(found.cost_bps)} of commission, whatever its size. Real openings are wide, orders move prices, and a "
        "limit or a halt can forbid the trade."
    )
    if found.symbols > 1:
        yield (
            "The symbols are those of which there are bars today. What had vanished before is not among them, and that "
            "flatters every strategy that holds shares, the benchmarks too."
        )
    if found.unforeseen:
        yield (
            f"{_times(found.unforeseen)} a symbol had a bar but no forecast, since the evaluation scores only "
            "symbols whose bars go on for a whole horizon or because its history was too short. One that was about to "
            "vanish was so never bought, which nobody could have known."
        )
    if found.delisted:
        yield (
            f"The bars of {count(found.delisted)} symbol{'s' * (found.delisted != 1)} end before the backtest does. "
            "What was held of them is sold at the last close; the last price that could be had is often far lower."
        )
    if found.strategy == Strategy.LONG_SHORT:
        yield "Short positions cost nothing to borrow here, are never called back, and pay no dividend to the lender."
    yield (
        "Shares are bought in fractions, cash earns nothing, and there are no taxes. Dividends are in it only if the "
        "bars are adjusted for them, and then the prices are not those that were paid."
    )
    yield "It is one path through one span of time. Markets change, and a strategy that many follow stops to work."


def ratio(value: float | None) -> str:
    """A Sharpe ratio, to hundredths."""
    return "–" if value is None else f"{value:.2f}".replace("-", MINUS)


def chance(value: float) -> str:
    """A probability, which never is nothing or everything."""
    return "less than 1 %" if value < 0.01 else "more than 99 %" if value > 0.99 else percent(value)


def _times(number: int) -> str:
    return "Once" if number == 1 else f"{count(number)} times"


def _own(found: Backtest) -> Performance:
    return found.performance.get(STRATEGY, Performance())


def _above(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one > other
