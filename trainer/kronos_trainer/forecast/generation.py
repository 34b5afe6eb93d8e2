"""Draws the tokens of the bars to come and decodes them. Called by the forecaster; knows neither frames nor units."""

from __future__ import annotations

import torch
from torch import Tensor

from kronos_trainer.forecast.draws import draw, probabilities
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.model.cache import KeyValueCache
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer


@torch.inference_mode()
def generate(
    tokenizer: KronosTokenizer,
    predictor: KronosPredictor,
    values: Tensor,
    stamps: Tensor,
    uniforms: Tensor,
    sampling: Sampling,
    *,
    max_context: int,
) -> Tensor:
    """Sampled paths [B, S, H, 6], normalised, that continue `values` [B, T, 6].

    `stamps` int64 [B, T+H, 5] are those of the history and of the bars to come, `uniforms` [B, S, H, 2] the random
    numbers for the coarse and fine token of each step. Both nets must be in eval mode and H at most `max_context`.

    The scheme is upstream's `auto_regressive_inference`: the whole history is tokenised, the predictor uses the last
    `max_context` tokens, and positions restart at 0 in every window. Keys and values are therefore cached only until
    the window is full; once it slides, each step recomputes it. Samples share what came before the horizon.
    """
    batch, history = values.shape[:2]
    samples, horizon = uniforms.shape[1:3]
    uniforms = uniforms.flatten(0, 1)
    coarse_history, fine_history = tokenizer.encode(values)
    coarse = coarse_history.new_empty(batch * samples, history + horizon)
    fine = torch.empty_like(coarse)
    coarse[:, :history] = coarse_history.repeat_interleave(samples, dim=0)
    fine[:, :history] = fine_history.repeat_interleave(samples, dim=0)

    start = max(0, history - max_context)
    cache = predictor.new_cache(batch, history - start)
    hidden = predictor.extend(coarse_history[:, start:], fine_history[:, start:], stamps[:, start:history], cache)
    last = hidden[:, -1].repeat_interleave(samples, dim=0)
    cache = cache.branch(samples, max(0, min(history + horizon - 1, max_context) - history))
    memory: KeyValueCache | Tensor = cache
    stamps = stamps.repeat_interleave(samples, dim=0)

    for end in range(history, history + horizon):
        if history < end <= max_context:
            new = slice(end - 1, end)
            last = predictor.extend(coarse[:, new], fine[:, new], stamps[:, new], cache)[:, -1]
        elif end > max(history, max_context):
            window = slice(end - max_context, end)
            memory = hidden = predictor.context(coarse[:, window], fine[:, window], stamps[:, window])
            last = hidden[:, -1]
        step = uniforms[:, end - history]
        coarse[:, end] = draw(probabilities(predictor.coarse_logits(last), sampling), step[:, 0])
        fine_logits = predictor.fine_logits(last, coarse[:, end], memory)
        fine[:, end] = draw(probabilities(fine_logits, sampling), step[:, 1])

    # The decoder is causal: the bars before the horizon are its context too, the same for all samples.
    before = slice(max(0, history + horizon - max_context), history)
    memories = tokenizer.new_memories(batch, before.stop - before.start)
    if before.start < before.stop:
        tokenizer.decode(coarse_history[:, before], fine_history[:, before], memories)
    branches = [memory.branch(samples, horizon) for memory in memories]
    decoded = tokenizer.decode(coarse[:, history:], fine[:, history:], branches)
    return decoded.view(batch, samples, horizon, -1)
