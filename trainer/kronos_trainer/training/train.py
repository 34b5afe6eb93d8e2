"""One stage of a run, from run.json to result.json. Every rank calls `train_stage`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from kronos_trainer.config import BarsRead, RunConfig, StageName, StageResult, WindowCounts
from kronos_trainer.data.bars import Bars, PreparedBars, prepare_bars
from kronos_trainer.data.fetch import fetch_bars
from kronos_trainer.data.quality.findings import notes_of
from kronos_trainer.data.series import ahead
from kronos_trainer.data.windows import Splits, Windows, split_bars, validation_order
from kronos_trainer.errors import ConfigError, OutOfMemory, Stopped
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import initial_predictor, initial_tokenizer, load_tokenizer, weights_digest
from kronos_trainer.storage import durable
from kronos_trainer.storage.publish import ensure_tokenizer, finish_stage, is_complete, settle, utc_text
from kronos_trainer.storage.run_storage import Storage
from kronos_trainer.storage.stores import is_uri
from kronos_trainer.storage.warm_start import published_weights
from kronos_trainer.training.batching import BatchPlan, plan_batches, reduced, steps_per_epoch, too_large
from kronos_trainer.training.comet import NullReporter, open_reporter
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.heartbeat import heartbeat
from kronos_trainer.training.loop import Loop
from kronos_trainer.training.metrics import Metrics
from kronos_trainer.training.precision import Precision, choose_precision
from kronos_trainer.training.progress import Progress
from kronos_trainer.training.stages import PredictorTask, Stage, TokenizerTask, to_device
from kronos_trainer.training.tokens import Encode, EncodedTokens, TokenCache, TokenSource, cache_key, worth_caching

TOKEN_CACHE_LIMIT = 4 * 2**30  # bytes of a split's ids on a node's disk; beyond it they are computed when needed
VALIDATION_SHARE = 3  # windows scored in the time in which one is trained: forward without backward


def train_stage(
    run: RunConfig,
    ranks: Ranks,
    *,
    progress: Progress,
    stop_requested: Callable[[], bool],
    on_training: Callable[[], None] = lambda: None,
) -> None:
    """Trains the stage, or finds it complete and writes nothing. Raises TrainerError.

    `on_training` is called when this rank begins with what a kill would lose.
    """
    cache = Path(tempfile.gettempdir()) / f"kronos-{os.getuid()}"
    progress.phase("loading")
    storage = Storage(run, ranks, cache, progress.beat)
    paths = storage.paths
    done = ranks.on_first(lambda: paths.stage(run.stage).completed() if is_complete(run, paths) else None)
    if done is None:
        with storage.held():
            done = ranks.on_first(lambda: settle(run, paths))
            if done is None:
                done = _Attempt(run, ranks, storage, cache, progress, stop_requested, on_training).complete()
            ranks.on_first(storage.push)
    progress.result(done)


@dataclass(frozen=True)
class _Data:
    bars: Bars
    splits: Splits
    notes: tuple[str, ...]


class _Attempt:
    """What one attempt at a stage builds on its way."""

    def __init__(
        self,
        run: RunConfig,
        ranks: Ranks,
        storage: Storage,
        cache: Path,
        progress: Progress,
        stop_requested: Callable[[], bool],
        on_training: Callable[[], None],
    ) -> None:
        self._run = run
        self._ranks = ranks
        self._storage = storage
        self._cache = cache
        self._progress = progress
        self._stop_requested = stop_requested
        self._on_training = on_training

    def complete(self) -> StageResult:
        """Trains from the last checkpoint, or the start, to the end, and returns the result that was written."""
        run, ranks = self._run, self._ranks
        started = datetime.now(UTC)
        plan = plan_batches(
            batch_size=run.stage_config.batch_size,
            micro_batch_size=run.stage_config.micro_batch_size,
            world=ranks.world,
            out_of_memory_restarts=run.out_of_memory_restarts,
        )
        precision = choose_precision(run.training, ranks.device)
        data = self._load()
        train, validation = data.splits.train, data.splits.validation
        steps = steps_per_epoch(windows=len(train), windows_per_epoch=run.training.windows_per_epoch, batch=plan.batch)
        scored = validation_order(len(validation), seed=run.training.seed, limit=run.training.validation_windows)
        if ranks.device.type == "cpu" and len(scored) > VALIDATION_SHARE * steps * plan.batch:
            self._progress.note(
                f"a validation scores {len(scored):,} windows and an epoch trains {steps * plan.batch:,}: validating "
                "takes most of the time; training.validationWindows limits it"
            )
        files = self._storage.paths.stage(run.stage)
        ranks.on_first(lambda: durable.write_text(files.config, run.dump()))
        reporter = open_reporter(run, self._progress.note) if ranks.rank == 0 else NullReporter()
        metrics = Metrics(files.metrics if ranks.rank == 0 else None, reporter)
        with (
            _memory(plan, checkpointing=run.training.gradient_checkpointing),
            self._stage(data, precision) as (stage, origin),
        ):
            loop = Loop(
                run,
                stage,
                ranks=ranks,
                plan=plan,
                train_windows=len(train),
                validation_windows=scored,
                steps_per_epoch=steps,
                save=self._storage.save,
                metrics=metrics,
                progress=self._progress,
                stop_requested=self._stop_requested,
            )
            restored = self._storage.restore()
            if restored is not None:
                if restored.skipped is not None:
                    skipped = restored.skipped
                    self._progress.skipped_checkpoint(
                        step=skipped.step,
                        directory=skipped.directory,
                        reason=skipped.reason,
                        message=f"the checkpoint {skipped}; going on from step {restored.meta.step} instead",
                    )
                loop.restore(restored)
            lines = restored.meta.metrics["lines"] if restored else 0
            ranks.on_first(lambda: metrics.open(lines))
            self._on_training()
            try:
                state = loop.train()
            finally:
                metrics.close()
            trained = StageResult(
                started_at=utc_text(started),
                finished_at=utc_text(datetime.now(UTC)),
                seconds=round(state.seconds, 3),
                epochs=state.epoch,
                steps=state.step,
                parameters=sum(parameter.numel() for parameter in stage.model.parameters()),
                world_size=ranks.world,
                initial_validation_loss=state.initial_loss,
                best_validation_loss=state.best_loss,
                best_step=state.best_step,
                best_epoch=None if state.best_step is None else state.best_step // steps,
                final_train_loss=state.train_loss,
                windows=WindowCounts(train=len(train), validation=len(scored)),
                data=BarsRead(
                    digest=data.bars.digest,
                    symbols=len(data.bars.symbols),
                    bars=len(data.bars.values),
                    notes=data.notes,
                ),
                origin=origin,
                precision=precision.name,
                device=ranks.device_name,
                samples_per_second=loop.samples_per_second,
            )
            return ranks.on_first(lambda: finish_stage(run, self._storage.paths, trained, stage.model))

    def _load(self) -> _Data:
        """Bars and windows."""
        run = self._run
        bars = read_bars_once(run, self._ranks, self._cache / "bars", self._beat)
        splits = split_bars(bars, run.data, run.window)
        notes = (*bars.notes, *notes_of(ahead(bars.series, time.time_ns())), *splits.notes)
        for note in notes:
            self._progress.note(note)
        return _Data(bars, splits, notes)

    @contextmanager
    def _stage(self, data: _Data, precision: Precision) -> Iterator[tuple[Stage, str]]:
        """The stage's objective around its first weights, and where those came from."""
        run, ranks = self._run, self._ranks

        def published() -> tuple[Path, str]:
            return published_weights(run, self._storage.paths, run.stage)

        if run.stage is StageName.TOKENIZER:
            with heartbeat(self._progress.beat):
                tokenizer = ranks.one_by_one_per_node(
                    lambda: initial_tokenizer(run.tokenizer.init, run.training.seed, published)
                )
            model = tokenizer.model.to(ranks.device)
            yield TokenizerTask(model, data.splits, precision, ranks.mean), tokenizer.origin
            return
        with heartbeat(self._progress.beat):
            predictor = ranks.one_by_one_per_node(
                lambda: initial_predictor(run.predictor.init, run.training.seed, published)
            )
        with self._tokens(data, predictor.model) as (train, validation):
            yield (
                PredictorTask(
                    predictor.model.to(ranks.device),
                    train,
                    validation,
                    precision,
                    upstream_exact=run.training.upstream_exact,
                ),
                predictor.origin,
            )

    @contextmanager
    def _tokens(self, data: _Data, predictor: KronosPredictor) -> Iterator[tuple[TokenSource, TokenSource]]:
        """Ids of the training and the validation windows, from a file where that saves work."""
        run, ranks = self._run, self._ranks
        frozen, digest = ranks.on_first(lambda: _tokenizer(ensure_tokenizer(run, self._storage.paths)))
        _check_vocabularies(frozen, predictor)
        frozen.to(ranks.device)

        def encode(values: Tensor) -> tuple[Tensor, Tensor]:
            return frozen.encode(to_device(values, ranks.device))

        epochs = run.predictor.epochs
        counts = len(data.splits.train), len(data.splits.validation)
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
                bars=data.bars.digest,
                split=split,
                data=run.data,
                window=run.window,
            )
            cache = TokenCache(self._cache / "tokens", key, windows)
            self._fill(cache, encode)
            caches.append(cache)
            return cache

        self._progress.phase("tokenising")
        yield (
            source("train", data.splits.train, epochs * seen / counts[0]),
            source("validation", data.splits.validation, (epochs + 1) * scored / counts[1]),
        )
        # Reached only when the stage is complete: what an interrupted attempt has encoded serves the next one.
        for cache in caches if ranks.local_rank == 0 else []:
            cache.remove()

    def _fill(self, cache: TokenCache, encode: Encode) -> None:
        ranks = self._ranks
        ranks.together(lambda: cache.fill(encode, rank=ranks.local_rank, world=ranks.local_world, beat=self._beat))
        ranks.together(cache.finish if ranks.local_rank == 0 else lambda: None)

    def _beat(self) -> None:
        """Shows life during long work before the loop. Raises Stopped when asked to stop: there is nothing to save."""
        self._progress.beat()
        if self._stop_requested():
            raise Stopped("stopped on request before training began; nothing was to be saved")


