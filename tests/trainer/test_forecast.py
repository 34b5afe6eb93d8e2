"""The forecaster against upstream's `KronosPredictor`, and what upstream has no counterpart for."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kronos_finance._vendor.kronos_model import Kronos
from kronos_finance._vendor.kronos_model import KronosPredictor as Upstream
from kronos_finance._vendor.kronos_model import KronosTokenizer as UpstreamTokenizer
from kronos_finance._vendor.kronos_model.kronos import auto_regressive_inference

from kronos_trainer.data.bars import time_stamps
from kronos_trainer.data.reading.columns import FEATURES
from kronos_trainer.data.reading.readers import read_frame
from kronos_trainer.errors import ConfigError, DataError
from kronos_trainer.forecast import drawing
from kronos_trainer.forecast.draws import draw
from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.generation import generate
from kronos_trainer.forecast.kind import Kind
from kronos_trainer.forecast.outcome import columns_of
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import load_net, save_weights, scratch_net

GREEDY = Sampling(top_k=1)
PRICES = ["open", "high", "low", "close"]
HORIZON = 12
FIELDS = [(0, 60), (0, 24), (0, 7), (1, 32), (1, 13)]  # minute, hour, weekday, day, month


@pytest.fixture(scope="module", params=[("tiny", "tiny", 3), ("2k", "mini", 7)], ids=["tiny", "mini"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    tokenizer_size, predictor_size, seed = request.param
    root = tmp_path_factory.mktemp("weights")
    save_weights(scratch_net(TOKENIZER, tokenizer_size, seed), root / "tokenizer")
    save_weights(scratch_net(PREDICTOR, predictor_size, seed), root / "predictor")
    return root / "tokenizer", root / "predictor"


def forecaster(weights: tuple[Path, Path], max_context: int = 512) -> Forecaster:
    return Forecaster(load_net(TOKENIZER, weights[0]), load_net(PREDICTOR, weights[1]), max_context=max_context)


def tiny() -> Forecaster:
    return Forecaster(scratch_net(TOKENIZER, "tiny", 3), scratch_net(PREDICTOR, "tiny", 3), max_context=64)


def bars(rows: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    """A random walk of hourly bars of the size of a stock, and the times that follow it."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, rows)))
    open_ = np.concatenate([[100.0], close[:-1]])
    spread = 1 + np.abs(random.normal(0, 0.005, (2, rows)))
    volume = random.gamma(2, 1e6, rows)
    volume[rows // 2] *= 50  # far enough out to be clipped
    times = pd.date_range("2024-02-27 05:00", periods=rows + HORIZON, freq="h")
    frame = pd.DataFrame(
        {
            "timestamps": times[:rows],
            "open": open_,
            "high": np.maximum(open_, close) * spread[0],
            "low": np.minimum(open_, close) / spread[1],
            "close": close,
            "volume": volume,
            "amount": volume * close * random.uniform(0.9, 1.1, rows),
        }
    )
    return frame, times[rows:]


def upstream(
    weights: tuple[Path, Path], series: Sequence[tuple[pd.DataFrame, pd.DatetimeIndex]], max_context: int
) -> list[pd.DataFrame]:
    predictor = Upstream(
        Kronos.from_pretrained(str(weights[1])).eval(),
        UpstreamTokenizer.from_pretrained(str(weights[0])).eval(),
        device="cpu",
        max_context=max_context,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*weekday is deprecated")
        return predictor.predict_batch(
            [frame.drop(columns="timestamps") for frame, _ in series],
            [frame["timestamps"] for frame, _ in series],
            [pd.Series(future) for _, future in series],
            pred_len=len(series[0][1]),
            top_k=1,
            top_p=1.0,
            verbose=False,
        )


def assert_equal(actual: pd.DataFrame, expected: pd.DataFrame, history: pd.DataFrame) -> None:
    """Equal but for float32's rounding, which a number near 0 has in units of its column's deviation."""
    got, want = actual[list(FEATURES)].to_numpy(), expected[list(FEATURES)].to_numpy()
    assert np.isfinite(want).all()
    deviations = history.reindex(columns=FEATURES, fill_value=0).std().to_numpy()
    np.testing.assert_array_less(np.abs(got - want), np.maximum(1e-4 * np.maximum(1, np.abs(want)), 1e-6 * deviations))


@pytest.mark.parametrize(
    ("rows", "max_context"),
    [(40, 64), (52, 64), (53, 64), (58, 64), (64, 64), (90, 64), (20, 13)],
    ids=["inside", "just fits", "fits but for the last", "slides midway", "full", "longer", "short context"],
)
def test_greedy_forecast_is_upstreams(weights: tuple[Path, Path], rows: int, max_context: int) -> None:
    series = [bars(rows, seed) for seed in range(3)]
    expected = upstream(weights, series, max_context)
    model = forecaster(weights, max_context)
    twice = Sampling(top_k=1, samples=2)
    together = model.forecast_many([frame for frame, _ in series], [future for _, future in series], twice)
    for (frame, future), batched, want in zip(series, together, expected, strict=True):
        assert_equal(batched, want, frame)
        assert_equal(model.forecast(frame, future, GREEDY, lookback=rows), want, frame)
        assert list(batched) == ["timestamps", *FEATURES]
        assert batched["timestamps"].tolist() == future.tolist()


@pytest.mark.parametrize("dropped", [["amount"], ["volume", "amount"]], ids=" ".join)
def test_missing_columns_are_filled_as_upstream_does(
    weights: tuple[Path, Path], tmp_path: Path, dropped: list[str]
) -> None:
    frame, future = bars(40)
    frame = frame.drop(columns=dropped)
    frame.to_csv(tmp_path / "bars.csv", index=False)
    history, _ = read_frame(tmp_path / "bars.csv")
    (expected,) = upstream(weights, [(frame, future)], 64)
    assert_equal(forecaster(weights, 64).forecast(history, future, GREEDY), expected, history)
    assert_equal(forecaster(weights, 64).forecast(frame, future, GREEDY), expected, frame)


def test_an_amount_without_a_volume_is_kept(tmp_path: Path) -> None:
    frame, _ = bars(40)
    frame.drop(columns="volume").to_csv(tmp_path / "bars.csv", index=False)
    history, _ = read_frame(tmp_path / "bars.csv")
    assert (history["volume"] == 0).all()
    np.testing.assert_allclose(history["amount"], frame["amount"])


@pytest.mark.parametrize(("rows", "max_context"), [(40, 64), (58, 64), (70, 64)], ids=["inside", "slides", "longer"])
def test_sampled_paths_are_upstreams_for_the_same_random_numbers(
    weights: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, rows: int, max_context: int
) -> None:
    series, samples = 2, 3
    random = torch.Generator().manual_seed(4)
    values = torch.randn(series, rows, 6, generator=random).cumsum(1).clip(-5, 5) / 2
    stamps = torch.stack(
        [torch.randint(low, high, (series, rows + HORIZON), generator=random) for low, high in FIELDS], 2
    )
    uniforms = torch.rand(series, samples, HORIZON, 2, generator=random)
    sampling = Sampling(temperature=1.3, top_p=0.8, samples=samples)
    paths = generate(
        load_net(TOKENIZER, weights[0]),
        load_net(PREDICTOR, weights[1]),
        values,
        stamps,
        uniforms,
        sampling,
        max_context=max_context,
    )

    in_order = iter(uniforms.flatten(0, 1).flatten(1).unbind(1))
    monkeypatch.setattr(torch, "multinomial", lambda p, num_samples: draw(p, next(in_order))[:, None])
    expected = auto_regressive_inference(
        UpstreamTokenizer.from_pretrained(str(weights[0])),
        Kronos.from_pretrained(str(weights[1])),
        values,
        stamps[:, :rows],
        stamps[:, rows:],
        max_context,
        HORIZON,
        T=1.3,
        top_k=0,
        top_p=0.8,
        sample_count=samples,
    )
    assert paths.std(dim=1).min() > 1e-3
    np.testing.assert_allclose(paths.mean(dim=1), expected[:, -HORIZON:], atol=1e-4)


def test_the_seed_decides_and_the_company_does_not() -> None:
    series = [bars(40, seed) for seed in range(4)]
    model, sampling = tiny(), Sampling(temperature=1.2, samples=2, seed=5)
    together = model.forecast_many([frame for frame, _ in series], [future for _, future in series], sampling)
    alone = [model.forecast(frame, future, sampling) for frame, future in series]
    for batched, single in zip(together, alone, strict=True):
        np.testing.assert_allclose(batched[list(FEATURES)], single[list(FEATURES)], rtol=1e-3)
    other = model.forecast(*series[0], Sampling(temperature=1.2, samples=2, seed=6))
    assert not np.allclose(alone[0]["close"], other["close"], rtol=1e-3)


def test_two_series_draw_different_numbers() -> None:
    frame, future = bars(40)
    model = tiny()
    moved = frame.assign(close=frame["close"] + 1e-4)
    first, second = model.forecast_many([frame, moved], [future, future], Sampling(top_p=1.0))
    assert not np.allclose(first["close"], second["close"], rtol=1e-3)


def test_dropout_is_off_and_random_state_untouched() -> None:
    frame, future = bars(40)
    model = Forecaster(
        scratch_net(TOKENIZER, "tiny", 3).train(), scratch_net(PREDICTOR, "tiny", 3).train(), max_context=64
    )
    before = torch.get_rng_state()
    pd.testing.assert_frame_equal(model.forecast(frame, future), model.forecast(frame, future))
    assert torch.equal(before, torch.get_rng_state())


def test_constant_columns_stay_finite() -> None:
    frame, future = bars(40)
    forecast = tiny().forecast(frame.assign(volume=0.0, amount=0.0, open=5.0), future)
    assert np.isfinite(forecast[list(FEATURES)].to_numpy()).all()
    assert forecast["open"].sub(5).abs().max() < 1e-3


def test_a_horizon_beyond_the_context_is_refused() -> None:
    frame, future = bars(40)
    model = Forecaster(scratch_net(TOKENIZER, "tiny", 3), scratch_net(PREDICTOR, "tiny", 3), max_context=HORIZON - 1)
    with pytest.raises(ConfigError, match=r"horizon 12 exceeds the model's context of 11 bars"):
        model.forecast(frame, future)


def test_series_of_several_lengths_get_what_they_would_get_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    series = [bars(rows, seed) for seed, rows in enumerate((40, 33, 40, 21, 33))]
    futures = [future[: 12 - index] for index, (_, future) in enumerate(series)]
    sampling = Sampling(samples=3, seed=5)
    together = tiny().forecast_many([frame for frame, _ in series], futures, sampling)
    monkeypatch.setattr(drawing, "MOST_TOGETHER", 2)  # neither two series nor three paths at a time
    apart = tiny().forecast_many([frame for frame, _ in series], futures, sampling)
    for (frame, _), future, one, other in zip(series, futures, together, apart, strict=True):
        (alone,) = tiny().forecast_many([frame], [future], sampling)
        np.testing.assert_allclose(one[list(FEATURES)], alone[list(FEATURES)], rtol=1e-3)
        np.testing.assert_allclose(other[list(FEATURES)], alone[list(FEATURES)], rtol=1e-3)
        assert one["timestamps"].tolist() == future.tolist()


def test_unusable_series_are_refused() -> None:
    long, future = bars(40)
    with pytest.raises(ConfigError, match="one future for each"):
        tiny().forecast_many([long, long], [future])
    with pytest.raises(ConfigError, match="one of the futures is empty"):
        tiny().forecast_many([long, long], [future, future[:0]])
    with pytest.raises(DataError, match="low, close"):
        tiny().forecast_many([long.drop(columns=["low", "close"])], [future])
    broken = long.copy()
    broken.loc[7, "high"] = np.inf
    with pytest.raises(DataError, match="row 7, column high"):
        tiny().forecast_many([broken], [future])


@pytest.mark.parametrize("samples", [1, 5])
def test_sampled_bars_are_consistent_unless_raw_ones_are_wanted(samples: int) -> None:
    series = [bars(40, seed) for seed in range(6)]
    crash = series[0][0].copy()  # so volatile that the model draws prices below 0
    crash[PRICES] = crash[PRICES].mul(np.geomspace(1, 1e-3, 40), axis=0)
    series.append((crash, series[0][1]))
    histories, futures = zip(*series, strict=True)
    sampling = Sampling(samples=samples, temperature=2.0)
    raw = tiny().drawer.draw(histories, futures, sampling, raw=True)
    mended = tiny().drawer.draw(histories, futures, sampling)
    for history, before, after in zip(histories, raw, mended, strict=True):
        repairs = after.repairs
        assert before.repairs is None and repairs is not None
        open_, high, low, close, volume, amount = np.moveaxis(before.paths, -1, 0)
        highest, lowest = np.maximum.reduce([open_, high, low, close]), np.minimum.reduce([open_, high, low, close])
        if history is crash:
            assert repairs.price == ((before.paths[..., :4] <= 0).any(axis=-1)).sum() > 0
        else:
            assert (repairs.high, repairs.low) == ((high < highest).sum(), (low > lowest).sum())
            assert (repairs.volume, repairs.amount) == ((volume < 0).sum(), (amount < 0).sum())
            np.testing.assert_array_equal(after.paths[..., [0, 3]], before.paths[..., [0, 3]])
        for one in (after.paths, after.average):
            assert (one[..., 1] >= one[..., [0, 2, 3]].max(axis=-1)).all()
            assert (one[..., 2] <= one[..., [0, 1, 3]].min(axis=-1)).all()
            assert (one[..., 4:] >= 0).all() and (one[..., :4] > 0).all()
        np.testing.assert_allclose(after.average, after.paths.mean(axis=0))
    assert sum(one.repairs.high + one.repairs.low for one in mended if one.repairs) > 10


def test_prices_below_0_stay_possible_where_the_history_has_some() -> None:
    frame, future = bars(40)
    frame[PRICES] -= 100  # a spread
    (raw,), (mended,) = (tiny().drawer.draw([frame], [future], Sampling(samples=4), raw=raw) for raw in (True, False))
    assert (raw.paths[..., 0] < 0).any()
    np.testing.assert_array_equal(mended.paths[..., [0, 3]], raw.paths[..., [0, 3]])


def test_quantiles_are_consistent_and_in_order() -> None:
    frame, future = bars(40)
    kind = Kind(sampling=Sampling(samples=9, temperature=1.5), quantiles=(0.1, 0.5, 0.9))
    (drawn,) = tiny().drawer.draw([frame], [future], kind.sampling)
    rows, bar = columns_of(drawn, kind)
    assert list(rows) == [f"{field}_{name}" for field in FEATURES for name in ("q10", "q50", "q90")]
    assert bar.tolist() == list(range(HORIZON))
    np.testing.assert_allclose(rows["close_q50"], np.median(drawn.paths[..., 3], axis=0))
    for name in ("q10", "q50", "q90"):
        prices = rows[[f"{field}_{name}" for field in PRICES]]
        assert (rows[f"high_{name}"] >= prices.max(axis=1)).all() and (rows[f"low_{name}"] <= prices.min(axis=1)).all()
    closes = rows[["close_q10", "close_q50", "close_q90"]].to_numpy()
    assert (np.diff(closes, axis=1) >= 0).all() and (np.diff(closes, axis=1) > 0).any()


def as_upstream_normalises(
    model: Forecaster, frame: pd.DataFrame, future: pd.DatetimeIndex, sampling: Sampling
) -> np.ndarray:
    """The forecast without any scaling of prices."""
    values = frame[list(FEATURES)].to_numpy(np.float32)
    mean, deviation = values.mean(axis=0), values.std(axis=0) + np.float32(1e-5)
    drawer = model.drawer
    normalised = ((values - mean) / deviation).clip(-drawer.clip, drawer.clip)
    times = pd.concat([frame["timestamps"], future.to_series()])
    key = hashlib.sha256(f"{sampling.seed} ".encode() + values.tobytes()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big", signed=True))
    paths = generate(
        drawer.tokenizer,
        drawer.predictor,
        torch.from_numpy(normalised[None]),
        torch.from_numpy(time_stamps(pd.DatetimeIndex(times).as_unit("ns").asi8)[None]).to(torch.int64),
        torch.rand((1, sampling.samples, len(future), 2), generator=generator),
        sampling,
        max_context=drawer.max_context,
    )
    return np.asarray(paths.numpy().mean(axis=1) * deviation + mean)[0]


@pytest.mark.parametrize("price", [0.02, 1.0, 100.0, 60_000.0])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(samples=2, seed=5)], ids=["greedy", "drawn"])
def test_ordinary_prices_are_forecast_as_before_to_the_bit(price: float, sampling: Sampling) -> None:
    frame, future = bars(40)
    frame[PRICES] *= price / 100
    expected = as_upstream_normalises(tiny(), frame, future, sampling)
    found = tiny().forecast(frame, future, sampling, raw=True)
    np.testing.assert_array_equal(found[list(FEATURES)].to_numpy(), expected)


@pytest.mark.parametrize("scale", [1e-4, 1e-5, 1e-8, 1e-12])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(samples=3, seed=5)], ids=["greedy", "drawn"])
def test_tiny_prices_get_the_forecast_of_their_scaled_twins(scale: float, sampling: Sampling) -> None:
    twins, future = bars(40)
    twins[PRICES] /= 50  # about 2
    small = twins.copy()
    small[PRICES] *= scale
    (expected, found) = tiny().forecast_many([twins, small], [future, future], sampling)
    np.testing.assert_allclose(found[PRICES] / scale, expected[PRICES], rtol=1e-5)
    np.testing.assert_array_equal(found[["volume", "amount"]], expected[["volume", "amount"]])
    assert (found[PRICES] > 0).all(axis=None)
