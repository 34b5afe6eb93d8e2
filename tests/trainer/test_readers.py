"""Files of bars, good and bad: what is read, what is refused, and in which words."""

from __future__ import annotations

import gzip
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos_trainer.data.quality.findings import Findings
from kronos_trainer.data.reading.files import bar_files
from kronos_trainer.data.reading.readers import read_frame, read_rows
from kronos_trainer.errors import ConfigError, DataError, InputMissing

PRICES = ("open", "high", "low", "close")
HEADER = "timestamps,open,high,low,close,volume,amount\n"
ROW = ",1,2,0.5,1.5,10,15\n"


def table(rows: int = 4, start: str = "2020-01-01") -> pd.DataFrame:
    price = 10.0 + np.arange(rows)
    return pd.DataFrame(
        {
            "timestamps": pd.date_range(start, periods=rows, freq="D"),
            "open": price,
            "high": price + 1,
            "low": price - 1,
            "close": price + 0.5,
            "volume": np.arange(rows) * 100.0,
            "amount": price * 7,
        }
    )


def stamped(path: Path, *stamps: str) -> Path:
    path.write_text(HEADER + "".join(stamp + ROW for stamp in stamps))
    return path


BAD = {
    "text price": (HEADER + "2020-01-01,1,2,0.5,n.b.,3,4\n", "line 2, column close: 'n.b.' is not a number"),
    "empty price": (HEADER + "2020-01-01" + ROW + "\n2020-01-03,1,,0.5,1,3,4\n", "line 4, column high: is empty"),
    "nan price": (HEADER + "2020-01-01,NaN,2,0.5,1,3,4\n", "line 2, column open: is empty"),
    "infinite": (HEADER + "2020-01-01,1,2,0.5,1,3,inf\n", "line 2, column amount: inf is not between ±1e+18"),
    "overflow": (HEADER + "2020-01-01,1,2,0.5,1,3e30,4\n", "line 2, column volume: 3e+30 is not between ±1e+18"),
    "negative volume": (HEADER + "2020-01-01,1,2,0.5,1,-3,4\n", "line 2, column volume: -3 is negative"),
    "negative amount": (HEADER + "2020-01-01,1,2,0.5,1,3,-4\n", "line 2, column amount: -4 is negative"),
    "impossible day": (
        HEADER + "2020-01-31" + ROW + "2020-02-30" + ROW,
        "line 3, column timestamps: '2020-02-30' is not a valid timestamp",
    ),
    "no such day, digits": (
        HEADER + "20200131" + ROW + "20200230" + ROW,
        "line 3, column timestamps: 20200230 is not a valid timestamp",
    ),
    "file's own name": (
        "Date,O,H,L,Last,Vol,Amt\n2020-01-01,1,2,0.5,x,3,4\n",
        "line 2, column Last: 'x' is not a number",
    ),
    "no symbol": ("symbol," + HEADER + ",2020-01-01" + ROW, "line 2, column symbol: is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_refused_by_file_line_and_column_or_left_out(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    path = tmp_path / "A.csv"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        read_frame(path)
    assert str(error.value) == f"{path}: {message} (data.badRows: drop, or --bad-rows drop, skips such rows)"

    good = "1999-12-31" if "-01-" in content else "19991231"
    lines = content.splitlines(keepends=True)
    prefix = "A," if lines[0].startswith("symbol") else ""
    path.write_text("".join([lines[0], prefix + good + ROW, *lines[1:]]))
    frame, notes = read_frame(path, bad_rows="drop")
    assert frame["timestamps"].iloc[0] == pd.Timestamp("1999-12-31")
    assert len(frame) == len([line for line in lines[1:] if line.strip()])  # one added, one left out
    assert any(note.startswith(f"bad rows skipped: 1; the first: {path}: line ") for note in notes)


CONTRADICTIONS = {
    "high below low": ("1,0.4,0.5,1", "column high: 0.4 is below the low"),
    "open above high": ("2.1,2,0.5,1", "column open: 2.1 is above the high"),
    "open below low": ("0.4,2,0.5,1", "column open: 0.4 is below the low"),
    "close above high": ("1,2,0.5,2.1", "column close: 2.1 is above the high"),
    "close below low": ("1,2,0.5,0.4", "column close: 0.4 is below the low"),
    **{
        f"0 in {name}": (",".join("0" if key == name else "1" for key in PRICES), f"column {name}: 0 is not a price")
        for name in PRICES
    },
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_bar_that_contradicts_itself_is_read_and_said_or_left_out(tmp_path: Path, name: str) -> None:
    prices, message = CONTRADICTIONS[name]
    path = tmp_path / "A.csv"
    path.write_text(HEADER + "2020-01-01" + ROW + f"2020-01-02,{prices},3,4\n" + "2020-01-03" + ROW)
    frame, notes = read_frame(path)
    assert frame[list(PRICES)].iloc[1].tolist() == [float(price) for price in prices.split(",")]
    assert len(notes) == 1
    assert f": A {path}: line 3 (2020-01-02), {message}; " in notes[0]
    assert notes[0].endswith("data.badRows: drop (--bad-rows drop) skips such bars")
    frame, notes = read_frame(path, bad_rows="drop")
    assert frame["timestamps"].dt.day.tolist() == [1, 3]
    assert notes == [f"bad rows skipped: 1; the first: {path}: line 3 (2020-01-02), {message}"]


def test_beside_prices_below_zero_neither_zero_nor_a_negative_amount_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_text(HEADER + "2020-01-01,0,0.5,-0.5,0,3,0\n2020-01-02,-2,-1,-3,-2,3,-6\n")
    frame, notes = read_frame(path)
    assert frame["amount"].tolist() == [0, -6]
    assert notes == []


REFUSED = {
    "empty": ("", "empty file"),
    "header only": (HEADER, "has a header but no rows"),
    "near miss": (
        "timestamps,open,high,low,clsoe\n2020-01-01,1,2,1,1\n",
        "no column for close; the header has 'timestamps', 'open', 'high', 'low', 'clsoe'; is 'clsoe' meant as close?; "
        "or set it: data.columns (--columns close=Price)",
    ),
    "doubled": (
        "date,open,high,low,close,Close\n2020-01-01,1,2,1,1,1\n",
        "two columns for close: 'close' and 'Close'; keep one",
    ),
    "long row": (
        HEADER + "2020-01-01" + ROW + "2020-01-02,1,2,0.5,1,1,234,4\n",
        "not readable as CSV: Error tokenizing data. C error: Expected 7 fields in line 3, saw 8",
    ),
    "long rows": (
        HEADER + "2020-01-01,1,2,0.5,1,1,234,4\n",
        "not readable as CSV: rows have more fields than the header",
    ),
    "day or month": (
        HEADER + "01/02/2020" + ROW,
        "column timestamps: '01/02/2020' may be day-first (2020-02-01) or month-first (2020-01-02), and no "
        "row decides; write 2024-01-31",
    ),
    "unknown notation": (
        HEADER + "Q1 2020" + ROW,
        "column timestamps: 'Q1 2020' is not a known notation; write 2024-01-31 or 2024-01-31 09:35",
    ),
    "counter": (HEADER + "7" + ROW, "column timestamps: 7 is neither a date like 20240131 nor seconds since 1970"),
    "zones": (
        HEADER + "2020-01-01T00:00:00Z" + ROW + "2020-01-02T00:00:00" + ROW,
        "column timestamps: mixes timestamps with and without a time zone; use one form, e.g. 2024-01-31 09:35+00:00",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bad_rows", ["refuse", "drop"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_wrong_as_a_whole_is_refused(tmp_path: Path, name: str, bad_rows: str) -> None:
    content, message = REFUSED[name]
    path = tmp_path / "A.csv"
    path.write_text(content)
    if name == "header only" and bad_rows == "drop":
        message = "no usable row"
    with pytest.raises(DataError) as error:
        read_frame(path, bad_rows=bad_rows)  # type: ignore[arg-type]
    assert str(error.value) == f"{path}: {message}"


def test_unreadable_files_are_data_errors_and_an_absent_path_is_missing_input(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "whole.parquet")
    torn = tmp_path / "torn.parquet"
    torn.write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress((HEADER + "2020-01-01" + ROW).encode() * 500)[:-30])
    for file, kind in ((torn, "Parquet"), (cut, "CSV")):
        with pytest.raises(DataError, match=f"{file.name}: not readable as {kind}: "):
            read_frame(file)
    with pytest.raises(InputMissing, match="no such file or directory"):
        read_frame(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it is empty"):
        read_frame(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"; found only notes\.txt"):
        read_frame(tmp_path / "empty")


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2019/11/26 9:35", "2019-11-26 09:35"),
        ("2019-11-26", "2019-11-26"),
        ("2019-11-26 09:35:07.250", "2019-11-26 09:35:07.25"),
        ("2019.11.26 09:35", "2019-11-26 09:35"),
        ("26.11.2019 22:00:00.000", "2019-11-26 22:00"),
        ("26/11/2019", "2019-11-26"),
        ("11/26/2019 9:35 PM", "2019-11-26 21:35"),
        ("20191126 220000", "2019-11-26 22:00"),
        ("20191126", "2019-11-26"),
        ("201911262200", "2019-11-26 22:00"),
        ("2019-11-26T14:35:00Z", "2019-11-26 09:35"),
        ("2019-11-26 15:35:00+01:00", "2019-11-26 09:35"),
        ("2019/11/26 15:35 +0100", "2019-11-26 09:35"),
        ("1574778900", "2019-11-26 09:35"),
        ("1574778900.5", "2019-11-26 09:35:00.5"),
        ("1574778900000", "2019-11-26 09:35"),
        ("1574778900000000000", "2019-11-26 09:35"),
    ],
)
def test_stamps_are_read_in_every_usual_notation(tmp_path: Path, stamp: str, expected: str) -> None:
    frame, _ = read_frame(stamped(tmp_path / "A.csv", stamp), time_zone="America/New_York")
    assert frame["timestamps"].tolist() == [pd.Timestamp(expected)]
    assert frame["timestamps"].dtype == "datetime64[ns]"


def test_stamps_with_a_zone_become_local_and_the_repeated_hour_is_no_repeat(tmp_path: Path) -> None:
    hours = pd.date_range("2021-11-07T04:00Z", periods=4, freq="h")  # summer time ends at 06:00 UTC in New York
    for name, column in (("A.csv", hours.astype(str)), ("A.parquet", hours)):
        table(4).assign(timestamps=column).pipe(
            lambda frame, name=name: (
                frame.to_csv(tmp_path / name, index=False)
                if name.endswith("csv")
                else frame.to_parquet(tmp_path / name)
            )
        )
        frame, notes = read_frame(tmp_path / name, time_zone="America/New_York")
        assert frame["timestamps"].dt.hour.tolist() == [0, 1, 1, 2]
        assert notes == []
        frame, notes = read_frame(tmp_path / name)
        assert frame["timestamps"].dt.hour.tolist() == [4, 5, 6, 7]
        assert notes == ["timestamps have a zone and data.timeZone is not set: hour and weekday are in UTC: A"]
    with pytest.raises(ConfigError, match="'Mars/Phobos' is not an IANA time zone"):
        read_frame(tmp_path / "A.csv", time_zone="Mars/Phobos")


@pytest.mark.parametrize(
    ("without", "volume", "amount"),
    [
        ([], [10.0], [15.0]),
        (["volume"], [0.0], [15.0]),  # upstream overwrites the amount here
        (["amount"], [10.0], [10 * (1 + 2 + 0.5 + 1.5) / 4]),
        (["volume", "amount"], [0.0], [0.0]),
    ],
)
def test_a_missing_volume_or_amount_is_filled_in(
    tmp_path: Path, without: list[str], volume: list[float], amount: list[float]
) -> None:
    stamped(tmp_path / "A.csv", "2020-01-01")
    pd.read_csv(tmp_path / "A.csv").drop(columns=without).to_csv(tmp_path / "B.csv", index=False)
    frame, notes = read_frame(tmp_path / "B.csv")
    assert (frame["volume"].tolist(), frame["amount"].tolist()) == (volume, amount)
    assert len(notes) == len(without)


def test_columns_are_found_by_alias_in_any_case_and_order(tmp_path: Path) -> None:
    (tmp_path / "mt5.csv").write_text(
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\n2020.01.01\t00:05:00\t1\t2\t0.5\t1.5\t10\n"
    )
    (tmp_path / "cn.csv").write_text(
        "\ufeffTurnover;VOL;Low;Close;Open;High;Trade Date;extra\n15;10;0.5;1.5;1;2;20200101;x\n"
    )
    for name, stamp in (("mt5.csv", "2020-01-01 00:05"), ("cn.csv", "2020-01-01")):
        frame, _ = read_frame(tmp_path / name)
        assert frame["timestamps"].tolist() == [pd.Timestamp(stamp)]
        assert frame[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [[1, 2, 0.5, 1.5, 10]]


def test_parquet_is_read_with_its_own_types(tmp_path: Path) -> None:
    plain = table()
    plain.set_index("timestamps").to_parquet(tmp_path / "index.parquet")
    plain.set_index("timestamps").rename_axis(None).to_parquet(tmp_path / "unnamed.parquet")
    plain.assign(timestamps=plain["timestamps"].dt.date).to_parquet(tmp_path / "date.parquet")
    plain.assign(
        close=plain["close"].map(lambda x: Decimal(str(x))), volume=plain["volume"].astype("Int64")
    ).to_parquet(tmp_path / "decimal.pq")
    assert isinstance(pd.read_parquet(tmp_path / "date.parquet")["timestamps"][0], date)
    for name in ("index.parquet", "unnamed.parquet", "date.parquet", "decimal.pq"):
        frame, notes = read_frame(tmp_path / name)
        pd.testing.assert_frame_equal(frame, plain.astype({"timestamps": "datetime64[ns]"}))
        assert notes == []
    plain.assign(close=plain["close"].where(plain.index != 2)).to_parquet(tmp_path / "hole.parquet")
    with pytest.raises(DataError, match=r"hole\.parquet: row 3, column close: is empty"):
        read_frame(tmp_path / "hole.parquet")


def test_rows_out_of_order_are_sorted_and_equal_stamps_refused_across_files(tmp_path: Path) -> None:
    shuffled = table(5).iloc[[3, 0, 4, 1, 2]]
    shuffled.to_csv(tmp_path / "A.csv", index=False)
    frame, notes = read_frame(tmp_path / "A.csv")
    pd.testing.assert_frame_equal(frame, table(5).astype({"timestamps": "datetime64[ns]"}))
    assert notes == ["rows out of order, sorted by time: A"]

    split = tmp_path / "split"
    split.mkdir()
    table(5).iloc[:3].assign(symbol="X").to_csv(split / "a.csv", index=False)
    table(5).iloc[2:].assign(symbol="X").to_parquet(split / "b.parquet")
    frame, notes = read_frame(split)
    assert len(frame) == 5
    assert f"duplicate rows, kept once: 1; the first: {split}/b.parquet: row 1" in notes
    table(5).iloc[2:].assign(symbol="X", close=table(5)["open"]).to_parquet(split / "b.parquet")
    message = (
        f"{split}/b.parquet: row 1, column timestamps: 2020-01-03 00:00:00 of symbol X "
        f"was already given in {split}/a.csv: line 4"
    )
    with pytest.raises(DataError) as error:
        read_frame(split)
    assert str(error.value) == f"{message} with other values"
    frame, notes = read_frame(split, bad_rows="drop")
    assert len(frame) == 5
    assert f"bad rows skipped: 1; the first: {message}" in notes


def test_symbols_come_from_a_column_the_file_name_or_the_directory(tmp_path: Path) -> None:
    def symbols(path: Path) -> dict[str, int]:
        counts: dict[str, int] = {}
        for rows in read_rows(path, "refuse", Findings()):
            names = [rows.symbols] * len(rows.instants) if isinstance(rows.symbols, str) else rows.symbols
            for name in names:
                counts[name] = counts.get(name, 0) + 1
        return counts

    stem = tmp_path / "stem"
    for name in ("B.csv", "sub/A.csv.gz", ".hidden.csv", ".git/C.csv", "_tmp/D.csv", "README.txt"):
        (stem / name).parent.mkdir(parents=True, exist_ok=True)
        table().to_csv(stem / name, index=False)
    assert symbols(stem) == {"A": 4, "B": 4}
    hive = tmp_path / "hive"
    pd.concat([table().assign(symbol="X"), table(3).assign(symbol="Y")]).to_parquet(hive, partition_cols=["symbol"])
    assert symbols(hive) == {"X": 4, "Y": 3}
    column = tmp_path / "column.csv"
    pd.concat([table().assign(Ticker="000001"), table(2).assign(Ticker="NA")]).to_csv(column, index=False)
    assert symbols(column) == {"000001": 4, "NA": 2}
    with pytest.raises(DataError, match=r"holds 2 symbols \(000001, NA\); choose one"):
        read_frame(column)
    assert len(read_frame(column, symbol="NA")[0]) == 2
    with pytest.raises(DataError, match="no usable row of symbol Z"):
        read_frame(column, symbol="Z")
    table().to_csv(stem / "A.csv", index=False)
    with pytest.raises(DataError, match=r"A\.csv\.gz and .*A\.csv are both named after symbol A"):
        symbols(stem)


def epochs(path: Path, stamps: list[int | float | str]) -> Path:
    return stamped(path, *map(str, stamps))


def test_epoch_stamps_that_change_their_unit_inside_a_file_keep_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = pd.date_range("2024-12-25", periods=12, freq="D")
    nanoseconds = days.as_unit("ns").asi8
    for small, large in ((10**9, 10**6), (10**6, 10**3), (10**3, 1), (10**9, 1)):
        for first, second in ((small, large), (large, small)):
            mixed = [*(nanoseconds[:7] // first), *(nanoseconds[7:] // second)]
            epochs(tmp_path / "A.csv", mixed)
            table(12).assign(timestamps=mixed).to_parquet(tmp_path / "A.parquet")
            for name in ("A.csv", "A.parquet"):
                for rows in (250_000, 5):  # the change inside a chunk, and between two
                    monkeypatch.setattr("kronos_trainer.data.reading.readers.CHUNK_ROWS", rows)
                    frame, notes = read_frame(tmp_path / name)
                    assert frame["timestamps"].tolist() == days.tolist()
                    assert any("each read by its size" in note for note in notes)


@pytest.mark.parametrize("freq", ["D", "MS", "YS"])
@pytest.mark.parametrize("unit", [10**9, 10**6, 10**3, 1])
def test_epoch_stamps_of_one_unit_pass_through_1970(tmp_path: Path, freq: str, unit: int) -> None:
    days = pd.date_range("1960-01-01", "2024-01-01", freq=freq)
    frame, notes = read_frame(epochs(tmp_path / "A.csv", list(days.as_unit("ns").asi8 // unit)))
    assert frame["timestamps"].tolist() == days.tolist()
    assert not any("by its size" in note for note in notes)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_of_two_columns_for_one_field_the_one_that_holds_something_counts(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos_trainer.data.reading.readers.CHUNK_ROWS", 3)
    file = tmp_path / f"A.{kind}"

    def read(**columns: object) -> tuple[pd.DataFrame, list[str]]:
        frame = table(8).drop(columns=[name for name in columns if name in table()]).assign(**columns)
        frame.to_csv(file, index=False) if kind == "csv" else frame.to_parquet(file)
        return read_frame(file)

    numbers = table(8)["volume"]
    late = np.array([0.0] * 7 + [5.0])  # only its last chunk holds something
    for column in (0.0, np.nan):
        bars, notes = read(volume=column, tickvol=numbers)
        assert bars["volume"].tolist() == numbers.tolist()
        assert notes == [
            f"the usual column is empty or 0, another one is used: A.{kind} (volume from 'tickvol', not 'volume')"
        ]
    assert read(volume=late, tickvol=numbers)[0]["volume"].tolist() == late.tolist()
    assert read(volume=0.0, tickvol=0.0)[0]["volume"].tolist() == [0.0] * 8
    bars, _ = read(amount=0.0, turnover=0.0, money=late, close=0.0, last=table(8)["close"])
    assert bars["amount"].tolist() == late.tolist()
    assert bars["close"].tolist() == table(8)["close"].tolist()


@pytest.mark.parametrize("bad_rows", ["refuse", "drop"])
def test_several_symbols_under_one_name_are_never_thinned_out_to_one(tmp_path: Path, bad_rows: str) -> None:
    both = pd.concat([table(6).assign(paper="X"), table(6).assign(paper="Y", close=table(6)["open"])])
    both.to_csv(tmp_path / "A.csv", index=False)
    with pytest.raises(DataError, match=r"line 8, .* in .*line 2, and 6 of 12 rows repeat .* them to symbol$"):
        read_frame(tmp_path / "A.csv", bad_rows=bad_rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_name_is_the_symbol_where_it_tells_the_rows_apart(tmp_path: Path, kind: str) -> None:
    def symbols(frame: pd.DataFrame) -> set[str]:
        frame.to_csv(tmp_path / "A.csv", index=False) if kind == "csv" else frame.to_parquet(tmp_path / "A.parquet")
        names: set[str] = set()
        for rows in read_rows(tmp_path / f"A.{kind}", "drop", Findings()):
            names |= {rows.symbols} if isinstance(rows.symbols, str) else set(rows.symbols)
        return names

    assert symbols(pd.concat([table().assign(Name="X"), table().assign(Name="Y")])) == {"X", "Y"}
    # a company that changes its name stays one symbol, and so it does where two of its rows are given twice
    renamed = table(20).assign(Name=["Old"] * 10 + ["New"] * 10)
    assert symbols(renamed) == {"A"}
    assert symbols(pd.concat([renamed, renamed.iloc[:2].assign(Name="New")])) == {"A"}
    assert symbols(pd.concat([table().assign(Name="n", symbol="X"), table().assign(Name="m", symbol="Y")])) == {
        "X",
        "Y",
    }


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        (["000000", "093000", "153000"], ["00:00", "09:30", "15:30"]),
        (["0", "93000", "153000"], ["00:00", "09:30", "15:30"]),
        (["0000", "0930", "1530"], ["00:00", "09:30", "15:30"]),
        (["0", "930", "1530"], ["00:00", "09:30", "15:30"]),
        (["0", "0", "0"], ["00:00", "00:00", "00:00"]),
        (["9", "10", "11"], None),  # hours
    ],
)
def test_a_column_of_the_time_of_day_gets_its_leading_zeros_back(
    tmp_path: Path, clock: list[str], expected: list[str] | None
) -> None:
    days = pd.date_range("2024-01-01", periods=3)
    frame = table(3).drop(columns="timestamps").assign(DATE=days.strftime("%Y%m%d"), TIME=clock)
    frame.to_csv(tmp_path / "A.csv", index=False)
    if expected is None:
        with pytest.raises(DataError, match=r"column DATE: '20240101 .*'"):
            read_frame(tmp_path / "A.csv")
        return
    stamps = [day + pd.Timedelta(f"{time}:00") for day, time in zip(days, expected, strict=True)]
    assert read_frame(tmp_path / "A.csv")[0]["timestamps"].tolist() == stamps
    frame.assign(TIME=frame["TIME"].astype(int)).to_parquet(tmp_path / "B.parquet")
    assert read_frame(tmp_path / "B.parquet")[0]["timestamps"].tolist() == stamps
    frame.assign(TIME=frame["TIME"].astype(float)).to_parquet(tmp_path / "B.parquet")
    assert read_frame(tmp_path / "B.parquet")[0]["timestamps"].tolist() == stamps


def test_a_link_to_a_folder_is_read_as_the_folder_and_never_round_in_circles(tmp_path: Path) -> None:
    (tmp_path / "store/us").mkdir(parents=True)
    table().to_csv(tmp_path / "store/us/A.csv", index=False)
    (tmp_path / "store/us/up").symlink_to(tmp_path / "store")
    (tmp_path / "bars").mkdir()
    (tmp_path / "bars/linked").symlink_to(tmp_path / "store/us")
    table().to_csv(tmp_path / "bars/B.csv", index=False)
    found = [file.relative_to(tmp_path / "bars").as_posix() for file in bar_files(tmp_path / "bars")]
    assert found == ["B.csv", "linked/A.csv"]


def zoned(zone: str, *, start: str = "2024-01-01", rows: int = 300, freq: str = "B") -> pd.DatetimeIndex:
    return pd.date_range(start, periods=rows, freq=freq).tz_localize(zone)


@pytest.mark.parametrize(
    "zone", ["Asia/Shanghai", "Asia/Kolkata", "Australia/Sydney", "America/New_York", "Asia/Kathmandu"]
)
def test_midnights_of_a_zone_are_dates_and_stay_them(tmp_path: Path, zone: str) -> None:
    days = zoned(zone)
    base = table(300).drop(columns="timestamps")
    base.assign(date=days).to_parquet(tmp_path / "P.parquet")
    base.assign(date=days.astype(str)).to_csv(tmp_path / "T.csv", index=False)
    for name in ("P.parquet", "T.csv"):
        frame, notes = read_frame(tmp_path / name)
        assert frame["timestamps"].tolist() == days.tz_localize(None).tolist()
        assert notes == [
            f"timestamps are midnights of {zone} and data.timeZone is not set: these dates are kept; set "
            f"data.timeZone: {zone}: {name[0]}"
        ]
        assert frame.attrs["zone"] == zone
        assert read_frame(tmp_path / name, time_zone=zone)[0]["timestamps"].equals(frame["timestamps"])


def test_stamps_that_name_no_zone_are_dates_only_where_that_makes_business_days_of_weekends(tmp_path: Path) -> None:
    def read(days: pd.DatetimeIndex) -> pd.Series:
        numbers = days.tz_convert("UTC").tz_localize(None).as_unit("s").asi8
        table(len(days)).assign(timestamps=numbers).to_csv(tmp_path / "A.csv", index=False)
        return read_frame(tmp_path / "A.csv")[0]["timestamps"]

    shanghai = zoned("Asia/Shanghai")
    assert read(shanghai).tolist() == shanghai.tz_localize(None).tolist()
    for days in (
        zoned("Asia/Shanghai", freq="D"),  # trades on all days
        zoned("UTC") + pd.Timedelta(hours=21),  # a close at 16:00 in New York in winter, or midnight in Moscow
        zoned("Asia/Shanghai", freq="4h"),
    ):
        assert read(days).tolist() == days.tz_convert("UTC").tz_localize(None).tolist()


def test_one_stamp_that_is_no_midnight_makes_all_of_them_times(tmp_path: Path) -> None:
    days = zoned("Asia/Shanghai", rows=30)
    odd = days.where(np.arange(30) != 17, days + pd.Timedelta(minutes=1))
    table(30).assign(timestamps=odd).to_parquet(tmp_path / "A.parquet")
    assert read_frame(tmp_path / "A.parquet")[0]["timestamps"].dt.hour.eq(16).all()


def test_the_last_digits_of_adjusted_prices_are_no_contradiction(tmp_path: Path) -> None:
    exact = table(300)[list(PRICES)] * 0.123456789
    rounded = exact["high"].astype(np.float32).astype(float)
    assert (rounded > exact["high"]).any()
    table(300).assign(**{**exact, "open": rounded, "close": rounded}).to_csv(tmp_path / "A.csv", index=False)
    assert len(read_frame(tmp_path / "A.csv")[0]) == 300