def read_bars_once(run: RunConfig, ranks: Ranks, cache: Path, beat: Callable[[], None]) -> Bars:
    """The bars of a run, memory-mapped; the first rank of a node reads and prepares what the others map.

    Raises TrainerError, on every rank.
    """

    def prepare() -> PreparedBars:
        path = fetch_bars(run.bars, cache, beat) if is_uri(run.bars) else Path(run.bars)
        return prepare_bars(path, run.timeframe, run.data, cache, beat)

    return ranks.once_per_node(prepare).open()


def _check_vocabularies(tokenizer: KronosTokenizer, predictor: KronosPredictor) -> None:
    bits = [(net.config.s1_bits, net.config.s2_bits) for net in (tokenizer, predictor)]
    if bits[0] != bits[1]:
        raise ConfigError(
            f"the tokenizer writes ids of {bits[0][0]} + {bits[0][1]} bits, and the predictor reads {bits[1][0]} + "
            f"{bits[1][1]}; name two that belong together in tokenizer.init and predictor.init"
        )


def _tokenizer(directory: Path) -> tuple[KronosTokenizer, str]:
    return load_tokenizer(directory), weights_digest(directory)


@contextmanager
def _memory(plan: BatchPlan, *, checkpointing: bool) -> Iterator[None]:
    """Turns the device's lack of memory into an error that says what the next attempt does about it."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if plan.micro == 1:
            raise ConfigError(too_large(checkpointing=checkpointing)) from error
        raise OutOfMemory(
            f"out of GPU memory with {plan.micro} windows per process and forward pass; a restart with one more in "
            f"outOfMemoryRestarts takes {reduced(plan.micro)}, and the batch of {plan.batch} stays as it is"
        ) from error
