"""Drawing one token: filters against upstream's, their combination, and the draw itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kronos_finance._vendor.kronos_model.kronos import top_k_top_p_filtering

from kronos_trainer.errors import ConfigError
from kronos_trainer.forecast.draws import draw, probabilities
from kronos_trainer.forecast.sampling import Sampling

seeds = st.integers(0, 2**31 - 1)


def logits(seed: int, rows: int = 4, vocabulary: int = 64) -> torch.Tensor:
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(seeds, st.floats(0.1, 3), st.integers(1, 80))
def test_top_k_alone_is_upstreams(seed: int, temperature: float, top_k: int) -> None:
    expected = top_k_top_p_filtering(logits(seed) / temperature, top_k=top_k, top_p=1.0).softmax(-1)
    actual = probabilities(logits(seed), Sampling(temperature=temperature, top_k=top_k, top_p=1.0))
    torch.testing.assert_close(actual, expected)


@settings(deadline=None)
@given(seeds, st.floats(0.1, 3), st.floats(0.01, 0.99))
def test_top_p_alone_is_upstreams(seed: int, temperature: float, top_p: float) -> None:
    expected = top_k_top_p_filtering(logits(seed) / temperature, top_k=0, top_p=top_p).softmax(-1)
    actual = probabilities(logits(seed), Sampling(temperature=temperature, top_p=top_p))
    torch.testing.assert_close(actual, expected)


def test_nucleus_is_taken_of_what_top_k_left() -> None:
    # 0.4 + 0.3 of all is below 0.75; of the three best it is 0.7 / 0.9, above it
    weights = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    kept = probabilities(weights.log(), Sampling(top_k=3, top_p=0.75))
    torch.testing.assert_close(kept, torch.tensor([[0, 4 / 7, 0, 3 / 7]]))
    only_nucleus = probabilities(weights.log(), Sampling(top_p=0.75))
    torch.testing.assert_close(only_nucleus, torch.tensor([[0, 4 / 9, 2 / 9, 3 / 9]]))


def test_without_filters_the_model_speaks() -> None:
    torch.testing.assert_close(probabilities(logits(0), Sampling(top_p=1.0)), logits(0).softmax(-1))


def test_ties_at_the_kth_logit_are_kept() -> None:
    kept = probabilities(torch.tensor([[1.0, 2.0, 2.0, 0.0]]), Sampling(top_k=1))
    torch.testing.assert_close(kept, torch.tensor([[0, 0.5, 0.5, 0]]))


def test_draw_follows_the_probabilities_and_never_takes_an_impossible_token() -> None:
    weights = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    uniforms = torch.cat(
        [torch.rand(20_000, generator=torch.Generator().manual_seed(1)), torch.tensor([0.0, 1 - 2**-24])]
    )
    counts = np.bincount(draw(weights.expand(len(uniforms), -1), uniforms), minlength=6)
    assert counts[[0, 2, 5]].tolist() == [0, 0, 0]
    np.testing.assert_allclose(counts / len(uniforms), weights, atol=0.02)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("samples", 0),
    ],
)
def test_impossible_settings_are_refused_by_name(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option.replace("_", "-")):
        Sampling(**{option: value})
