"""Series beside the bars, joined as of their publication: what was known at a date, never what it turned out to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from scipy import stats

from kronos_trainer.config import Covariate, Data
from kronos_trainer.errors import DataError
from kronos_trainer.evaluation.cells import Floats, Int64
from kronos_trainer.macro.document import Row, Table
from kronos_trainer.macro.market import Market
from kronos_trainer.macro.regimes import States, thirds
from kronos_trainer.storage.stores import is_uri

NANOSECONDS = {"h": 3_600_000_000_000, "d": 86_400_000_000_000, "w": 604_800_000_000_000}
_ZONE = r"[T ][0-9].*(?:[zZ]|[+-][0-9]{2}(?::?[0-9]{2})?)$"  # of a time, which a date has not
LEAST = 8  # pairs that a correlation is shown for


@dataclass(frozen=True)
class Known:
    """The values [n] of a column; each is known from its time [n] on (wall-clock ns, ascending)."""

    name: str
    times: Int64
    values: Floats

    def at(self, dates: Int64) -> Floats:
        """The newest value that was published at each date [D] (ns); NaN before the first."""
        place = np.searchsorted(self.times, dates, side="right")
        return np.concatenate([[np.nan], self.values])[place]


def known_series(bars: str, data: Data) -> tuple[list[Known], list[str]]:
    """All columns of all covariates, and notes on those that cannot be read, which cost the run nothing else."""
    found: list[Known] = []
    notes: list[str] = []
    for covariate in data.covariates:
        try:
            file = file_of(bars, data, covariate)
            found += read(file, covariate, data.time_zone)
        except DataError as error:
            notes.append(f"{covariate.name}: {error}")
    return found, notes


def file_of(bars: str, data: Data, covariate: Covariate) -> Path:
    """Where a covariate lies, given where the bars do. Raises DataError where that has no root to start from."""
    if is_uri(bars):
        raise DataError("covariates need bars on a claim or on the local disk, not behind a URI")
    place, claim = Path(bars), data.source.claim
    if claim is None:
        return place.parent / covariate.source
    inside = PurePosixPath(claim.path or "").parts
    if not inside:
        raise DataError("the bars are the whole claim: set data.source.claim.path, so that this file is none of them")
    return place.parents[len(inside) - 1] / covariate.source


def read(file: Path, covariate: Covariate, time_zone: str | None) -> list[Known]:
    """The columns of one file. Timestamps with a zone are converted to the exchange's, or to UTC where none is set.

    Raises DataError naming the file and what is wrong in it.
    """
    table = _table(file)
    time = covariate.time or str(table.columns[0])
    missing = [name for name in (time, *covariate.columns) if name not in table]
    if missing:
        raise DataError(f"{file}: no column {', '.join(missing)}; there are {', '.join(map(str, table.columns))}")
    stamps = _stamps(file, table[time], time_zone)
    published = stamps + int(covariate.lag[:-1]) * NANOSECONDS[covariate.lag[-1]]
    return [_known(file, covariate, column, table[column], published) for column in covariate.columns]


def _table(file: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from None


def _stamps(file: Path, column: pd.Series, time_zone: str | None) -> Int64:
    """Wall-clock ns of the exchange."""
    parsed = pd.to_datetime(column.astype(str), format="ISO8601", errors="coerce", utc=True)
    if parsed.isna().any():
        row = int(np.flatnonzero(parsed.isna())[0])
        raise DataError(f"{file}: row {row + 1}: {column.iloc[row]!r} is no ISO 8601 timestamp")
    instants = pd.DatetimeIndex(parsed).as_unit("ns")
    converted = instants.tz_convert(time_zone or "UTC").tz_localize(None)
    zoned = column.astype(str).str.contains(_ZONE).to_numpy()
    return np.where(zoned, converted.asi8, instants.tz_localize(None).asi8)


def _known(file: Path, covariate: Covariate, column: str, values: pd.Series, published: Int64) -> Known:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    odd = np.flatnonzero(np.isnan(numbers) & values.notna().to_numpy())
    if len(odd):
        raise DataError(f"{file}: row {odd[0] + 1}, column {column}: {values.iloc[odd[0]]!r} is no number")
    there = np.isfinite(numbers)
    order = np.argsort(published[there], kind="stable")
    name = covariate.name if len(covariate.columns) == 1 else f"{covariate.name}: {column}"
    return Known(name, published[there][order], numbers[there][order])


def lead_lag(market: Market, known: Known, horizon: int) -> Table:
    """Correlation of a covariate's last change with the market's return around it, over dates a horizon apart."""
    places = np.arange(horizon, len(market.times), horizon)
    change = known.at(market.times[places]) - known.at(market.times[places - horizon])
    level = np.concatenate([[0.0], market.level])  # after no bar, after one, ...
    rows = []
    for label, ahead in ((f"last {horizon} bars", -1), (f"next {horizon} bars", 0), (f"the {horizon} after those", 1)):
        start = places + 1 + ahead * horizon
        inside = start + horizon < len(level)
        gained = np.full(len(places), np.nan)
        gained[inside] = level[start[inside] + horizon] - level[start[inside]]
        rows.append(_correlation(f"the market's {label}", change, gained))
    return Table(
        name=f"leadLag {known.name}",
        title=f"{known.name}, and the market before and after",
        about=f"Correlation of what was published of its change over {horizon} bars with the return of the market.",
        unit="correlation",
        observations="dates",
        neutral=0.0,
        rows=tuple(rows),
    )


def _correlation(label: str, one: Floats, other: Floats) -> Row:
    """Pearson's, with its interval by Fisher's transformation."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < LEAST or np.ptp(one[both]) == 0 or np.ptp(other[both]) == 0:
        return Row(label=label, count=int(both.sum()))
    found = stats.pearsonr(one[both], other[both])
    interval = found.confidence_interval(0.95)
    return Row(
        label=label,
        count=int(both.sum()),
        value=float(found.statistic),
        low=float(interval.low),
        high=float(interval.high),
    )


def terciles(known: Known, market: Market, dates: Int64, start: int) -> States:
    """Low, middle or high at each date [D], by thresholds of what was known at the bars before `start` (ns)."""
    before = known.at(market.times[: int(np.searchsorted(market.times, start))])
    low, high, number = thirds(before, known.at(dates))
    return States(
        name=f"tercile {known.name}",
        title=f"By {known.name}",
        labels=(f"low, up to {low:.4g}", f"middle, up to {high:.4g}", "high, above"),
        at=number,
    )
