"""Splits, windows and their order: nothing crosses a symbol or a split, and every value is the source's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronos_trainer.config import Data, Fractions, Ranges, Source, Split, TimeRange, Window
from kronos_trainer.data.bars import Bars, time_stamps
from kronos_trainer.data.windows import Windows, epoch_order, split_bars, split_spans, validation_order
from kronos_trainer.errors import DataError

DAY = 86_400_000_000_000
SOURCE = Source(path="unused")


def store(spans: list[tuple[int, int]], seed: int = 0, scale: float = 1.0) -> Bars:
    """One symbol per (first day, number of days)."""
    rng = np.random.default_rng(seed)
    times = np.concatenate([np.arange(first, first + count) * DAY for first, count in spans]).astype(np.int64)
    values = (rng.lognormal(0, 1, (len(times), 6)) * scale).astype(np.float32)
    offsets = np.cumsum([0, *(count for _, count in spans)])
    symbols = tuple(f"S{index}" for index in range(len(spans)))
    return Bars(symbols, offsets, values, times, time_stamps(times), "digest", ())


def firsts(windows: Windows) -> list[int]:
    return list(windows.rows(torch.arange(len(windows))))


@settings(deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 80)), min_size=1, max_size=6),
    train=st.floats(0.3, 0.7),
    validation=st.floats(0.1, 0.29),
    lookback=st.integers(2, 5),
    horizon=st.integers(1, 4),
)
def test_every_window_lies_in_one_symbol_and_one_split_and_none_is_missing(
    spans: list[tuple[int, int]], train: float, validation: float, lookback: int, horizon: int
) -> None:
    bars = store([*spans, (0, 121)])  # one symbol that is long enough for every split
    data = Data(
        source=SOURCE, split=Split(fractions=Fractions(train=train, validation=validation, test=1 - train - validation))
    )
    splits = split_bars(bars, data, Window(lookback=lookback, horizon=horizon))

    days = np.unique(bars.times)
    assert splits.spans["train"][0] == days[0]
    assert splits.spans["train"][1] == splits.spans["validation"][0] == days[int(len(days) * train + 1e-6)]
    last = int(len(days) * (train + validation) + 1e-6)
    assert splits.spans["validation"][1] == splits.spans["test"][0] == days[last]
    assert splits.spans["test"][1] == days[-1] + 1
    length = lookback + horizon + 1
    for name, windows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        start, end = splits.spans[name]
        expected = []
        for first, after in zip(bars.offsets, bars.offsets[1:], strict=False):
            for row in range(first, after):
                if name == "test":
                    inside = (
                        bars.times[row + lookback : row + lookback + horizon]
                        if row + lookback + horizon <= after
                        else []
                    )
                    complete = len(inside) == horizon
                else:
                    inside = bars.times[row : row + length] if row + length <= after else []
                    complete = len(inside) == length
                if complete and inside[0] >= start and inside[-1] < end:
                    expected.append(row)
        assert firsts(windows) == expected


def test_ranges_are_local_days_with_an_exclusive_end_and_symbols_left_out_are_named() -> None:
    bars = store([(0, 40), (25, 15), (0, 4)])
    ranges = Ranges(
        train=TimeRange(start="1970-01-01", end="1970-01-21"),
        validation=TimeRange(start="1970-01-21", end="1970-02-05"),
    )
    splits = split_bars(bars, Data(source=SOURCE, split=Split(ranges=ranges)), Window(lookback=3, horizon=2))
    assert firsts(splits.train) == list(range(15))  # days 0..19 in windows of 6
    assert firsts(splits.validation) == [*range(20, 30), *range(40, 45)]  # days 20..34 and 25..34
    assert len(splits.test) == 0
    assert splits.notes == (
        "skipped in train, with fewer than 6 bars in it: S1, S2 (2 of 3 symbols)",
        "skipped in validation, with fewer than 6 bars in it: S2 (1 of 3 symbols)",
    )


def test_a_split_without_any_window_is_refused_with_the_way_out() -> None:
    window = Window(lookback=10, horizon=4)
    with pytest.raises(DataError) as error:
        split_bars(store([(0, 100), (0, 50)]), Data(source=SOURCE), window)
    assert str(error.value) == (
        "no symbol has a window in the validation split: it needs 15 bars (lookback 10 + horizon 4 + 1) between "
        "1970-03-22 and 1970-04-01, but no symbol has more than 10 there and 100 in total; add bars or "
        "change data.split or shorten window"
    )
    splits = split_bars(store([(0, 150), (0, 3)]), Data(source=SOURCE), window)
    assert len(splits.validation) == 1
    assert splits.notes[-1] == "skipped in test, with fewer than 14 bars in it: S1 (1 of 2 symbols)"
    assert split_bars(store([(0, 150)]), Data(source=SOURCE), window).notes == ()


@pytest.mark.parametrize(
    ("count", "split", "most", "advice"),
    [
        (1, "train", 0, "add bars"),
        (7, "train", 5, "add bars"),
        (8, "train", 6, "add bars or shorten window"),  # of which the shortest window there is fits in two halves
        (29, "validation", 3, "add bars or shorten window"),
        (30, "validation", 3, "add bars or change data.split or shorten window"),
    ],
)
def test_too_few_bars_are_refused_without_advice_that_cannot_help(
    count: int, split: str, most: int, advice: str
) -> None:
    with pytest.raises(DataError) as error:
        split_bars(store([(0, count)]), Data(source=SOURCE), Window(lookback=10, horizon=4))
    assert f"in the {split} split" in str(error.value)
    assert str(error.value).endswith(f"no symbol has more than {most} there and {count} in total; {advice}")


def test_cuts_by_shares_and_by_ranges_are_exact() -> None:
    window = Window(lookback=2, horizon=1)

    def spans(bars: Bars, **split: object) -> dict[str, tuple[int, int]]:
        return split_bars(bars, Data.model_validate({"source": {"path": "unused"}, "split": split}), window).spans

    bars = store([(0, 40)])
    # 0.7 + 0.2 is a little less than 0.9 in binary, and must not move the cut.
    assert spans(bars, fractions={"train": 0.7, "validation": 0.2, "test": 0.1})["test"] == (36 * DAY, 39 * DAY + 1)
    # Without a test split no bar is left over, whatever the shares sum to.
    assert spans(bars, fractions={"train": 0.5, "validation": 0.4999995, "test": 0})["validation"][1] == 39 * DAY + 1
    assert spans(
        bars,
        ranges={
            "train": {"start": "1970-01-01 12:00", "end": "1970-01-20 00:00:30"},
            "validation": {"start": "1970-01-21", "end": "1970-01-31"},
        },
    ) == {"train": (DAY // 2, 19 * DAY + 30 * 10**9), "validation": (20 * DAY, 30 * DAY), "test": (0, 0)}
    # Nanoseconds of today do not fit a float.
    bars.times[:] += 1_600_000_000_000_000_001
    assert split_spans(bars, Data(source=SOURCE))["train"] == (bars.times[0], bars.times[32])


def test_stamps_that_are_counted_in_blocks_give_the_same_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = store([(0, 150), (20, 150)])
    whole = split_spans(bars, Data(source=SOURCE))
    monkeypatch.setattr("kronos_trainer.data.windows.BLOCK", 7)
    assert split_spans(bars, Data(source=SOURCE)) == whole


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e15])
def test_values_are_normalised_as_upstream_does_to_the_bit(scale: float) -> None:
    bars = store([(0, 300), (0, 200)], scale=scale)
    lookback, clip = 90, 1.5
    data = Data(source=SOURCE, clip=clip, split=Split(fractions=Fractions(train=0.5, validation=0.5 - 1e-9, test=0)))
    windows = split_bars(bars, data, Window(lookback=lookback, horizon=10)).train
    order = torch.tensor([len(windows) - 1, 0, 7, 7])
    found, times = windows.values(order), windows.stamps(order)
    assert found.shape == (4, 101, 6)
    assert (found.dtype, times.dtype) == (torch.float32, torch.int64)
    for row, values, stamps in zip(windows.rows(order), found, times, strict=True):
        # upstream reduces a column-major slice of a DataFrame, in float32
        x = np.asfortranarray(bars.values[row : row + 101])
        past = x[:lookback]
        expected = np.clip((x - past.mean(axis=0)) / (past.std(axis=0) + 1e-5), -clip, clip)
        np.testing.assert_array_equal(values.numpy(), expected)
        exact = bars.values[row : row + lookback].astype(np.float64)
        exact = (bars.values[row : row + 101].astype(np.float64) - exact.mean(axis=0)) / (exact.std(axis=0) + 1e-5)
        np.testing.assert_allclose(values.numpy(), np.clip(exact, -clip, clip), atol=2e-5)
        np.testing.assert_array_equal(stamps.numpy(), bars.stamps[row : row + 101])
    assert found.abs().max() == np.float32(clip)


@pytest.mark.parametrize("scale", [1e-3, 1e-5, 1e-8, 1e-12])
def test_tiny_prices_give_the_windows_of_their_scaled_twins(scale: float) -> None:
    rng = np.random.default_rng(0)
    ordinary, small = store([(0, 300), (0, 200)]), store([(0, 300), (0, 200)])
    ordinary.values[:, :4] = 2 * np.exp(rng.normal(0, 0.01, (500, 4)))  # 1% of deviation, as from day to day
    small.values[:] = ordinary.values
    small.values[:300, :4] = ordinary.values[:300, :4].astype(np.float64) * scale  # one symbol of the two
    window = Window(lookback=20, horizon=5)
    order = torch.arange(0, 60)
    data = Data(source=SOURCE, clip=100.0, split=Split(fractions=Fractions(train=0.5, validation=0.5 - 1e-9, test=0)))
    expected = split_bars(ordinary, data, window).train.values(order)
    found = split_bars(small, data, window).train.values(order)
    torch.testing.assert_close(found[:, :, :4], expected[:, :, :4], atol=1e-4, rtol=0)
    assert torch.equal(found[:, :, 4:], expected[:, :, 4:])


def test_values_are_cut_on_both_sides() -> None:
    bars = store([(0, 300)])
    bars.values[23, 3], bars.values[24, 3] = 1e6, -1e6
    windows = split_bars(bars, Data(source=SOURCE, clip=3.0), Window(lookback=20, horizon=5)).train
    closes = windows.values(torch.tensor([0]))[0, :, 3]
    assert (closes[23].item(), closes[24].item()) == (3.0, -3.0)


def test_a_symbol_that_begins_in_the_test_split_takes_no_lookback_from_the_symbol_before() -> None:
    bars = store([(0, 100), (92, 8)])
    window = Window(lookback=4, horizon=2)
    test = split_bars(bars, Data(source=SOURCE), window).test
    # the last tenth of 100 days: lookbacks of the first symbol begin 4 days before, those of the second with itself
    assert firsts(test) == [*range(86, 95), *range(100, 103)]


def test_a_test_split_in_which_no_window_fits_is_noted_and_not_refused() -> None:
    ranges = Ranges(
        train=TimeRange(start="1970-01-01", end="1970-01-21"),
        validation=TimeRange(start="1970-01-21", end="1970-02-05"),
        test=TimeRange(start="1970-02-05", end="1970-02-06"),
    )
    splits = split_bars(
        store([(0, 40)]), Data(source=SOURCE, split=Split(ranges=ranges)), Window(lookback=3, horizon=2)
    )
    assert len(splits.test) == 0
    assert splits.notes == ("skipped in test, with fewer than 5 bars in it: S0 (1 of 1 symbols)",)


def test_later_bars_never_reach_the_statistics_and_a_constant_column_is_zero() -> None:
    bars = store([(0, 400)])
    bars.values[:, 4] = 7.0
    window = Window(lookback=20, horizon=5)
    before = split_bars(bars, Data(source=SOURCE, clip=100.0), window).train.values(torch.tensor([3]))
    bars.values[23:29] *= 3
    after = split_bars(bars, Data(source=SOURCE, clip=100.0), window).train.values(torch.tensor([3]))
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])
    assert (before[:, :, 4] == 0).all()


def test_a_window_number_outside_the_split_is_an_error() -> None:
    windows = split_bars(store([(0, 100), (0, 90)]), Data(source=SOURCE), Window(lookback=4, horizon=2)).train
    for index in (-1, len(windows)):
        with pytest.raises(IndexError, match=rf"^window {min(index, 0)}\.\.{max(index, 0)} of {len(windows)}$"):
            windows.values(torch.tensor([0, index]))


def test_one_window_may_take_all_bars() -> None:
    windows = Windows(store([(0, 5)]), np.array([0]), np.array([1]), length=5, lookback=3, clip=5.0)
    only = torch.tensor([0])
    assert (windows.length, windows.values(only).shape, windows.stamps(only).shape) == (5, (1, 5, 6), (1, 5, 5))


def test_the_repeated_hour_does_not_break_a_split() -> None:
    bars = store([(0, 40)])
    bars.times[20:] -= 2 * DAY  # as if the clock went back by two bars
    half = Split(fractions=Fractions(train=0.5, validation=0.5 - 1e-9, test=0))
    splits = split_bars(bars, Data(source=SOURCE, split=half), Window(lookback=2, horizon=1))
    train, validation = firsts(splits.train), firsts(splits.validation)
    # days 0..19, then 18..37: day 19, the cut, is first reached in row 19
    assert train == list(range(16))
    assert validation == list(range(19, 37))


def test_an_epoch_takes_every_window_once_and_no_two_epochs_are_alike() -> None:
    def order(
        epoch: int, *, stage: str = "tokenizer", seed: int = 1, limit: int | None = None, count: int = 500
    ) -> list[int]:
        return epoch_order(count, seed=seed, stage=stage, epoch=epoch, limit=limit).tolist()

    assert sorted(order(1)) == list(range(500))
    assert order(1) == order(1, limit=500) == order(1, limit=9999)
    different = [
        order(epoch, stage=stage, seed=seed)
        for epoch in range(4)
        for stage in ("tokenizer", "predictor")
        for seed in (1, 2)
    ]
    assert len({tuple(item) for item in different}) == 16
    capped = [order(epoch, limit=40, count=100_000) for epoch in range(50)]
    assert all(len(set(item)) == 40 for item in capped)
    assert len({tuple(item) for item in capped}) == 50
    # drawn from the whole split, not from a corner of it
    flat = np.array(capped).ravel()
    assert abs(flat.mean() - 50_000) < 3_000
    assert epoch_order(500, seed=1, stage="tokenizer", epoch=1, limit=None).dtype == torch.int64


def test_the_order_of_an_epoch_and_of_a_validation_never_changes() -> None:
    """A failure here means that the same config trains other numbers: raise NUMERICS_VERSION."""
    assert epoch_order(12, seed=100, stage="tokenizer", epoch=0, limit=None).tolist() == [
        6,
        7,
        1,
        5,
        9,
        11,
        8,
        0,
        3,
        4,
        2,
        10,
    ]
    assert epoch_order(1000, seed=100, stage="predictor", epoch=3, limit=5).tolist() == [863, 167, 162, 492, 786]
    assert validation_order(1000, seed=100, limit=5).tolist() == [151, 241, 319, 861, 878]


def test_every_validation_scores_the_same_windows_in_ascending_order_all_of_them_without_a_limit() -> None:
    assert (
        validation_order(5, seed=1, limit=None).tolist() == validation_order(5, seed=1, limit=9).tolist() == [*range(5)]
    )
    some = validation_order(1000, seed=1, limit=40).tolist()
    assert some == sorted(set(some)) and len(some) == 40
    assert some != validation_order(1000, seed=2, limit=40).tolist()
