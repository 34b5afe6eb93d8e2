"""Findings: what is odd about bars is found, each kind on its case, and nothing in bars that are sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos_trainer.config import Data, Source, Timeframe
from kronos_trainer.data.bars import Bars, read_bars
from kronos_trainer.data.commands.samples import write_samples
from kronos_trainer.data.quality.findings import Found, notes_of
from kronos_trainer.data.series import ahead

PRICES = ["open", "high", "low", "close"]
Change = Callable[[pd.DataFrame], pd.DataFrame]


def walk(rows: int = 400, freq: str = "B", start: str = "2023-01-02", volatility: float = 0.01) -> pd.DataFrame:
    random = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(random.standard_t(3, rows) * volatility / 3**0.5))
    open_ = np.r_[100, close[:-1]]
    high = np.maximum(open_, close) * (1 + np.abs(random.normal(0, volatility / 3, rows)))
    low = np.minimum(open_, close) * (1 - np.abs(random.normal(0, volatility / 3, rows)))
    times = pd.date_range(start, periods=rows, freq=freq)
    volume = np.exp(random.normal(13, 0.4, rows))
    return pd.DataFrame(
        {"timestamps": times, "open": open_, "high": high, "low": low, "close": close, "volume": volume}
    )


def set_(rows: slice | int, columns: str | list[str], value: object) -> Change:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[rows, columns] = value
        return frame

    return change


def times(rows: slice | int, columns: str | list[str], factor: float) -> Change:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[rows, columns] *= factor
        return frame

    return change


def shifted(**by: int) -> Change:
    return lambda frame: frame.assign(timestamps=frame["timestamps"] + pd.Timedelta(**by))


def found(tmp_path: Path, frame: pd.DataFrame, timeframe: Timeframe, **options: str) -> tuple[Bars, list[str]]:
    frame.to_csv(tmp_path / "A.csv", index=False)
    bars = read_bars(tmp_path / "A.csv", timeframe, Data(source=Source(path="unused"), **options))  # type: ignore[arg-type]
    return bars, [f"{one.kind} {one.text}".replace(f"{tmp_path}/", "") for one in bars.found]


DAILY: dict[str, tuple[Change, list[str]]] = {
    "sound": (lambda frame: frame, []),
    "constant": (set_(slice(None), PRICES, 50.0), ["constantPrice A from 50"]),
    "fat finger": (times(200, ["high", "close"], 1000), ["outlier A on 2023-10-09 (x1,002)"]),
    "one bar a hundredth": (times(200, PRICES, 0.01), ["outlier A on 2023-10-09 (x1/100)"]),
    "slip in the last bar": (times(399, ["high", "close"], 1000), ["outlier A on 2024-07-12 (x1,003)"]),
    "split": (times(slice(0, 199), PRICES, 4), ["split A on 2023-10-09 (4:1)"]),
    "reverse split": (times(slice(0, 199), PRICES, 0.1), ["split A on 2023-10-09 (1:10)"]),
    "halt": (
        lambda frame: set_(slice(100, 140), "volume", 0)(set_(slice(100, 140), PRICES, 98.0)(frame)),
        ["halt A from 2023-05-22 (41 bars at 98)"],
    ),
    "zero price": (set_(200, PRICES, 0.0), ["zeroPrice A A.csv: line 202 (2023-10-09), column open: 0 is not a price"]),
    "no volume": (set_(slice(None), "volume", 0), ["zeroVolume A in every bar"]),
    "no volume for a while": (set_(slice(100, 119), "volume", 0), ["zeroVolume A from 2023-05-22 (20 bars)"]),
    "stamped at the close": (shifted(hours=16), ["rightLabel A (at the close, 16:00)"]),
    "unfinished last bar": (
        times(399, "volume", 0.01),
        ["unfinished A on 2024-07-12 (its volume is 1.0% of the usual)"],
    ),
    "tiny": (times(slice(None), PRICES, 1e-7), ["tinyPrice A around 1e-05"]),
    "below zero": (
        lambda frame: frame.assign(**{name: frame[name] - 100 for name in PRICES}),
        ["negativePrice A down to -4.72031 on 2023-07-03"],
    ),
    "holidays": (lambda frame: frame.drop([50, 51, 52, 53, 54, 170, 171]), []),
    "half a year away": (
        lambda frame: frame.drop(range(100, 230)),
        ["gap A after 2023-05-19 until 2023-11-20 (130 bars)"],
    ),
}


@pytest.mark.parametrize("name", DAILY)
def test_what_is_odd_about_daily_bars(tmp_path: Path, name: str) -> None:
    change, expected = DAILY[name]
    bars, said = found(tmp_path, change(walk()), Timeframe.D1)
    assert said == expected
    assert bars.series[0].hours == "Mon-Fri"
    mild = {"unfinished", "tinyPrice", "negativePrice"}
    assert len([note for note in bars.notes if "amount" not in note]) == len(
        [one for one in said if one.split()[0] not in mild]
    )


def session(days: int = 60, first: str = "09:30", bars: int = 7) -> pd.DataFrame:
    """Hourly bars of business days."""
    frame = walk(days * bars)
    opening = pd.bdate_range("2024-01-02", periods=days) + pd.Timedelta(f"{first}:00")
    frame["timestamps"] = [at + pd.Timedelta(hours=hour) for at in opening for hour in range(bars)]
    return frame


INTRADAY: dict[str, tuple[pd.DataFrame, Timeframe, str, list[str]]] = {
    "around the clock": (walk(400, "h"), Timeframe.H1, "every day 24h", []),
    "around the clock, with a gap": (
        walk(400, "h").drop(range(100, 130)),
        Timeframe.H1,
        "every day 24h",
        ["gap A after 2023-01-06 03:00 until 2023-01-07 10:00 (30 bars)"],
    ),
    "session": (session(), Timeframe.H1, "Mon-Fri 09:30-16:30", []),
    "session with a holiday and a short day": (
        session().drop([*range(70, 77), 80, 81, 82, 83]),
        Timeframe.H1,
        "Mon-Fri 09:30-16:30",
        [],
    ),
    "session with a hole": (
        session().drop([71, 72]),
        Timeframe.H1,
        "Mon-Fri 09:30-16:30",
        ["gap A after 2024-01-16 09:30 until 2024-01-16 12:30 (2 bars)"],
    ),
    "session by its ends": (
        session(first="10:00"),
        Timeframe.H1,
        "Mon-Fri 10:00-17:00",
        [],  # of a session from 10 or 9 o'clock: nobody can tell
    ),
    "four hours by their ends": (
        walk(300, "4h", "2023-01-02 03:59"),
        Timeframe.H4,
        "every day 24h",
        ["rightLabel A (a moment before the next bar begins, as 23:59)"],
    ),
    "Chinese five minutes by their ends": (
        walk(48 * 30).assign(
            timestamps=[
                day + pd.Timedelta(minutes=minute)
                for day in pd.bdate_range("2024-01-02", periods=30)
                for minute in [*range(575, 695, 5), *range(785, 905, 5)]
            ]
        ),
        Timeframe.M5,
        "Mon-Fri 09:35-15:05",
        ["rightLabel A (from 09:35 to 15:00, as the ends of a session from 09:30 to 15:00)"],
    ),
    "currencies": (
        walk(24 * 300, "h", volatility=0.001).pipe(
            lambda frame: frame[(frame["timestamps"] - pd.Timedelta(hours=22)).dt.day_of_week.isin([6, 0, 1, 2, 3])]
        ),
        Timeframe.H1,
        "Sun-Fri 24h",
        [],
    ),
    "futures, their summer time seen from UTC": (
        walk(24 * 400, "h", volatility=0.001).pipe(
            lambda frame: frame[
                frame["timestamps"].map(lambda at: at.hour != (21 if 80 < at.day_of_year < 300 else 22))
                & frame["timestamps"].dt.day_of_week.isin(range(5))
            ]
        ),
        Timeframe.H1,
        "Mon-Fri 22:00-21:00",
        [],
    ),
    "weeks": (walk(200, "W-FRI"), Timeframe.W1, "every week (Fri)", []),
    "months": (walk(200, "MS", "1990-01-01"), Timeframe.MO1, "every month", []),
    "months, one missing": (
        walk(200, "MS", "1990-01-01").drop(7),
        Timeframe.MO1,
        "every month",
        ["gap A after 1990-07-01 until 1990-09-01 (1 bar)"],
    ),
}


@pytest.mark.parametrize("name", INTRADAY)
def test_a_series_is_held_against_its_own_calendar(tmp_path: Path, name: str) -> None:
    frame, timeframe, hours, expected = INTRADAY[name]
    bars, said = found(tmp_path, frame, timeframe)
    assert (bars.series[0].hours, said) == (hours, expected)


def test_a_market_that_is_often_still_is_no_halt_until_it_is_far_longer_than_usual(tmp_path: Path) -> None:
    frame = walk(3000, "min")
    still = np.random.default_rng(1).random(3000) < 0.6  # runs of ten and more by chance
    frame.loc[still, PRICES] = np.nan
    frame[PRICES] = frame[PRICES].ffill().bfill()
    _, said = found(tmp_path, frame, Timeframe.M1)
    assert said == []
    frame.loc[1000:1199, PRICES] = 90.0
    _, said = found(tmp_path, frame, Timeframe.M1)
    assert said == ["halt A from 2023-01-02 16:40 (200 bars at 90)"]


def test_wild_prices_have_no_false_findings(tmp_path: Path) -> None:
    for volatility in (0.03, 0.08):
        _, said = found(tmp_path, walk(2000, volatility=volatility), Timeframe.D1)
        assert [one for one in said if not one.startswith("tinyPrice")] == []


def test_real_bars_have_no_false_findings(tmp_path: Path) -> None:
    write_samples(tmp_path)
    for where, timeframe in (("us/daily", Timeframe.D1), ("fx/eurusd", Timeframe.H1)):
        assert read_bars(tmp_path / "bars" / where, timeframe, Data(source=Source(path="unused"))).found == ()


@pytest.mark.parametrize(
    ("frame", "timeframe", "starts"),
    [
        (shifted(hours=16)(walk(30)), Timeframe.D1, walk(30)["timestamps"]),
        (walk(100, "4h", "2023-01-02 03:59"), Timeframe.H4, pd.date_range("2023-01-02", periods=100, freq="4h")),
        (walk(100, "4h", "2023-01-02 04:00"), Timeframe.H4, pd.date_range("2023-01-02", periods=100, freq="4h")),
        (walk(100, "1h", "2023-01-02 10:30"), Timeframe.H1, pd.date_range("2023-01-02 09:30", periods=100, freq="1h")),
        (
            walk(100, "5min", "2023-01-02 09:35"),
            Timeframe.M5,
            pd.date_range("2023-01-02 09:30", periods=100, freq="5min"),
        ),
        (walk(100, "h", "2023-01-02 01:00"), Timeframe.H4, pd.date_range("2023-01-02", periods=25, freq="4h")),
        (walk(60, "W-FRI"), Timeframe.W1, pd.date_range("2023-01-02", periods=60, freq="7D")),
        (walk(60, "ME"), Timeframe.MO1, pd.date_range("2023-01-01", periods=60, freq="MS")),
    ],
)
def test_ends_of_bars_become_their_starts(
    tmp_path: Path, frame: pd.DataFrame, timeframe: Timeframe, starts: pd.DatetimeIndex
) -> None:
    bars, said = found(tmp_path, frame, timeframe, label="right")
    assert pd.to_datetime(bars.times).tolist() == list(starts)
    assert not [one for one in said if one.startswith("rightLabel")]
    assert bars.digest != found(tmp_path, frame, timeframe)[0].digest


def test_stamps_in_the_future_and_a_bar_that_is_not_over(tmp_path: Path) -> None:
    now = pd.Timestamp("2024-07-12T15:00").value
    bars, _ = found(tmp_path, walk(), Timeframe.D1, time_zone="Asia/Tokyo")
    assert [one.text for one in ahead(bars.series, now)] == []  # in Tokyo it is the 13th
    bars, _ = found(tmp_path, walk(), Timeframe.D1, time_zone="America/New_York")
    assert [one.kind for one in ahead(bars.series, now)] == ["unfinished"]
    bars, _ = found(tmp_path, walk(), Timeframe.D1)
    assert ahead(bars.series, now) == []  # somewhere it is over
    assert [one.text for one in ahead(bars.series, now - 10**9 * 86400 * 7)] == ["A up to 2024-07-12"]


def test_notes_stay_few_and_short_however_much_is_found() -> None:
    many = [Found(kind, f"S{index}", 3, ("on 2024-01-02 (x10)",)) for index in range(5000) for kind in ("split", "gap")]
    notes = notes_of(many)
    assert len(notes) == 2
    assert notes[0].startswith("the price jumps as in a split: S0 on 2024-01-02 (x10) and 2 more, S1 on")
    assert " and 4995 more; " in notes[0]
    assert len(json.dumps(notes)) < 1000
