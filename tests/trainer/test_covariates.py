"""Covariates: real macro series, joined as of their publication, never ahead, whatever the lag and the zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from closing_prices import bars_of
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.datasets import macrodata

from kronos_trainer.config import Covariate, Data, Timeframe
from kronos_trainer.errors import DataError
from kronos_trainer.evaluation.document import Evaluation
from kronos_trainer.macro.covariates import NANOSECONDS, Known, file_of, known_series, lead_lag, read, terciles
from kronos_trainer.macro.market import Market
from kronos_trainer.macro.view import macro_view

DAYS = pd.bdate_range("1990-01-01", "2009-09-30").as_unit("ns")


def covariate(**fields: object) -> Covariate:
    base = {"name": "CPI", "source": "macro/cpi.csv", "columns": ["cpi"], "lag": "45d"}
    return Covariate.model_validate(base | fields)


def data(**fields: object) -> Data:
    return Data.model_validate({"source": {"claim": {"name": "bars", "path": "us/daily"}}} | fields)


def quarterly(directory: Path) -> Path:
    """US quarterly series as statsmodels ships them, stamped with the first day of the quarter."""
    frame = macrodata.load_pandas().data
    months = 3 * frame["quarter"].astype(int) - 2
    time = pd.to_datetime({"year": frame["year"].astype(int), "month": months, "day": 1})
    file = directory / "macro" / "cpi.csv"
    file.parent.mkdir(exist_ok=True)
    frame.assign(time=time)[["time", "cpi", "tbilrate"]].to_csv(file, index=False)
    return file


def market(returns: np.ndarray) -> Market:
    return Market(DAYS.asi8[: len(returns)], returns, returns.cumsum())


def test_real_series_are_joined_when_they_were_published(tmp_path: Path) -> None:
    file = quarterly(tmp_path)
    rows = pd.read_csv(file, parse_dates=["time"])
    cpi, rate = read(file, covariate(columns=["cpi", "tbilrate"]), None)
    assert (cpi.name, rate.name) == ("CPI: cpi", "CPI: tbilrate") and len(cpi.values) == len(rows) == 203
    first = rows[rows["time"] == "2008-10-01"].iloc[0]  # published 45 days later, on the 15th of November
    around = pd.DatetimeIndex(["2008-11-14", "2008-11-15"]).as_unit("ns").asi8
    before = rows[rows["time"] == "2008-07-01"].iloc[0]
    assert cpi.at(around).tolist() == [before["cpi"], first["cpi"]]
    assert np.isnan(cpi.at(pd.DatetimeIndex(["1959-02-14"]).as_unit("ns").asi8)).all()


@settings(deadline=None, max_examples=60)
@given(
    amount=st.integers(0, 400),
    unit=st.sampled_from("hdw"),
    zone=st.sampled_from(["UTC", "America/New_York", "Asia/Shanghai", "Europe/Berlin"]),
    exchange=st.sampled_from([None, "America/New_York", "Asia/Tokyo"]),
    hours=st.lists(st.integers(0, 40_000), min_size=1, max_size=30, unique=True),
    asked=st.lists(st.integers(0, 60_000), min_size=1, max_size=10),
)
def test_nothing_is_known_before_it_was_published(
    tmp_path_factory: pytest.TempPathFactory,
    amount: int,
    unit: str,
    zone: str,
    exchange: str | None,
    hours: list[int],
    asked: list[int],
) -> None:
    """Each value is its own instant: what is returned at a date must lie a lag before it, by a plain calculation."""
    start = datetime(2001, 1, 1, tzinfo=UTC)
    stamps = [(start + timedelta(hours=hour)).astimezone(ZoneInfo(zone)) for hour in hours]
    file = tmp_path_factory.mktemp("c") / "c.csv"
    pd.DataFrame({"t": [stamp.isoformat() for stamp in stamps], "v": hours}).to_csv(file, index=False)
    (known,) = read(file, covariate(columns=["v"], lag=f"{amount}{unit}"), exchange)
    lag = timedelta(hours=amount * {"h": 1, "d": 24, "w": 168}[unit])
    clock = ZoneInfo(exchange or "UTC")
    walls = {hour: (start + timedelta(hours=hour)).astimezone(clock).replace(tzinfo=None) + lag for hour in hours}
    for hour in asked:
        date = datetime(2001, 1, 1) + timedelta(hours=hour)
        at = np.array([np.datetime64(date, "ns").astype(np.int64)])
        published = [one for one in hours if walls[one] <= date]
        found = known.at(at)[0]
        if not published:
            assert np.isnan(found)
        else:
            assert walls[int(found)] == max(walls[one] for one in published)


def test_a_table_that_leads_the_market_is_seen_to_and_later_values_change_nothing() -> None:
    random = np.random.default_rng(1)
    returns = random.normal(0, 1, len(DAYS))
    horizon = 10
    ahead = np.convolve(returns, np.ones(horizon), "full")[horizon - 1 :][: len(DAYS)]
    known = Known("leader", DAYS.asi8[:-1], (np.roll(ahead, -1)[:-1]).cumsum())
    rows = {row.label: row for row in lead_lag(market(returns), known, horizon).rows}
    nothing = {row.label: row for row in lead_lag(market(random.permutation(returns)), known, horizon).rows}
    assert rows["the market's next 10 bars"].value != nothing["the market's next 10 bars"].value
    for row in nothing.values():
        assert row.low is not None and row.high is not None and row.low < 0.1 and row.high > -0.1 and row.count > 400
    dates, start = DAYS.asi8[3000::50], int(DAYS.asi8[2500])
    mine = terciles(known, market(returns), dates, start)
    garbled = known.values.copy()
    garbled[3200:] = random.normal(0, 1e6, len(garbled) - 3200)
    again = terciles(Known("leader", known.times, garbled), market(returns), dates, start)
    earlier = dates < known.times[3200]
    assert mine.labels == again.labels and mine.at[earlier].tolist() == again.at[earlier].tolist()
    assert set(mine.at.tolist()) <= {0, 1, 2} and mine.at[~earlier].tolist() != again.at[~earlier].tolist()


def test_where_a_file_lies_follows_from_where_the_bars_do() -> None:
    one = covariate()
    assert file_of("/mnt/bars/us/daily", data(), one) == Path("/mnt/bars/macro/cpi.csv")
    local = data(source={"path": "bars/us"})
    assert file_of("data/bars/us", local, one) == Path("data/bars/macro/cpi.csv")
    with pytest.raises(DataError, match="whole claim"):
        file_of("/mnt/bars", data(source={"claim": {"name": "bars"}}), one)
    with pytest.raises(DataError, match="not behind a URI"):
        file_of("s3://bucket/bars", data(source={"uri": "s3://bucket/bars"}), one)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("t,cpi\n2020-01-01,1\nsoon,2\n", "row 2: 'soon' is no ISO 8601 timestamp"),
        ("t,cpi\n2020-01-01,1\n2020-02-01,high\n", "row 2, column cpi: 'high' is no number"),
        ("t,gdp\n2020-01-01,1\n", "no column cpi; there are t, gdp"),
        ("", "cannot be read"),
        (None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_a_note_that_says_why(tmp_path: Path, content: str | None, message: str) -> None:
    bars = tmp_path / "us" / "daily"
    bars.mkdir(parents=True)
    if content is not None:
        (tmp_path / "macro").mkdir()
        (tmp_path / "macro" / "cpi.csv").write_text(content)
    found, notes = known_series(str(bars), data(covariates=[covariate()]))
    assert found == [] and len(notes) == 1 and notes[0].startswith("CPI: ") and message in notes[0]


def test_a_gap_in_a_series_is_none_of_its_values(tmp_path: Path) -> None:
    (tmp_path / "c.parquet").parent.mkdir(exist_ok=True)
    stamps = pd.to_datetime(["2020-02-01", "2020-01-01", "2020-03-01"])
    pd.DataFrame({"cpi": [2.0, 1.0, None], "when": stamps}).to_parquet(tmp_path / "c.parquet")
    (known,) = read(tmp_path / "c.parquet", covariate(time="when", lag="1d"), None)
    assert known.values.tolist() == [1.0, 2.0]
    assert known.times.tolist() == (stamps[[1, 0]].as_unit("ns").asi8 + NANOSECONDS["d"]).tolist()


def test_the_view_shows_them(tmp_path: Path) -> None:
    close = pd.Series(100 * np.exp(np.random.default_rng(2).normal(0, 0.01, len(DAYS)).cumsum()), DAYS)
    dates = DAYS[4000::20]
    losses = {"crps": tuple(np.random.default_rng(3).uniform(1, 2, len(dates)))}
    found = Evaluation(
        dates=tuple(map(str, dates)),
        horizon=10,
        forecasters={name: {"name": name, "losses": losses} for name in ("finetuned", "naive")},
    )
    found = Evaluation.load(found.dump())
    known = read(quarterly(tmp_path), covariate(columns=["tbilrate"], name="T-bill rate"), None)
    view = macro_view(bars_of({"A": close}), Timeframe.D1, found, start=int(dates.asi8[0]), known=known)
    names = [table.name for table in view.tables]
    assert "leadLag T-bill rate" in names and "tercile T-bill rateLoss" in names
    (loss,) = [table for table in view.tables if table.name == "tercile T-bill rateLoss"]
    assert sum(row.count for row in loss.rows) == len(dates)
