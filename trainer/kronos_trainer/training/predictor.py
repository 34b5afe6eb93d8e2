"""The stage that trains the predictor, on the ids of the run's own tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronos_trainer.config import StageName
from kronos_trainer.data.windows import Windows
from kronos_trainer.device_memory import lack_of_memory_as
from kronos_trainer.errors import ConfigError
from kronos_trainer.model.directory import weights_digest
from kronos_trainer.model.kinds import TOKENIZER
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import load_net
from kronos_trainer.training.precision import Precision
from kronos_trainer.training.resident import ResidentTokens, fits
from kronos_trainer.training.task import Work
from kronos_trainer.training.tokens import (
    Encode,
    EncodedTokens,
    TokenCache,
    TokenSource,
    cache_key,
    chunk_of,
    worth_caching,
)
from kronos_trainer.training.transfers import to_device

if TYPE_CHECKING:
    from kronos_trainer.training.selection import Forecasts

TOKEN_CACHE_LIMIT = 4 * 2**30  # bytes of a split's ids on a node's disk; beyond it they are computed when needed


@contextmanager
def predictor_task(work: Work, model: KronosPredictor) -> Iterator[PredictorTask]:
    """The task around the stage's first weights. Raises ConfigError for a tokenizer of another vocabulary."""
    run, device = work.run, work.ranks.device
    rows = None
    if run.training.select_by == "crps":
        # Imported where it is used: its statistics take a second that other trainings should not wait for.
        from kronos_trainer.training.selection import forecasts_of, origins

        rows = origins(work.bars, work.splits.spans["validation"], run)
    with _tokens(work, model) as (tokenizer, train, validation):
        model = model.to(device)
        forecasts = (
            None if rows is None else forecasts_of(work.bars, rows, run, tokenizer, model, device, work.progress.beat)
        )
        yield PredictorTask(
            model,
            train,
            validation,
            work.precision,
            upstream_exact=run.training.upstream_exact,
            forecasts=forecasts,
        )


class PredictorTask:
    """Predict the ids of the next bar. Scored by the mean of both cross entropies, in nats."""

    upstream_beta2 = None

    def __init__(
        self,
        model: KronosPredictor,
        train: TokenSource,
        validation: TokenSource,
        precision: Precision,
        *,
        upstream_exact: bool,
        forecasts: Forecasts | None = None,
    ) -> None:
        self.model = model
        self.forecasts = forecasts
        self._train = train
        self._validation = validation
        self._precision = precision
        self._upstream_exact = upstream_exact

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ids s1 and s2, int64 [B, T], and time stamps, int64 [B, T, 5]."""
        return self._train.gather(indices, self._precision.device)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Mean of both cross entropies over all positions; fine ids are predicted given sampled coarse ids."""
        s1, s2, stamps = batch
        with self._precision.autocast():
            coarse, fine = model(s1[:, :-1], s2[:, :-1], stamps[:, :-1])
        return _cross_entropies(coarse, fine, s1[:, 1:], s2[:, 1:]).mean()

    def score(self, indices: Tensor) -> Tensor:
        """As the loss, but fine ids are predicted given the true coarse ids, so that no chance enters.

        With upstreamExact as upstream scores: sampled coarse ids, and a dependency layer that sees later bars.
        """
        s1, s2, stamps = self._validation.gather(indices, self._precision.device)
        targets = s1[:, 1:]
        with self._precision.autocast():
            coarse, fine = self.model(
                s1[:, :-1],
                s2[:, :-1],
                stamps[:, :-1],
                sibling=None if self._upstream_exact else targets,
                causal=not self._upstream_exact,
            )
        return _cross_entropies(coarse, fine, targets, s2[:, 1:]).mean(1).double().sum()


@contextmanager
def _tokens(work: Work, predictor: KronosPredictor) -> Iterator[tuple[KronosTokenizer, TokenSource, TokenSource]]:
    """The run's tokenizer, and ids of the training and the validation windows, from a file where that saves work."""
    run, ranks = work.run, work.ranks
    frozen, digest = ranks.on_first(lambda: _tokenizer(work.weights(StageName.TOKENIZER)))
    _check_vocabularies(frozen, predictor)
    frozen.to(ranks.device)

    def encode(values: Tensor) -> tuple[Tensor, Tensor]:
        return frozen.encode(to_device(values, ranks.device))

    epochs = run.weights_stage.epochs
    counts = len(work.splits.train), len(work.splits.validation)
    seen = min(counts[0], run.training.windows_per_epoch or counts[0])
    scored = min(counts[1], run.training.validation_windows or counts[1])
    caches: list[TokenCache] = []

    def source(split: str, windows: Windows, passes: float) -> TokenSource:
        if not worth_caching(windows, passes=passes, limit=TOKEN_CACHE_LIMIT):
            return EncodedTokens(windows, encode)
        # Its own even where another model's would be equal: it is removed when this one is done.
        owner = f"{run.model.namespace}/{run.model.name}/{run.run}"
        key = cache_key(
            owner=owner,
            tokenizer=digest,
            bars=work.bars.digest,
            split=split,
            data=run.data,
            window=run.window,
        )
        cache = TokenCache(work.cache / "tokens", key, windows)
        _fill(work, cache, encode)
        caches.append(cache)
        return ResidentTokens(cache, ranks.device) if fits(cache, ranks.device) else cache

    work.progress.phase("tokenising")
    yield (
        frozen,
        source("train", work.splits.train, epochs * seen / counts[0]),
        source("validation", work.splits.validation, (epochs + 1) * scored / counts[1]),
    )
    # Reached only when the stage is complete: what an interrupted attempt has encoded serves the next one.
    for cache in caches if ranks.local_rank == 0 else []:
        cache.remove()


def _fill(work: Work, cache: TokenCache, encode: Encode) -> None:
    ranks = work.ranks

    def fill() -> None:
        # Here and not further out: an error of ours reaches all ranks, and the micro-batch is not to blame.
        with lack_of_memory_as(lambda: _too_small_to_tokenise(cache.windows.length)):
            cache.fill(encode, rank=ranks.local_rank, world=ranks.local_world, beat=work.beat)

    ranks.together(fill)
    ranks.together(cache.finish if ranks.local_rank == 0 else lambda: None)


def _too_small_to_tokenise(length: int) -> ConfigError:
    return ConfigError(
        f"out of GPU memory while {chunk_of(length)} windows of {length} bars were tokenised together, whatever the "
        "micro-batch; free the GPU of other processes, use one with more memory, or a smaller tokenizer"
    )


def _tokenizer(directory: Path) -> tuple[KronosTokenizer, str]:
    return load_net(TOKENIZER, directory), weights_digest(directory)


def _check_vocabularies(tokenizer: KronosTokenizer, predictor: KronosPredictor) -> None:
    bits = [(net.config.s1_bits, net.config.s2_bits) for net in (tokenizer, predictor)]
    if bits[0] != bits[1]:
        raise ConfigError(
            f"the tokenizer's ids have {bits[0][0]} + {bits[0][1]} bits, but the predictor expects {bits[1][0]} + "
            f"{bits[1][1]}; set a matching pair in tokenizer.init and predictor.init"
        )


def _cross_entropies(coarse: Tensor, fine: Tensor, s1: Tensor, s2: Tensor) -> Tensor:
    """Mean of the coarse and the fine cross entropy at each position [B, T], in float32."""
    losses = (
        F.cross_entropy(logits.float().flatten(0, 1), ids.flatten(), reduction="none")
        for logits, ids in ((coarse, s1), (fine, s2))
    )
    return torch.stack(tuple(losses)).mean(0).view(s1.shape)
