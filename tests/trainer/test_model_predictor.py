"""The predictor against upstream's, on random weights."""

from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from kronos_finance._vendor import kronos_model as upstream

from kronos_trainer.model.predictor import KronosPredictor, PredictorConfig, TimeEmbedding, draw
from kronos_trainer.model.sizes import PREDICTORS

CASES = [("tiny", 0), ("tiny", 1), ("mini", 2), ("small", 3)]
LENGTH = 29


def without_dropout(config: PredictorConfig) -> PredictorConfig:
    return replace(config, ffn_dropout_p=0.0, attn_dropout_p=0.0, resid_dropout_p=0.0, token_dropout_p=0.0)


def perturbed(config: PredictorConfig, seed: int) -> KronosPredictor:
    """A predictor none of whose weights is at a trivial initial value, in eval mode."""
    torch.manual_seed(seed)
    model = KronosPredictor(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def pair(config: PredictorConfig, seed: int) -> tuple[KronosPredictor, upstream.Kronos]:
    ours = perturbed(config, seed)
    theirs = upstream.Kronos(**asdict(config)).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def tokens(batch: int = 2, length: int = LENGTH) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """s1 and s2 [B, T], stamps [B, T, 5]."""
    s1, s2 = torch.randint(0, 1024, (2, batch, length))
    stamps = torch.stack([torch.randint(0, rows, (batch, length)) for rows in (60, 24, 7, 32, 13)], dim=-1)
    return s1, s2, stamps


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("size", "seed"), CASES)
def test_forward_equals_upstream(size: str, seed: int, mode: str) -> None:
    ours, theirs = pair(without_dropout(PREDICTORS[size]), seed)
    s1, s2, stamps = tokens()
    targets = torch.randint(0, 1024, s1.shape)
    theirs.train(mode == "train")
    ours.train(mode == "train")
    with torch.no_grad():
        wanted = theirs(s1, s2, stamps, use_teacher_forcing=True, s1_targets=targets)
        found = ours(s1, s2, stamps, sibling=targets, causal=mode == "train")
        other = ours(s1, s2, stamps, sibling=targets, causal=mode != "train")
    close(found[0], wanted[0])
    close(found[1], wanted[1])
    assert (other[1] - wanted[1]).abs().max() > 0.01  # causal and not are far apart
    close(other[1][:, -1], wanted[1][:, -1])


@pytest.mark.parametrize("size", ["tiny", "mini"])
def test_generation_pieces_equal_upstream(size: str) -> None:
    ours, theirs = pair(PREDICTORS[size], 5)
    s1, s2, stamps = tokens()
    chosen = torch.randint(0, 1024, (2,))
    with torch.no_grad():
        wanted_coarse, wanted_h = theirs.decode_s1(s1, s2, stamps)
        wanted_fine = theirs.decode_s2(wanted_h, chosen[:, None])[:, -1]
        h = ours.context(s1, s2, stamps)
        close(h, wanted_h)
        close(ours.coarse_logits(h[:, -1]), wanted_coarse[:, -1])
        close(ours.fine_logits(h[:, -1], chosen, h), wanted_fine)


@pytest.mark.parametrize("chunks", [[29], [20, 1, 1, 7], [1, 28]])
def test_cache_equals_recomputing(chunks: list[int]) -> None:
    ours = perturbed(PREDICTORS["tiny"], 6)
    s1, s2, stamps = tokens()
    cache = ours.new_cache(2, LENGTH)
    parts, start = [], 0
    for size in chunks:
        span = slice(start, start + size)
        parts.append(ours.extend(s1[:, span], s2[:, span], stamps[:, span], cache))
        start += size
    assert cache.length == LENGTH
    chosen = torch.randint(0, 1024, (2,))
    with torch.no_grad():
        h = ours.context(s1, s2, stamps)
        close(torch.cat(parts, dim=1), h)
        close(ours.fine_logits(h[:, -1], chosen, cache), ours.fine_logits(h[:, -1], chosen, h))
    with pytest.raises(ValueError, match="position 30 does not fit in a cache of 29"):
        ours.extend(s1[:, :1], s2[:, :1], stamps[:, :1], cache)


def test_branched_cache_continues_each_series_on_its_own() -> None:
    ours = perturbed(PREDICTORS["tiny"], 7)
    s1, s2, stamps = tokens()
    prefix = ours.new_cache(2, LENGTH)
    ours.extend(s1[:, :-1], s2[:, :-1], stamps[:, :-1], prefix)
    copies = prefix.branch(3, 1)
    # Rows 0-2 continue series 0, rows 3-5 series 1, each with another last bar.
    last1, last2, last_stamp = tokens(batch=6, length=1)
    found = ours.extend(last1, last2, last_stamp, copies)
    assert (prefix.length, copies.length) == (LENGTH - 1, LENGTH)

    rows = [part[:, :-1].repeat_interleave(3, dim=0) for part in (s1, s2, stamps)]
    whole = [torch.cat(both, dim=1) for both in zip(rows, (last1, last2, last_stamp), strict=True)]
    with torch.no_grad():
        wanted = ours.context(*whole)
        chosen = torch.randint(0, 1024, (6,))
        close(found[:, 0], wanted[:, -1])
        close(ours.fine_logits(found[:, 0], chosen, copies), ours.fine_logits(wanted[:, -1], chosen, wanted))


