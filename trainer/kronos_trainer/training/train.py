"""One stage of a run, from run.json to result.json. Every rank calls `train_stage`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from kronos_trainer.config import BarsRead, RunConfig, StageResult, WindowCounts, now_text, utc_text
from kronos_trainer.data.bars import Bars, PreparedBars, prepare_bars
from kronos_trainer.data.fetch import fetch_bars
from kronos_trainer.data.quality.findings import notes_of
from kronos_trainer.data.series import ahead
from kronos_trainer.data.windows import split_bars, validation_order
from kronos_trainer.device_memory import lack_of_memory_as, peak_gpu_bytes
from kronos_trainer.errors import ConfigError, OutOfMemory, Stopped, TrainerError
from kronos_trainer.model.weights import initial_net
from kronos_trainer.storage import durable
from kronos_trainer.storage.lineage import pretrained_until
from kronos_trainer.storage.publish import ensure_weights, finish_scores, finish_stage, is_complete, settle
from kronos_trainer.storage.run_storage import Storage
from kronos_trainer.storage.stores import is_uri
from kronos_trainer.storage.warm_start import published_weights
from kronos_trainer.training.batching import BatchPlan, plan_batches, reduced, steps_per_epoch, too_large
from kronos_trainer.training.comet import NullReporter, Reporter, open_reporter
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.heartbeat import heartbeat
from kronos_trainer.training.loop import Loop
from kronos_trainer.training.metrics import Metrics
from kronos_trainer.training.precision import choose_precision
from kronos_trainer.training.progress import Progress
from kronos_trainer.training.stages import STAGES, Scores, Trains
from kronos_trainer.training.task import Task, Work

VALIDATION_SHARE = 3  # windows scored in the time in which one is trained: forward without backward


def train_stage(
    run: RunConfig,
    ranks: Ranks,
    *,
    progress: Progress,
    stop_requested: Callable[[], bool],
    on_training: Callable[[], None] = lambda: None,
) -> None:
    """Does what the stage is for, or finds it complete and writes nothing. Raises TrainerError.

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
        """Does the stage to its end, and returns the result that was written."""
        row = STAGES[self._run.stage]
        return self._score(row) if isinstance(row, Scores) else self._train(row)

    def _score(self, row: Scores) -> StageResult:
        run, ranks = self._run, self._ranks
        started = datetime.now(UTC)
        work = self._work()
        self._keep_config()
        self._on_training()
        with lack_of_memory_as(_too_small_to_score):
            found = row.score(work)
        finished = datetime.now(UTC)
        scored = found.model_copy(
            update={
                "started_at": utc_text(started, "seconds"),
                "finished_at": utc_text(finished, "seconds"),
                "seconds": round((finished - started).total_seconds(), 3),
                "data": self._bars_read(work),
                "device": ranks.device_name,
                "peak_gpu_bytes": peak_gpu_bytes(ranks.device),
            }
        )
        ranks.on_first(self._storage.still_mine)
        written = ranks.on_first(lambda: finish_scores(run, self._storage.paths, scored))
        reporter = self._reporter()
        reporter.judged(written, self._storage.paths.report)
        reporter.close()
        return written

    def _reporter(self) -> Reporter:
        return open_reporter(self._run, self._progress.note) if self._ranks.rank == 0 else NullReporter()

    def _train(self, row: Trains) -> StageResult:
        """Trains from the last checkpoint, or the start, to the end."""
        run, ranks = self._run, self._ranks
        started = datetime.now(UTC)
        plan = plan_batches(
            batch_size=run.weights_stage.batch_size,
            micro_batch_size=run.weights_stage.micro_batch_size,
            device=ranks.device.type,
            world=ranks.world,
            out_of_memory_restarts=run.out_of_memory_restarts,
        )
        work = self._work()
        train, validation = work.splits.train, work.splits.validation
        steps = steps_per_epoch(windows=len(train), windows_per_epoch=run.training.windows_per_epoch, batch=plan.batch)
        scored = validation_order(len(validation), seed=run.training.seed, limit=run.training.validation_windows)
        if ranks.device.type == "cpu" and len(scored) > VALIDATION_SHARE * steps * plan.batch:
            self._progress.note(
                f"a validation scores {len(scored):,} windows and an epoch trains {steps * plan.batch:,}: validating "
                "takes most of the time; training.validationWindows limits it"
            )
        self._keep_config()
        reporter = self._reporter()
        files = self._storage.paths.stage(run.stage)
        metrics = Metrics(files.metrics if ranks.rank == 0 else None, reporter)
        with (
            lack_of_memory_as(lambda: _too_small(plan, checkpointing=run.training.gradient_checkpointing)),
            self._task(row, work) as (task, origin),
        ):
            loop = Loop(
                run,
                task,
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
                        message=f"the checkpoint {skipped}; resuming from step {restored.meta.step} instead",
                    )
                loop.restore(restored)
            lines = restored.meta.metrics["lines"] if restored else 0
            try:
                ranks.on_first(lambda: metrics.open(lines, attempt=run.attempt, step=loop.state.step))
                self._on_training()
                state = loop.train()
            finally:
                metrics.close()
            peaks = ranks.gather(peak_gpu_bytes(ranks.device))
            trained = StageResult(
                started_at=utc_text(started, "seconds"),
                finished_at=now_text("seconds"),
                seconds=round(state.seconds, 3),
                epochs=state.epoch,
                steps=state.step,
                parameters=sum(parameter.numel() for parameter in task.model.parameters()),
                world_size=ranks.world,
                initial_validation_loss=state.initial_loss,
                best_validation_loss=state.best_loss,
                selected_by="loss" if task.forecasts is None else "crps",
                initial_crps=state.initial_crps,
                best_crps=state.best_crps,
                best_step=state.best_step,
                best_epoch=None if state.best_step is None else state.best_step // steps,
                final_train_loss=state.train_loss,
                windows=WindowCounts(train=len(train), validation=len(scored)),
                data=self._bars_read(work),
                origin=origin,
                pretrained_until=pretrained_until(run, self._storage.paths, run.stage),
                precision=work.precision.name,
                device=ranks.device_name,
                samples_per_second=loop.samples_per_second,
                peak_gpu_bytes=max((peak for peak in peaks if peak is not None), default=None),
            )
            return ranks.on_first(lambda: finish_stage(run, self._storage.paths, trained, task.model))

    def _bars_read(self, work: Work) -> BarsRead:
        bars = work.bars
        return BarsRead(
            digest=bars.digest,
            symbols=len(bars.symbols),
            bars=len(bars.values),
            spans=work.splits.span_texts(),
            notes=work.notes,
        )

    def _keep_config(self) -> None:
        file = self._storage.paths.stage(self._run.stage).config
        self._ranks.on_first(lambda: durable.write_text(file, self._run.dump()))

    def _work(self) -> Work:
        """Bars and windows."""
        run, paths = self._run, self._storage.paths
        precision = choose_precision(run.training, self._ranks.device)

        bars = read_bars_once(run, self._ranks, self._cache / "bars", self._beat)
        splits = split_bars(bars, run.data, run.window)
        notes = (*bars.notes, *notes_of(ahead(bars.series, time.time_ns())), *splits.notes)
        for note in notes:
            self._progress.note(note)
        return Work(
            run=run,
            ranks=self._ranks,
            bars=bars,
            splits=splits,
            notes=notes,
            precision=precision,
            progress=self._progress,
            cache=self._cache,
            beat=self._beat,
            weights=lambda stage: ensure_weights(run, paths, stage),
            paths=paths,
            keep=self._storage.keep,
        )

    @contextmanager
    def _task(self, row: Trains, work: Work) -> Iterator[tuple[Task, str]]:
        """The stage's task around its first weights, and where those came from."""
        run, paths = self._run, self._storage.paths

        def published() -> tuple[Path, str]:
            return published_weights(run, paths, run.stage)

        with heartbeat(self._progress.beat):
            first = self._ranks.one_by_one_per_node(
                lambda: initial_net(row.kind, run.weights_stage.init, run.training.seed, published)
            )
        with row.task(work, first.model) as task:
            yield task, first.origin

    def _beat(self) -> None:
        """Shows life during long work before the loop. Raises Stopped when asked to stop: there is nothing to save."""
        self._progress.beat()
        if self._stop_requested():
            raise Stopped("stopped on request before training began; there was nothing to save")


def read_bars_once(run: RunConfig, ranks: Ranks, cache: Path, beat: Callable[[], None]) -> Bars:
    """The bars of a run, memory-mapped; the first rank of a node reads and prepares what the others map.

    Raises TrainerError, on every rank.
    """

    def prepare() -> PreparedBars:
        path = fetch_bars(run.bars, cache, beat) if is_uri(run.bars) else Path(run.bars)
        return prepare_bars(path, run.timeframe, run.data, cache, beat)

    return ranks.once_per_node(prepare).open()


def _too_small(plan: BatchPlan, *, checkpointing: bool) -> TrainerError:
    """The error for a GPU with too little memory for a training, which says what the next attempt does about it."""
    if plan.micro == 1:
        return ConfigError(too_large(checkpointing=checkpointing))
    return OutOfMemory(
        f"out of GPU memory with {plan.micro} windows per process and forward pass; a restart with one "
        f"more in outOfMemoryRestarts uses {reduced(plan.micro)}, and the batch of {plan.batch} is unchanged"
    )


def _too_small_to_score() -> TrainerError:
    return OutOfMemory(
        "out of GPU memory while the model was judged, which no restart helps: free the GPU of other processes, use "
        "one with more memory, or lower evaluation.samples"
    )
