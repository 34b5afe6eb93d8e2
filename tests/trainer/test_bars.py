"""The store: flat arrays of all symbols, prepared once and shared."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos_trainer.config import Data, Source, Timeframe
from kronos_trainer.data import bars as bars_module
from kronos_trainer.data.bars import FORMAT, Bars, prepare_bars, read_bars, source_digest, time_stamps
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.errors import ConfigError, DataError, StorageError

DATA = Data(source=Source(path="unused"))


def frame(symbol: str, rows: int, start: str = "2020-01-01", freq: str = "D", seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng([seed, *symbol.encode()])
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, rows)))
    return pd.DataFrame(
        {
            "timestamps": pd.date_range(start, periods=rows, freq=freq),
            "open": close,
            "high": close * 1.1,
            "low": close * 0.9,
            "close": close,
            "volume": rng.integers(0, 10**9, rows).astype(float),
            "amount": rng.uniform(0, 1e12, rows),
            "symbol": symbol,
        }
    )


def check_symbol(bars: Bars, symbol: str, source: pd.DataFrame) -> None:
    index = bars.symbols.index(symbol)
    rows = slice(bars.offsets[index], bars.offsets[index + 1])
    source = source.sort_values("timestamps")
    np.testing.assert_array_equal(bars.values[rows], source[list(FEATURES)].to_numpy(np.float32))
    times = source["timestamps"].dt
    np.testing.assert_array_equal(bars.times[rows], times.as_unit("ns").to_numpy().astype(np.int64))
    expected = np.column_stack([times.minute, times.hour, times.day_of_week, times.day, times.month])
    np.testing.assert_array_equal(bars.stamps[rows], expected)


def test_symbols_spread_over_files_and_chunks_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kronos_trainer.data.reading.readers.CHUNK_ROWS", 7)
    sources = {name: frame(name, rows) for name, rows in (("B", 40), ("A", 25), ("C", 1))}
    everything = pd.concat(sources.values()).sample(frac=1, random_state=1)
    directory = tmp_path / "bars"
    directory.mkdir()
    everything.iloc[:30].to_parquet(directory / "one.parquet")
    everything.iloc[30:].to_csv(directory / "two.csv", index=False)
    for bars in (
        read_bars(directory, Timeframe.D1, DATA),
        prepare_bars(directory, Timeframe.D1, DATA, tmp_path / "cache").open(),
    ):
        assert bars.symbols == ("A", "B", "C")
        assert bars.offsets.tolist() == [0, 25, 65, 66]
        assert bars.values.dtype == np.float32
        for name, source in sources.items():
            check_symbol(bars, name, source)
        assert bars.notes == ("rows out of order, sorted by time: A, B",)


def test_the_cache_is_prepared_once_even_by_two_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, cache = tmp_path / "A.csv", tmp_path / "cache"
    frame("A", 300).to_csv(source, index=False)
    prepared: list[Path] = []
    prepare = bars_module._prepare

    def counted(path: Path, *rest: object) -> None:
        prepared.append(path)
        prepare(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bars_module, "_prepare", counted)
    results: list[Bars] = []
    workers = [
        threading.Thread(target=lambda: results.append(prepare_bars(source, Timeframe.D1, DATA, cache).open()))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(prepared) == 1
    assert len(results) == 4
    check_symbol(results[0], "A", frame("A", 300))

    # what a killed process left behind is replaced, and other bars are another entry
    frame("A", 301).to_csv(source, index=False)
    digest = source_digest(source, Timeframe.D1, DATA)
    (cache / f".aside-bars-{FORMAT}-{digest[:32]}").mkdir()
    bars = prepare_bars(source, Timeframe.D1, DATA, cache).open()
    assert (bars.digest, len(prepared)) == (digest, 2)
    check_symbol(bars, "A", frame("A", 301))
    assert not any(entry.name.startswith(".aside") for entry in cache.iterdir())


def test_bars_that_changed_and_kept_size_time_and_inode_are_read_anew(tmp_path: Path) -> None:
    """As after `rsync --inplace --times`: whoever trusts those would train on the bars of before."""
    source, cache = tmp_path / "A.csv", tmp_path / "cache"
    frame("A", 30).to_csv(source, index=False)
    before, digest = source.stat(), prepare_bars(source, Timeframe.D1, DATA, cache).digest
    text = source.read_text()
    with source.open("r+") as stream:
        stream.write(text.replace("2020-01-30", "2020-02-03"))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = source.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    changed = prepare_bars(source, Timeframe.D1, DATA, cache)
    assert changed.digest != digest
    assert changed.open().times[-1] == np.datetime64("2020-02-03", "ns").astype(np.int64)


def test_a_refused_file_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    source, cache = tmp_path / "A.csv", tmp_path / "cache"
    frame("A", 5).assign(close=lambda bars: bars["open"].astype(str).where(bars.index != 2, "x")).to_csv(
        source, index=False
    )
    with pytest.raises(DataError, match=r"A\.csv: line 4, column close: 'x' is not a number"):
        prepare_bars(source, Timeframe.D1, DATA, cache).open()
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == []
    kept = prepare_bars(source, Timeframe.D1, DATA.model_copy(update={"bad_rows": "drop"}), cache).open()
    assert len(kept.times) == 4
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        prepare_bars(source, Timeframe.D1, DATA.model_copy(update={"bad_rows": "drop"}), blocked).open()


def test_the_digest_follows_bytes_names_and_options_but_not_the_place(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        frame("A", 5).to_csv(tmp_path / place / "A.csv", index=False)
    base = source_digest(tmp_path / "here", Timeframe.D1, DATA)
    assert source_digest(tmp_path / "there", Timeframe.D1, DATA) == base
    # neither the split nor the clip touches the bars
    assert source_digest(tmp_path / "here", Timeframe.D1, DATA.model_copy(update={"clip": 3.0})) == base
    others = [
        source_digest(tmp_path / "here", Timeframe.W1, DATA),
        source_digest(tmp_path / "here", Timeframe.D1, DATA.model_copy(update={"time_zone": "Asia/Tokyo"})),
        source_digest(tmp_path / "here", Timeframe.D1, DATA.model_copy(update={"bad_rows": "drop"})),
    ]
    (tmp_path / "there" / "A.csv").rename(tmp_path / "there" / "B.csv")
    others.append(source_digest(tmp_path / "there", Timeframe.D1, DATA))
    assert len({base, *others}) == 5


def test_bars_are_resampled_in_local_time(tmp_path: Path) -> None:
    hours = frame("A", 24 * 20, "2024-03-01", "h")
    hours["timestamps"] = hours["timestamps"].dt.tz_localize("UTC")
    hours.to_parquet(tmp_path / "A.parquet")
    data = DATA.model_copy(update={"time_zone": "America/New_York"})
    bars = read_bars(tmp_path / "A.parquet", Timeframe.D1, data)
    expected = (
        hours.set_index(hours["timestamps"].dt.tz_convert("America/New_York"))
        .resample("1D")
        .agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "amount": "sum"})
    )
    expected = expected.iloc[:-1]  # the last local day ends at 20:00
    np.testing.assert_allclose(bars.values, expected.to_numpy(np.float32), rtol=1e-6)
    assert bars.times.view("datetime64[ns]").tolist() == expected.index.tz_localize(None).as_unit("ns").asi8.tolist()
    assert bars.notes == ("resampled to 1d: A",)


def test_time_stamps_agree_with_pandas_over_centuries() -> None:
    times = pd.date_range("1901-01-01", "2199-12-31", freq="1217h37min").as_unit("ns")
    expected = np.column_stack([times.minute, times.hour, times.day_of_week, times.day, times.month])
    np.testing.assert_array_equal(time_stamps(times.asi8), expected)


def test_an_unknown_calendar_ends_a_training_before_its_bars_are_read(tmp_path: Path) -> None:
    data = Data(source=Source(path="bars"), calendar="XNYX")
    with pytest.raises(ConfigError, match="did you mean XNYS"):
        read_bars(tmp_path / "absent", Timeframe.D1, data)
    with pytest.raises(ConfigError, match="did you mean XNYS"):
        prepare_bars(tmp_path / "absent", Timeframe.D1, data, tmp_path).open()