@pytest.mark.parametrize(("size", "seed"), [("tiny", 8), ("mini", 9)])
def test_one_step_has_upstreams_loss_and_gradients(size: str, seed: int) -> None:
    ours, theirs = pair(without_dropout(PREDICTORS[size]), seed)
    s1, s2, stamps = tokens()
    targets1, targets2, _ = tokens()
    losses = []
    for logits in (
        theirs.train()(s1, s2, stamps, use_teacher_forcing=True, s1_targets=targets1),
        ours.train()(s1, s2, stamps, sibling=targets1),
    ):
        coarse, fine = (
            F.cross_entropy(a.flatten(0, 1), b.flatten()) for a, b in zip(logits, (targets1, targets2), strict=True)
        )
        losses.append((coarse + fine) / 2)
        losses[-1].backward()

    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=1e-6)
    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, wanted[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_recomputing_activations_keeps_gradients_and_dropout_masks() -> None:
    ours = perturbed(replace(PREDICTORS["tiny"], attn_dropout_p=0.1, token_dropout_p=0.1), 10).train()
    s1, s2, stamps = tokens()
    gradients = []
    calls: list[bool] = []
    ours.transformer[0].norm2.register_forward_hook(lambda *_: calls.append(ours.gradient_checkpointing))
    for ours.gradient_checkpointing in (False, True):
        ours.zero_grad()
        torch.manual_seed(0)
        coarse, fine = ours(s1, s2, stamps)
        (coarse.square().mean() + fine.square().mean()).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in ours.named_parameters()})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    assert calls == [False, True, True]


def test_sibling_is_drawn_from_the_coarse_distribution_without_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([2.0, -1.0, -torch.inf, 0.5, 1.0, -torch.inf])
    rows = 40_000
    found = torch.bincount(draw(logits.expand(rows, -1)), minlength=6) / rows
    wanted = logits.softmax(-1)
    assert (found - wanted).abs().max() < 4 * (0.25 / rows) ** 0.5  # four standard deviations of the worst case
    assert found[2] == found[5] == 0

    ours = perturbed(without_dropout(PREDICTORS["tiny"]), 11).train()
    s1, s2, stamps = tokens()
    torch.manual_seed(1)
    coarse, fine = ours(s1, s2, stamps)
    torch.manual_seed(1)
    close(fine, ours(s1, s2, stamps, sibling=draw(coarse))[1])
    fine.sum().backward()
    assert ours.head.proj_s1.weight.grad is None
    assert ours.embedding.emb_s1.weight.grad is not None


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_extreme_uniforms_draw_a_possible_id(uniform: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, uniform))
    logits = torch.randn(64, 1024)
    logits[:, :3] = -torch.inf
    assert set(draw(logits).tolist()) <= ({3} if uniform == 0 else set(range(1000, 1024)))


def test_frozen_time_embedding_has_upstreams_keys_and_stays() -> None:
    ours, theirs = pair(replace(without_dropout(PREDICTORS["tiny"]), learn_te=False), 12)
    s1, s2, stamps = tokens()
    close(ours.context(s1, s2, stamps), theirs.decode_s1(s1, s2, stamps)[1])
    ours(s1, s2, stamps)[1].sum().backward()
    assert ours.time_emb.hour_embed.emb.weight.grad is None


@pytest.mark.parametrize("compiled", [False, True])
def test_calendar_gradients_are_those_of_embeddings(compiled: bool) -> None:
    """In float32 whatever other products are in, and added up over several uses and several backward passes."""
    torch.manual_seed(14)
    ours = TimeEmbedding(PREDICTORS["tiny"])
    minute, hour, weekday, day, month = tables = list(ours.children())

    def plain(stamps: torch.Tensor) -> torch.Tensor:
        ids = stamps.unbind(-1)
        return hour(ids[1]) + weekday(ids[2]) + day(ids[3]) + month(ids[4]) + minute(ids[0])

    uses = [tokens(batch=16, length=136)[2] for _ in range(3)]
    weights = torch.randn(3, 16, 136, PREDICTORS["tiny"].d_model)
    outputs, gradients = [], []
    for embed in (torch.compile(ours, backend="aot_eager", fullgraph=True) if compiled else ours, plain):
        ours.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            first, second, third = (embed(stamps) for stamps in uses)
            (first * weights[0] + second * weights[1]).sum().backward()
            (third * weights[2]).sum().backward()
        outputs.append(first)
        gradients.append([table.weight.grad for table in tables])
    assert torch.equal(*outputs)
    for found, wanted in zip(*gradients, strict=True):
        assert found.dtype == torch.float32
        assert (found - wanted).norm() <= 1e-6 * wanted.norm()


def test_compiles_without_a_graph_break() -> None:
    ours = perturbed(PREDICTORS["tiny"], 13).train()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        coarse, fine = compiled(*tokens())
    (coarse.float().mean() + fine.float().mean()).backward()
    assert ours.dep_layer.cross_attn.q_proj.weight.grad is not None
