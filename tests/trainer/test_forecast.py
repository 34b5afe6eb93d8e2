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

from kronos_trainer.bars import time_stamps
from kronos_trainer.columns import FEATURES
from kronos_trainer.errors import ConfigError, DataError
from kronos_trainer.forecast.draws import draw
from kronos_trainer.forecast.forecaster import Forecaster
from kronos_trainer.forecast.generation import generate
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.weights import (
    load_predictor,
    load_tokenizer,
    save_weights,
    scratch_predictor,
    scratch_tokenizer,
)
from kronos_trainer.readers import read_frame

GREEDY = Sampling(top_k=1)
PRICES = ["open", "high", "low", "close"]
HORIZON = 12
FIELDS = [(0, 60), (0, 24), (0, 7), (1, 32), (1, 13)]  # minute, hour, weekday, day, month


@pytest.fixture(scope="module", params=[("tiny", "tiny", 3), ("2k", "mini", 7)], ids=["tiny", "mini"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    tokenizer_size, predictor_size, seed = request.param
    root = tmp_path_factory.mktemp("weights")
    save_weights(scratch_tokenizer(tokenizer_size, seed), root / "tokenizer")
    save_weights(scratch_predictor(predictor_size, seed), root / "predictor")
    return root / "tokenizer", root / "predictor"


def forecaster(weights: tuple[Path, Path], max_context: int = 512) -> Forecaster:
    return Forecaster(load_tokenizer(weights[0]), load_predictor(weights[1]), max_context=max_context)


def tiny() -> Forecaster:
    return Forecaster(scratch_tokenizer("tiny", 3), scratch_predictor("tiny", 3), max_context=64)


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


def assert_equal(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    got, want = actual[list(FEATURES)].to_numpy(), expected[list(FEATURES)].to_numpy()
    assert np.isfinite(want).all()
    np.testing.assert_array_less(np.abs(got - want), 1e-4 * np.maximum(1, np.abs(want)))


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
        assert_equal(batched, want)
        assert_equal(model.forecast(frame, future, GREEDY), want)
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
    assert_equal(forecaster(weights, 64).forecast(history, future, GREEDY), expected)


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
        load_tokenizer(weights[0]),
        load_predictor(weights[1]),
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
    model = Forecaster(scratch_tokenizer("tiny", 3).train(), scratch_predictor("tiny", 3).train(), max_context=64)
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
    model = Forecaster(scratch_tokenizer("tiny", 3), scratch_predictor("tiny", 3), max_context=HORIZON - 1)
    with pytest.raises(ConfigError, match=r"horizon 12 exceeds the model's context of 11 bars"):
        model.forecast(frame, future)


def test_unequal_lengths_and_unusable_bars_are_refused() -> None:
    (long, future), (short, _) = bars(40), bars(39)
    with pytest.raises(ConfigError, match=r"histories .* \[39, 40\]"):
        tiny().forecast_many([long, short], [future, future])
    with pytest.raises(ConfigError, match="one future for each"):
        tiny().forecast_many([long, long], [future])
    with pytest.raises(ConfigError, match="above 0"):
        tiny().forecast(long, future[:0])
    with pytest.raises(DataError, match="low, close"):
        tiny().forecast(long.drop(columns=["low", "close"]), future)
    broken = long.copy()
    broken.loc[7, "high"] = np.inf
    with pytest.raises(DataError, match="row 7, column high"):
        tiny().forecast(broken, future)


def as_upstream_normalises(
    model: Forecaster, frame: pd.DataFrame, future: pd.DatetimeIndex, sampling: Sampling
) -> np.ndarray:
    """The forecast without any scaling of prices."""
    values = frame[list(FEATURES)].to_numpy(np.float32)
    mean, deviation = values.mean(axis=0), values.std(axis=0) + np.float32(1e-5)
    normalised = ((values - mean) / deviation).clip(-model.clip, model.clip)
    times = pd.concat([frame["timestamps"], future.to_series()])
    key = hashlib.sha256(f"{sampling.seed} ".encode() + values.tobytes()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big", signed=True))
    paths = generate(
        model.tokenizer,
        model.predictor,
        torch.from_numpy(normalised[None]),
        torch.from_numpy(time_stamps(pd.DatetimeIndex(times).as_unit("ns").asi8)[None]).to(torch.int64),
        torch.rand((1, sampling.samples, len(future), 2), generator=generator),
        sampling,
        max_context=model.max_context,
    )
    return np.asarray(paths.numpy().mean(axis=1) * deviation + mean)[0]


@pytest.mark.parametrize("price", [0.02, 1.0, 100.0, 60_000.0])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(samples=2, seed=5)], ids=["greedy", "drawn"])
def test_ordinary_prices_are_forecast_as_before_to_the_bit(price: float, sampling: Sampling) -> None:
    frame, future = bars(40)
    frame[PRICES] *= price / 100
    expected = as_upstream_normalises(tiny(), frame, future, sampling)
    np.testing.assert_array_equal(tiny().forecast(frame, future, sampling)[list(FEATURES)].to_numpy(), expected)


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
