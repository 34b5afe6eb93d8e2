# ruff: noqa: E501 - cases are easiest to read on one line
"""Files of bars in the layouts of vendors, exchanges and libraries: read right without options, or refused."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from layout_writers import DAILY, INTRADAY, PRICES, bars, csv

from kronos_trainer.config.files import bars_among
from kronos_trainer.data.layouts.known import LAYOUTS, NAMES
from kronos_trainer.data.quality.findings import Findings
from kronos_trainer.data.reading.readers import read_frame, read_rows
from kronos_trainer.errors import DataError

WRITERS = {
    **{f"daily/{name}": writer for name, writer in DAILY.items()},
    **{f"{name}": writer for name, writer in INTRADAY.items()},
}
HEADER = "date,open,high,low,close,volume\n"
ROW = ",1,2,0.5,1.5,10\n"


def frame_for(name: str, **options: Any) -> pd.DataFrame:
    if name.startswith("daily/"):
        return bars(**{"freq": "B", **options})
    return bars(**{"freq": "h", "start": "2023-12-29 09:00", **options})


def assert_same(found: pd.DataFrame, written: pd.DataFrame) -> None:
    """To the digits that the layout keeps: float32 of a binary store, six digits of a volume in millions."""
    assert found["timestamps"].tolist() == written["timestamps"].tolist()
    np.testing.assert_allclose(found[PRICES], written[PRICES], rtol=1e-7)
    np.testing.assert_allclose(found["volume"], written["volume"], rtol=1e-6)
    derived = written["volume"] * written[PRICES].mean(axis=1)
    assert np.allclose(found["amount"], written["amount"], rtol=1e-6) or np.allclose(
        found["amount"], derived, rtol=1e-6
    )


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_is_read_as_it_was_meant(tmp_path: Path, name: str) -> None:
    written = frame_for(name)
    file = WRITERS[name](written, tmp_path / "bars")
    found, _ = read_frame(file)
    assert_same(found, written)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(WRITERS)),
    rows=st.integers(3, 80),
    price=st.sampled_from([8.0, 95.0, 1040.0, 33_000.0]),
    start=st.dates(pd.Timestamp("1999-01-04").date(), pd.Timestamp("2029-06-30").date()),
    seed=st.integers(0, 99),
)
@example(name="finam", rows=3, price=8.0, start=date(2000, 1, 1), seed=0)  # 000101, which numbers make 101
@example(name="finam", rows=3, price=8.0, start=date(2005, 3, 14), seed=0)
@example(name="daily/two-digit-year", rows=80, price=8.0, start=date(2005, 3, 14), seed=0)  # 50314 is no serial day
@example(name="daily/two-digit-year", rows=80, price=8.0, start=date(1999, 12, 1), seed=0)
def test_any_bars_in_any_layout_come_back_or_are_refused_as_ambiguous(
    tmp_path_factory: pytest.TempPathFactory, name: str, rows: int, price: float, start: Any, seed: int
) -> None:
    written = frame_for(name, rows=rows, price=price, start=str(start), seed=seed)
    file = WRITERS[name](written, tmp_path_factory.mktemp("layout") / "bars")
    try:
        found, _ = read_frame(file)
    except DataError as error:
        assert " may be " in str(error)  # too few rows to tell day from month
    else:
        assert_same(found, written)


@pytest.mark.parametrize("name", ["ccxt-arrays", "binance-ms", "daily/german", "daily/tongdaxin", "daily/footer"])
def test_chunks_change_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = frame_for(name)
    file = WRITERS[name](written, tmp_path / "bars")
    monkeypatch.setattr("kronos_trainer.data.reading.readers.CHUNK_ROWS", 7)
    assert_same(read_frame(file)[0], written)


SAID = {
    "binance-ms": "headerless file read as Binance klines (ms): bars.csv",
    "binance-us": "headerless file read as Binance klines (µs): bars.csv",
    "kucoin": "headerless file read as KuCoin candles (seconds): bars.csv",
    "us-clock": "dates read as month first, by line 2: bars.csv",
    "excel-serial": "dates read as a spreadsheet's serial days: bars.csv",
    "databento-fixed": "prices read as integers in units of 1e-09, as in Databento: bars.csv",
    "daily/akshare-gbk": "read as GB18030: bars.csv",
    "daily/german": "numbers read with a decimal comma: bars.csv",
    "daily/tongdaxin": "lines without a bar (comment, title or footer) skipped: 1; the first: bars.txt: line 63",
    "daily/investing": "dates read as month first, by line 3: bars.csv",
    "daily/meta": "lines above the header skipped: 3 ('Security,AAPL US Equity'): bars.csv",
}


@pytest.mark.parametrize("name", SAID)
def test_what_was_not_plain_is_said(tmp_path: Path, name: str) -> None:
    assert SAID[name] in read_frame(WRITERS[name](frame_for(name), tmp_path / "bars"))[1]


@pytest.mark.parametrize(
    "name", ["daily/akshare", "daily/yahoo", "daily/rqdata", "daily/feather", "daily/gz", "records"]
)
def test_of_what_is_plain_nothing_is_said(tmp_path: Path, name: str) -> None:
    _, notes = read_frame(WRITERS[name](frame_for(name), tmp_path / "bars"))
    assert [note for note in notes if not note.startswith("no amount column")] == []


def lines(*stamps: str, row: str = ROW) -> str:
    return HEADER + "".join(stamp + row for stamp in stamps)


def days(form: str, *dates: str) -> list[str]:
    return [pd.Timestamp(date).strftime(form) for date in dates]


@pytest.mark.parametrize(
    ("stamps", "first"),
    [
        ([f"01/{day:02}/2024" for day in range(1, 14)], "2024-01-01"),  # only the last row says it
        ([f"{day:02}/01/2024" for day in range(1, 14)], "2024-01-01"),
        (days("%m/%d/%Y", "2024-01-12", "2024-02-05", "2024-03-07", "2024-04-01"), "2024-01-12"),  # goes up
        (days("%d/%m/%Y", "2024-01-12", "2024-02-05", "2024-03-07", "2024-04-01"), "2024-01-12"),
        ([f"01/{day:02}/2024 {hour:02}:00" for day in range(2, 6) for hour in range(24)], "2024-01-02"),  # evenly
        ([f"01/{day:02}/2024 {hour:02}:00" for day in (2, 3, 8) for hour in range(9, 16)], "2024-01-02 09:00"),
        ([f"{day:02}-01-24" for day in range(10, 20)], "2024-01-10"),
        ([f"24-01-{day:02}" for day in range(10, 20)], "2024-01-10"),
    ],
)
def test_the_whole_file_settles_which_number_is_the_day(
    tmp_path: Path, stamps: list[str], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "A.csv").write_text(lines(*stamps))
    for rows in (250_000, 3):
        monkeypatch.setattr("kronos_trainer.data.reading.readers.CHUNK_ROWS", rows)
        frame, notes = read_frame(tmp_path / "A.csv")
        assert frame["timestamps"].iloc[0] == pd.Timestamp(first)
        assert len(frame) == len(stamps)
        assert any(note.startswith("dates read as ") for note in notes)


NUMBERS = {
    # the price, as text in open, high, low and close; what is read
    "thousands and fractions": (["1,000.5", "1,001.5", "999.5", "1,000.0"], [1000.5, 1001.5, 999.5, 1000.0]),
    "one row settles the others": (["1,234", "1,240", "1,230", "1,235.5"], [1234, 1240, 1230, 1235.5]),
    "decimal comma": (["1.234,5", "1.240", "1.230", "1.235"], [1234.5, 1240, 1230, 1235]),
    "below and above a thousand": (["1,234", "1,240", "999", "1,235"], [1234, 1240, 999, 1235]),
    "currency": (["$1,234.50", "$1,240.00", "$1,230.00", "$1,235.00"], [1234.5, 1240, 1230, 1235]),
    "millions": (["1.5M", "2M", "1.25M", "1.5M"], [1.5e6, 2e6, 1.25e6, 1.5e6]),
    "billions and thousands": (["1.5B", "2B", "900K", "1.5B"], [1.5e9, 2e9, 9e5, 1.5e9]),
    "two groups": (["1.234.567", "1.240.000", "1.230.000", "1.235.000"], [1234567, 1240000, 1230000, 1235000]),
    "apostrophes": (["1'234.5", "1'240.0", "1'230.0", "1'235.0"], [1234.5, 1240, 1230, 1235]),
    "minus of typesetters": (["−1.5", "1.5", "−2.5", "1.0"], [-1.5, 1.5, -2.5, 1.0]),
    "leading zero": (["0,234", "0,240", "0,230", "0,235"], [0.234, 0.24, 0.23, 0.235]),
    "exponents": (["1.5e3", "2e3", "1e3", "1.5E3"], [1500, 2000, 1000, 1500]),
}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_read_as_the_whole_file_writes_them(tmp_path: Path, name: str, separator: str) -> None:
    texts, values = NUMBERS[name]
    header = separator.join(["date", *PRICES])
    rows = [separator.join([f"2024-01-{day:02}", *(f'"{text}"' for text in texts)]) for day in range(1, 4)]
    (tmp_path / "A.csv").write_text("\n".join([header, *rows]) + "\n")
    frame, _ = read_frame(tmp_path / "A.csv")
    assert frame[PRICES].iloc[0].tolist() == values


def zipped(**members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return stream.getvalue()


def groups_of_three(separator: str, row: str) -> str:
    return HEADER.replace(",", separator) + "".join(f"2024-01-{day:02}{row}\n" for day in range(1, 9))


NOISE = np.random.default_rng(0).bytes(5000)
FLAT = "".join(f"2024-01-{day:02},1,1,1,1,5\n" for day in range(1, 9))
HOSTILE: dict[str, tuple[str, bytes | str, str]] = {
    "day or month": ("a.csv", lines("01/02/2024", "01/03/2024"), r"day-first \(2024-02-01\) or month-first \(2024-01-02\)"),
    "day, month or year": ("a.csv", lines("01-02-03", "01-02-04"), r"may be day-first .* or month-first .* or year-first"),
    "thousands or fraction": (
        "a.csv", groups_of_three(",", ',"1,234","1,240","1,230","1,235","5,000"'), r"'1,234' may be 1234 or 1\.234, and nothing",
    ),
    "fraction or thousands": (
        "a.csv", groups_of_three(";", ";1.234;1.240;1.230;1.235;50"), r"'1\.234' may be 1234 or 1\.234, and nothing",
    ),
    "which price": ("a.csv", FLAT, r"has no header, and may be .*\(time open close .* or .*data\.columns"),
    "no shape": ("a.csv", FLAT.replace(",1,1,1,1,", ",7,1,9,3,"), "its rows match no known layout .*2024-01-01, 7, 1, 9"),
    "bid and ask": (
        "a.csv",
        "time,bidopen,bidhigh,bidlow,bidclose,askopen,askhigh,asklow,askclose\n" + "2024-01-01,1,2,1,1,1,2,1,1\n",
        r"has prices of bid and ask; select those of one: data\.columns \(--columns open=bidopen,",
    ),
    "closes alone": ("a.csv", "Date,AAPL,MSFT\n2024-01-01,1,2\n", "no column for open, high, low, close; the header has"),
    "two zones": ("a.csv", lines("2024-01-01 00:00:00+00:00", "2024-01-01 01:00:00"), "with and without a time zone; use one form"),
    "torn zip": ("a.zip", zipped(a__csv=lines("2024-01-01"))[:-40], "truncated or damaged zip archive"),
    "zip without bars": ("a.zip", zipped(x__pdf="", y__docx=""), r"zip archive without bars; it contains x\.pdf, y\.docx"),
    "workbook": ("a.xlsx", zipped(**{"[Content_Types]__xml": ""}), "an Excel workbook; save its sheet as CSV"),
    "torn gzip": ("a.csv.gz", gzip.compress(lines("2024-01-01").encode() * 99)[:-20], "not readable as CSV: "),
    "noise": ("a.csv", NOISE, "a binary file of an unsupported kind"),
    "packed noise": ("a.csv.gz", gzip.compress(NOISE), "a binary file of an unsupported kind"),
    "packed nothing": ("a.csv.gz", gzip.compress(b""), "empty file"),
    "endless line": ("a.csv", "a" * 300_000, "its first line is longer than 64 KiB"),
    "wide header": ("a.csv", ",".join(f"c{i}" for i in range(5000)) + "\n1,2\n", "no column for .*'c11', \\.\\.\\."),
    "page": ("a.csv", "<!DOCTYPE html><html>Sign in</html>", "an HTML or XML page"),
    "answer with an error": ("a.json", '{"error": "Invalid call"}', "JSON without bars: an object with 'error'"),
    "empty JSON": ("a.json", "[]", "JSON without bars: list"),
    "torn JSON": ("a.json", '[{"date":"2024-01-01","open":', "not readable as JSON"),
    "torn line": ("a.jsonl", '{"date":"2024-01-01","open":1,"high":2,"low":1,"close":1}\n{"da', "line 2: not readable as JSON"),
    "deep JSON": ("a.json", "[" * 100_000, "nested too deeply"),
    "pickle": ("a.csv", b"\x80\x04\x95" + b"x" * 99, "binary|pickle"),
    "one field of a store": ("close.day.bin", b"\0" * 8, "one field of a Qlib store"),
    "repeated hour": (
        "a.csv", lines("2024-10-27 01:00", "2024-10-27 02:00") + "2024-10-27 02:00,1,2,0.5,1,9\n", "if clocks went back here, write timestamps in UTC",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bad_rows", ["refuse", "drop"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_read_for_sure_is_refused_with_the_way_out(tmp_path: Path, name: str, bad_rows: Any) -> None:
    file, content, message = HOSTILE[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    if (name, bad_rows) == ("repeated hour", "drop"):
        assert len(read_frame(tmp_path / file, bad_rows="drop")[0]) == 2
        return
    with pytest.raises(DataError, match=message) as error:
        read_frame(tmp_path / file, bad_rows=bad_rows)
    assert str(error.value).startswith(str(tmp_path / file))
    assert len(str(error.value)) < 1000


def symbols(path: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rows in read_rows(path, "refuse", Findings()):
        names = [rows.symbols] * len(rows.instants) if isinstance(rows.symbols, str) else rows.symbols
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    return counts


def pairs(names: Callable[[str, str], Any]) -> pd.DataFrame:
    """Two symbols side by side; the second one begins later."""
    first, second = bars(10).set_index("timestamps"), bars(10, seed=1).set_index("timestamps")
    second.iloc[:3] = np.nan
    columns = {
        names(symbol, field.title()): frame[field]
        for symbol, frame in (("AA", first), ("BRK.B", second))
        for field in [*PRICES, "volume"]
    }
    return pd.DataFrame(columns)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "names",
    [
        lambda symbol, field: (field, symbol),
        lambda symbol, field: (symbol, field),
        lambda symbol, field: f"{symbol}_{field}",
        lambda symbol, field: f"{field}_{symbol}",
        lambda symbol, field: f"{symbol} {field}",
    ],
)
def test_symbols_beside_each_other_are_told_apart(tmp_path: Path, kind: str, names: Callable[[str, str], Any]) -> None:
    frame = pairs(names).rename_axis("Date")
    file = tmp_path / f"wide.{kind}"
    frame.to_csv(file) if kind == "csv" else frame.to_parquet(file)
    assert symbols(file) == {"AA": 10, "BRK.B": 7}
    assert_same(read_frame(file, symbol="AA")[0], bars(10))


def test_symbols_come_from_json_and_zip_members(tmp_path: Path) -> None:
    records = [{"date": f"2024-01-0{day}", "open": 1, "high": 2, "low": 0.5, "close": 1} for day in (1, 2)]
    (tmp_path / "a.json").write_text(json.dumps({"AAPL": records, "MSFT": records[:1]}))
    assert symbols(tmp_path / "a.json") == {"AAPL": 2, "MSFT": 1}
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps({"ticker": name, **item}) + "\n" for name in "XY" for item in records)
    )
    assert symbols(tmp_path / "b.jsonl") == {"X": 2, "Y": 2}
    (tmp_path / "c.zip").write_bytes(
        zipped(A__csv=lines("2024-01-01"), B__csv=lines("2024-01-01", "2024-01-02"), README__txt="x")
    )
    assert symbols(tmp_path / "c.zip") == {"A": 1, "B": 2}


def test_rows_that_are_no_bars_are_left_out_and_said(tmp_path: Path) -> None:
    content = (
        lines("2024-01-01")
        + HEADER
        + "2024-01-02,,,,,\nSource: somebody, somewhere\n2024-01-03"
        + ROW
        + "2024-01-03"
        + ROW
    )
    (tmp_path / "A.csv").write_text(content + "2024-01-04,0.24 Dividend,,,,\n\n  \n")
    frame, notes = read_frame(tmp_path / "A.csv")
    assert frame["timestamps"].dt.day.tolist() == [1, 3]
    assert notes[1:] == [
        "empty lines skipped: 2; the first: A.csv: line 9",
        "repeated headers skipped: 1; the first: A.csv: line 3",
        "lines without a bar (comment, title or footer) skipped: 1; the first: A.csv: line 5",
        "rows with a timestamp but no price (unfinished, or no trade) skipped: 1; the first: A.csv: line 4",
        "rows of dividends and splits skipped: 1; the first: A.csv: line 8",
        f"duplicate rows, kept once: 1; the first: {tmp_path}/A.csv: line 7",
    ]


def test_a_row_without_volume_is_a_halt(tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text(
        "date,open,high,low,close,volume,amount\n2024-01-01,1,2,0.5,1,10,15\n2024-01-02,1,1,1,1,,\n2024-01-03,1,2,0.5,1,10,\n"
    )
    frame, notes = read_frame(tmp_path / "A.csv")
    assert frame["volume"].tolist() == [10, 0, 10]
    assert frame["amount"].tolist() == [15, 0, 11.25]
    assert notes == ["empty volume, read as no trade (0): A.csv (1 row)"]


def test_columns_are_named_where_no_recogniser_knows_them(tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text("when,a,b,c,last trade,n\n2024-01-01,1,2,0.5,1.5,9\n")
    named = {"timestamps": "when", "open": "a", "high": "b", "low": "c", "close": "last trade", "volume": "n"}
    assert read_frame(tmp_path / "A.csv", columns=named)[0].iloc[0, 1:6].tolist() == [1, 2, 0.5, 1.5, 9]
    with pytest.raises(
        DataError, match=r"data\.columns: no column 'lst trade' for close; the header has 'when', .* did you mean"
    ):
        read_frame(tmp_path / "A.csv", columns=named | {"close": "lst trade"})
    (tmp_path / "B.csv").write_text(FLAT)
    places = {"timestamps": "0", "open": "1", "high": "2", "low": "3", "close": "4"}
    assert read_frame(tmp_path / "B.csv", columns=places)[0]["close"].tolist() == [1.0] * 8
    # what is named counts before what is recognised
    (tmp_path / "C.csv").write_text("date,open,high,low,close,settlement\n2024-01-01,1,2,0.5,1.5,1.75\n")
    assert read_frame(tmp_path / "C.csv", columns={"close": "settlement"})[0]["close"].tolist() == [1.75]


def test_stamps_that_name_their_zone_are_instants(tmp_path: Path) -> None:
    """Interactive Brokers."""
    (tmp_path / "A.csv").write_text(lines("20240102 09:30:00 US/Eastern", "20240703 09:30:00 US/Eastern"))
    hours = [
        read_frame(tmp_path / "A.csv", time_zone=zone)[0]["timestamps"].dt.hour.tolist()
        for zone in (None, "America/New_York")
    ]
    assert hours == [[14, 13], [9, 9]]


def _months(frame: pd.DataFrame, folder: Path, name: str) -> None:
    for month, part in frame.groupby(frame["timestamps"].dt.strftime("%Y-%m")):
        INTRADAY["binance-ms"](part, folder / f"{name}-{month}")


def test_files_of_one_symbol_and_a_period_each_are_joined_and_contracts_are_not(tmp_path: Path) -> None:
    frame = bars(24 * 70, "h", "2024-01-01")
    parts, packed, contracts = tmp_path / "parts", tmp_path / "packed", tmp_path / "contracts"
    parts.mkdir()
    _months(frame, parts, "BTCUSDT-1h")
    packed.mkdir()
    with zipfile.ZipFile(packed / "all.zip", "w") as archive:
        for file in sorted(parts.iterdir()):
            archive.write(file, file.name)
    for place in (parts, packed):
        read, notes = read_frame(place)
        assert read["close"].tolist() == frame["close"].tolist() and len(read) == 24 * 70
        assert any("a part of BTCUSDT-1h, by its name: " in note and "2024-03" in note for note in notes)
    contracts.mkdir()
    for month in ("2024-03", "2024-06"):
        bars(100, "B", "2023-10-02").to_csv(contracts / f"ES-{month}.csv", index=False)
    with pytest.raises(DataError, match=r"2 symbols \(ES-2024-03, ES-2024-06\)"):
        read_frame(contracts)
    (parts / "more").mkdir()
    _months(frame, parts / "more", "BTCUSDT-1h")
    with pytest.raises(DataError, match="both named after symbol BTCUSDT-1h"):
        read_frame(parts)


def test_a_store_of_many_instruments_is_one_source(tmp_path: Path) -> None:
    DAILY["qlib"](bars(), tmp_path / "store")
    folder = tmp_path / "store/features/sz000001"
    folder.mkdir()
    for name in PRICES:
        np.r_[5, 1.0, np.nan, 3.0].astype("<f4").tofile(folder / f"{name}.day.bin")
    assert symbols(tmp_path / "store") == {"SH600000": 60, "sz000001": 2}
    (folder / "open.day.bin").write_bytes(b"\0" * 7)
    with pytest.raises(DataError, match=r"open\.day\.bin: truncated"):
        symbols(tmp_path / "store")


def test_which_files_of_a_directory_are_bars() -> None:
    def chosen(*names: str) -> list[str]:
        return [name.as_posix() for name in bars_among(map(Path, names))]

    assert chosen("A.csv", "notes.txt", "meta.json", "all.zip", ".b.csv", "_x/c.csv", "B.PARQUET", "c.csv.zip") == [
        "A.csv", "B.PARQUET", "c.csv.zip",
    ]  # fmt: skip
    assert chosen("A.txt", "README.txt", "LICENSE.txt", "B.json", "run.py") == ["A.txt", "B.json"]
    assert chosen("s/calendars/day.txt", "s/instruments/all.txt", "s/features/a/open.day.bin", "b.csv") == [
        "s/calendars/day.txt", "s/features/a/open.day.bin",
    ]  # fmt: skip


def test_the_table_of_layouts_is_sound(tmp_path: Path) -> None:
    assert len(set(NAMES)) == len(NAMES)
    for layout in LAYOUTS:
        assert bool(layout.header) != bool(layout.shape), layout.name
        if layout.shape:
            assert set(PRICES) <= set(layout.shape.split()), layout.name
    # a shape that an earlier one always hides would be dead
    for name in ("ochlv", "prices", "amount"):
        shape = next(layout.shape for layout in LAYOUTS if layout.name == name)
        letters = dict(zip([*PRICES, "volume", "amount", "time"], "ohlcvat", strict=False)) | {"time": "t"}
        words = " ".join(f"={letters[word]}" for word in shape.split() if word != "...") + (
            " =x" if "..." in shape else ""
        )
        frame = bars(30)
        assert read_frame(csv(words, header=False)(frame, tmp_path / name))[0][PRICES].equals(frame[PRICES])
