"""The one training loop, for every net: steps, validations, checkpoints, and an end that all ranks agree on.

Everything that decides what is computed next is a function of the step, so a stage that was interrupted at any
moment goes on as if it had not been, bit for bit.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from kronos_trainer.config import RunConfig
from kronos_trainer.data.windows import epoch_order
from kronos_trainer.device_memory import peak_gpu_bytes
from kronos_trainer.errors import Diverged, Stopped
from kronos_trainer.storage.checkpoint import Meta, Restored
from kronos_trainer.training.batching import (
    BatchPlan,
    compiles,
    shared,
    validation_part,
    validation_rounds,
    validation_size,
)
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.graph import GraphStep, can_capture
from kronos_trainer.training.heartbeat import heartbeat
from kronos_trainer.training.metrics import Metrics
from kronos_trainer.training.optimizer import Optimizer
from kronos_trainer.training.progress import Phase, Progress
from kronos_trainer.training.saving import Save, Saving
from kronos_trainer.training.seeding import seed_of
from kronos_trainer.training.state import Speed, State
from kronos_trainer.training.step import EagerStep, Step
from kronos_trainer.training.task import Task

LOG_EVERY = 10  # optimizer steps between two looks at the device's numbers


class Loop:
    """Trains one stage to its end. Every rank runs it alike."""

    def __init__(
        self,
        run: RunConfig,
        task: Task,
        *,
        ranks: Ranks,
        plan: BatchPlan,
        train_windows: int,
        validation_windows: Tensor,
        steps_per_epoch: int,
        save: Save,
        metrics: Metrics,
        progress: Progress,
        stop_requested: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`validation_windows` are the numbers of those that are scored, int64 [V]."""
        self.state = State()
        self._run = run
        self._config = run.weights_stage
        self._task = task
        self._ranks = ranks
        self._plan = plan
        self._train_windows = train_windows
        self._validation_windows = validation_windows
        self._steps_per_epoch = steps_per_epoch
        self._metrics = metrics
        self._progress = progress
        self._stop_requested = stop_requested
        self._clock = clock
        self._optimizer = Optimizer(
            task.model,
            self._config,
            steps=self._config.epochs * steps_per_epoch,
            upstream_exact=run.training.upstream_exact,
            upstream_beta2=task.upstream_beta2,
        )
        task.model.gradient_checkpointing = run.training.gradient_checkpointing
        self._to_compile = compiles(run.training, device=ranks.device.type, steps=self._config.epochs * steps_per_epoch)
        # Validation uses the bare model: it shares its weights with these two.
        compiled = cast(nn.Module, torch.compile(task.model)) if self._to_compile else task.model
        eager = EagerStep(run, task, ranks.wrap(compiled), optimizer=self._optimizer, ranks=ranks, plan=plan)
        self._step: Step = GraphStep(eager) if can_capture(run.training, plan, ranks.device) else eager
        self._sums = eager.sums  # since the last log line
        self._saving = Saving(save, task.model, self._optimizer)
        self._saved = self.state.position
        self._save_asked = self._entered = clock()
        self._speed = Speed()

    def restore(self, restored: Restored) -> None:
        """Goes on from a checkpoint. To be called before `train`."""
        meta = restored.meta
        self._task.model.load_state_dict(restored.weights)
        self._optimizer.load_state_dict(restored.optimizer)
        self.state = State.of(meta)
        if self._ranks.rank == 0:  # the saved sums are those of all ranks together
            shares = self._ranks.world / meta.world_size
            self._sums += torch.tensor(meta.metrics["sums"], dtype=torch.float64).to(self._sums.device) * shares
        self._saved = self.state.position

    @property
    def _windows_seen(self) -> int:
        return self.state.step * self._plan.batch

    @property
    def samples_per_second(self) -> float | None:
        """Windows trained per second, over all ranks; None before the first log point of this attempt."""
        return self._speed.windows / self._speed.seconds if self._speed.seconds else None

    def train(self) -> State:
        """Trains what is left and returns the final state, which is saved.

        Raises Stopped after saving when any rank was asked to stop, Diverged, StorageError.
        """
        self._entered = self._clock() - self.state.seconds
        try:
            with _frozen_garbage():
                if self.state.initial_loss is None:
                    self._validate()
                while not self._finished():
                    self._train_epoch()
                    self._validate()
                    gc.collect()
            self._save()
        finally:
            self._saving.close()
        return self.state

    def _finished(self) -> bool:
        stopping = self._run.training.early_stopping
        exhausted = stopping is not None and self.state.validations_since_best >= stopping.patience
        return exhausted or self.state.epoch >= self._config.epochs

    def _train_epoch(self) -> None:
        """The steps of the current epoch that are left."""
        order = epoch_order(
            self._train_windows,
            seed=self._run.training.seed,
            stage=self._run.stage,
            epoch=self.state.epoch,
            limit=self._run.training.windows_per_epoch,
        )
        self._enter_training()
        done = self.state.step - self.state.epoch * self._steps_per_epoch
        for position in range(done, self._steps_per_epoch):
            windows = order[position * self._plan.batch : (position + 1) * self._plan.batch]
            if self._to_compile:
                self._compile_with(windows)
            else:
                self._train_step(windows)
            last = position + 1 == self._steps_per_epoch
            if last or (position + 1) % LOG_EVERY == 0:
                self._log(steps=position % LOG_EVERY + 1)
            self._progress.update(step=self.state.step)
            if not last:  # after the last step, the validation asks
                self._boundary("training")

    def _compile_with(self, windows: Tensor) -> None:
        """The first step, in which the model is compiled."""
        self._progress.phase("compiling")
        with heartbeat(self._progress.beat):
            self._train_step(windows)
        self._to_compile = False
        self._progress.phase("training")

    def _enter_training(self) -> None:
        self._progress.phase(
            "training",
            epoch=self.state.epoch + 1,
            epochs=self._config.epochs,
            step=self.state.step,
            steps=self._config.epochs * self._steps_per_epoch,
        )
        self._speed.start(self._clock(), self._windows_seen)

    def _train_step(self, windows: Tensor) -> None:
        """One update from a batch: window numbers [batch], of which every rank takes its parts."""
        self._step(self.state.step, windows)
        self.state.step += 1

    def _log(self, *, steps: int) -> None:
        """Reads the device's numbers over the last steps; only here and in checkpoints does the host wait for it."""
        loss, norm = (self._ranks.sum(self._sums.clone()) / (self._ranks.world * steps)).tolist()
        self._check_divergence()
        self._sums.zero_()
        self.state.train_loss = loss
        values = {
            "loss": loss,
            "learningRate": self._optimizer.learning_rate(self.state.step - 1),
            "gradientNorm": norm,
            "samplesPerSecond": self._speed.measure(self._clock(), self._windows_seen),
        }
        self._metrics.write(self.state.step, {"epoch": self.state.epoch + 1, **values})
        self._progress.update(
            loss=loss,
            learning_rate=values["learningRate"],
            gradient_norm=norm,
            samples_per_second=round(values["samplesPerSecond"], 1),
        )

    def _validate(self) -> None:
        """Scores the validation windows, and keeps the weights if they are the best. Epoch 0 is the start."""
        epoch = self.state.step // self._steps_per_epoch
        self._progress.phase("validating", epoch=epoch)
        windows, forecasts = self._validation_windows, self._task.forecasts
        values = {
            "validationLoss": self._mean(
                lambda part: self._task.score(windows[part.start : part.stop]),
                count=len(windows),
                size=validation_size(
                    length=self._run.window.length,
                    device=self._ranks.device.type,
                    windows=len(windows),
                    world=self._ranks.world,
                    out_of_memory_restarts=self._run.out_of_memory_restarts,
                ),
            )
        }
        selects = forecasts is None or self._selects(epoch)
        if forecasts is not None and selects:
            size = shared(len(forecasts), world=self._ranks.world, at_most=forecasts.together)
            values["crps"] = self._mean(forecasts.score, count=len(forecasts), size=size)
        for name, value in values.items():
            if not math.isfinite(value):
                what = "loss" if name == "validationLoss" else "CRPS"
                raise Diverged(
                    f"the validation {what} is {value} after epoch {epoch}, step {self.state.step}; {self._remedy()}"
                )
        self._check_divergence()
        best = self.state.validated(epoch, values["validationLoss"], values.get("crps"), selects=selects)
        peak = peak_gpu_bytes(self._ranks.device)
        self._metrics.write(
            self.state.step, {"epoch": epoch, **values} | ({} if peak is None else {"peakGpuBytes": peak})
        )
        self._progress.update(validation_loss=values["validationLoss"])
        if best:
            meta = self._meta()  # by all ranks
            self._ranks.on_first(lambda: self._saving.keep_best(meta))

    def _selects(self, epoch: int) -> bool:
        """Whether forecasts are scored after this epoch."""
        return epoch % self._run.training.select_every == 0 or epoch == self._config.epochs

    @torch.no_grad()
    def _mean(self, score: Callable[[range], Tensor | float], *, count: int, size: int) -> float:
        """Mean over `count` validation windows or forecasts, each scored by one rank, at most `size` of them at once.

        `score` returns the sum over those with the numbers of a range.
        """
        self._task.model.eval()
        shape = {"windows": count, "size": size, "world": self._ranks.world}
        total = torch.zeros((), dtype=torch.float64, device=self._ranks.device)
        for index in range(validation_rounds(**shape)):
            part = validation_part(index, self._ranks.rank, **shape)
            # Only upstreamExact draws: the same ids at every validation, so that its losses can be compared.
            torch.manual_seed(seed_of(self._run.training.seed, self._run.stage, "validation", index, self._ranks.rank))
            if part:
                total += score(part)
            self._progress.beat()
            self._boundary("validating")
        return self._ranks.sum(total).item() / count

    def _boundary(self, phase: Phase) -> None:
        """Where ranks agree to save or to stop, inside a phase. Raises Stopped on all of them after the same step."""
        due = self._ranks.rank == 0 and self._clock() - self._save_asked >= self._run.checkpoint.every_seconds
        if due:
            self._save_asked = self._clock()
        ballot = self._ranks.vote(stop=self._stop_requested(), save=due, failed=self._saving.failed)
        if ballot.failed:
            self._ranks.on_first(self._saving.finish)  # raises
        if ballot.stop:
            self._save()
            self._progress.phase(phase)  # says at once what is saved
            raise Stopped(
                "stopped on request before the first step; there was nothing to save"
                if self.state.step == 0
                else f"stopped on request after step {self.state.step}, which is saved; the same command resumes from "
                "there"
            )
        if ballot.save and self.state.position != self._saved:
            self._begin_saving()
        self._report_saved()

    def _begin_saving(self) -> None:
        """Has the state saved while training goes on."""
        self._check_divergence()
        began = self._clock()
        self.state.seconds = began - self._entered
        meta = self._meta()
        self._ranks.on_first(lambda: self._saving.begin(meta, self._metrics.sync))
        self._saved = self.state.position
        self._speed.pause(self._clock() - began)

    def _save(self) -> None:
        """Saves the state if it is not saved; no rank goes on before it is durable."""
        if self.state.position != self._saved:
            self._progress.phase("saving")
            self._begin_saving()
        self._ranks.on_first(self._saving.finish)
        self._report_saved()

    def _report_saved(self) -> None:
        if self._saving.step is not None:
            self._progress.update(checkpoint=self._saving.step)

    def _meta(self) -> Meta:
        sums = self._ranks.sum(self._sums.clone()).tolist()
        return self.state.meta(self._run, world=self._ranks.world, sums=sums, lines=self._metrics.lines)

    def _check_divergence(self) -> None:
        bad = self._optimizer.first_bad_step()
        if bad is not None:
            self._ranks.on_first(self._saving.finish)
            saved = f"the last checkpoint is of step {self._saved[0]}" if self._saved[0] else "nothing was saved before"
            raise Diverged(
                f"the gradient became NaN or infinite in step {bad + 1} (epoch {bad // self._steps_per_epoch + 1}); "
                f"{saved}. {self._remedy()}"
            )

    def _remedy(self) -> str:
        stage = self._run.stage
        remedy = f"Lower {stage}.learningRate or {stage}.gradientClip"
        exact = self._ranks.device.type == "cpu" or self._run.training.precision == "fp32"
        return remedy if exact else f"{remedy}, or set training.precision to fp32"


@contextmanager
def _frozen_garbage() -> Iterator[None]:
    """Garbage is collected where the block says so: a search through all that torch has imported takes as long as many
    steps."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
