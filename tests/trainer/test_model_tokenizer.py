"""The tokenizer against upstream's, on random weights."""

from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from kronos_finance._vendor import kronos_model as upstream

from kronos_trainer.model.quantizer import BinarySphericalQuantizer
from kronos_trainer.model.sizes import TOKENIZERS
from kronos_trainer.model.tokenizer import KronosTokenizer

CASES = [("tiny", 0), ("tiny", 1), ("tiny", 2), ("base", 3), ("2k", 4)]


def pair(size: str, seed: int) -> tuple[KronosTokenizer, upstream.KronosTokenizer, torch.Tensor]:
    """Ours and upstream's with the same weights, none of them at a trivial initial value, and bars [3, 37, 6]."""
    torch.manual_seed(seed)
    ours = KronosTokenizer(TOKENIZERS[size])
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    theirs = upstream.KronosTokenizer(**asdict(ours.config))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs, torch.randn(3, 37, 6).clamp(-5, 5)


def loss_of(coarse: torch.Tensor, fine: torch.Tensor, quantizer_loss: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (F.mse_loss(coarse, x) + F.mse_loss(fine, x) + quantizer_loss) / 2


@pytest.mark.parametrize(("size", "seed"), CASES)
def test_numbers_equal_upstream(size: str, seed: int) -> None:
    ours, theirs, x = pair(size, seed)
    with torch.no_grad():
        (coarse, fine), loss, _, full_ids = theirs(x)
        found = ours(x)
        s1, s2 = ours.encode(x)

        torch.testing.assert_close(found.coarse, coarse, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.fine, fine, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.quantizer_loss, loss, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours.reconstruct(x), fine, rtol=0, atol=1e-5)
        assert [ids.tolist() for ids in theirs.encode(x, half=True)] == [s1.tolist(), s2.tolist()]
        assert torch.equal(full_ids, s1 + s2 * 1024)
        assert s1.unique().numel() > 10 and s2.unique().numel() > 10
        torch.testing.assert_close(ours.decode(s1, s2), theirs.decode((s1, s2), half=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "seed"), CASES[:4])
def test_one_step_has_upstreams_loss_and_gradients(size: str, seed: int) -> None:
    ours, theirs, x = pair(size, seed)
    ours.gradient_checkpointing = seed == 2  # recomputing activations must not change a gradient
    (coarse, fine), quantizer_loss, _, _ = theirs(x)
    theirs_loss = loss_of(coarse, fine, quantizer_loss, x)
    ours_loss = loss_of(*ours(x), x)
    theirs_loss.backward()
    ours_loss.backward()

    torch.testing.assert_close(ours_loss, theirs_loss, rtol=0, atol=1e-6)
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, wanted[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_bar_depends_on_no_later_bar() -> None:
    ours, _, x = pair("tiny", 5)
    whole, prefix = ours.encode(x), ours.encode(x[:, :20])
    assert all(torch.equal(a[:, :20], b) for a, b in zip(whole, prefix, strict=True))


def test_zero_belongs_to_the_negative_side() -> None:
    quantizer = BinarySphericalQuantizer(2, 2, beta=0.05, gamma0=1.0, gamma=1.1, zeta=0.05, group_size=4)
    s1, s2 = quantizer.ids(quantizer.codes(torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])))
    assert (s1.item(), s2.item()) == (2, 0)
    assert quantizer.ids(quantizer.codes(torch.zeros(1, 1, 4))) == (torch.tensor([[0]]), torch.tensor([[0]]))


def test_unequal_bits_survive_the_round_trip() -> None:
    # Upstream expands both ids with half the bits each, and so decodes these wrongly.
    torch.manual_seed(0)
    ours = KronosTokenizer(replace(TOKENIZERS["tiny"], s1_bits=12, s2_bits=8))
    x = torch.randn(2, 50, 6)
    s1, s2 = ours.encode(x)
    assert s1.max() >= 2**10 and s2.max() < 2**8
    torch.testing.assert_close(ours.decode(s1, s2), ours.reconstruct(x), rtol=0, atol=1e-5)


def test_only_the_mean_probability_is_reduced_and_two_halves_then_equal_the_whole() -> None:
    quantizer = pair("tiny", 6)[0].tokenizer
    u = torch.randn(4, 9, 20, requires_grad=True)
    whole = quantizer(u).loss
    halves = u.chunk(2)
    means: list[torch.Tensor] = []

    def record(mean: torch.Tensor) -> torch.Tensor:
        means.append(mean)
        return mean

    for half in halves:
        quantizer(half, record)
    assert [mean.shape for mean in means] == [(20,), (20,)]
    mean = torch.stack(means).mean(0)
    reduced = sum(quantizer(half, lambda _: mean).loss for half in halves) / 2
    unreduced = sum(quantizer(half).loss for half in halves) / 2

    torch.testing.assert_close(reduced, whole, rtol=0, atol=1e-6)
    assert abs(unreduced - whole) > 1e-4
    # The gradients agree too, so averaging them over ranks gives those of the whole batch.
    torch.testing.assert_close(*(torch.autograd.grad(loss, u, retain_graph=True)[0] for loss in (reduced, whole)))


def test_reduced_precision_outside_changes_no_id_and_is_restored() -> None:
    ours, _, x = pair("base", 7)
    wanted = ours.encode(x)
    seen: list[str] = []
    ours.quant_embed.register_forward_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = ours.encode(x)
            losses = ours(x)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])
    assert seen[0] == "highest"
    # Quantizer and head stay in float32, so that the losses do.
    assert {part.dtype for part in losses} == {torch.float32}


def test_compiles_without_a_graph_break() -> None:
    ours, _, x = pair("tiny", 8)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss_of(*compiled(x), x).backward()
    assert torch.equal(compiled(x).fine, ours(x).fine)
