"""The one training loop, for every net: steps, validations, checkpoints, and an end that all ranks agree on.

Everything that decides what is computed next is a function of the step, so a stage that was interrupted at any
moment goes on as if it had not been, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from kronos_trainer.config import RunConfig
from kronos_trainer.data.windows import epoch_order
from kronos_trainer.device_memory import peak_gpu_bytes
from kronos_trainer.errors import Diverged, Stopped
from kronos_trainer.storage.checkpoint import Meta, Restored
from kronos_trainer.training.batching import BatchPlan, validation_part, validation_rounds
from kronos_trainer.training.distributed import Ranks
from kronos_trainer.training.heartbeat import heartbeat
from kronos_trainer.training.metrics import Metrics
from kronos_trainer.training.optimizer import Optimizer
from kronos_trainer.training.progress import Phase, Progress
from kronos_trainer.training.seeding import seed_of
from kronos_trainer.training.state import Speed, State
from kronos_trainer.training.task import Task

LOG_EVERY = 10  # optimizer steps between two looks at the device's numbers
VALIDATION_FACTOR = 4  # validation batches are this much larger: without gradients they need less memory


class Save(Protocol):
    """Makes a state durable. Called on rank 0."""

    def __call__(
        self, *, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any], meta: Meta, best: bool
    ) -> None: ...


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
        self._save_state = save
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
        # Validation uses the bare model: it shares its weights with these two.
        compiled = cast(nn.Module, torch.compile(task.model)) if run.training.compile else task.model
        self._wrapped = ranks.wrap(compiled)
        self._to_compile = run.training.compile
        # Loss and gradient norm summed since the last log line. They stay on the device until then.
        self._sums = torch.zeros(2, dtype=torch.float64, device=ranks.device)
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
        if self.state.initial_loss is None:
            self._validate()
        while not self._finished():
            self._train_epoch()
            self._validate()
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
        self._task.model.train()
        self._optimizer.zero_grad()
        micro_steps = self._plan.micro_steps
        for micro_step in range(micro_steps):
            torch.manual_seed(
                seed_of(self._run.training.seed, self._run.stage, self.state.step, micro_step, self._ranks.rank)
            )
            part = windows[self._plan.part(micro_step, self._ranks.rank)]
            with self._ranks.accumulating(self._wrapped, last=micro_step + 1 == micro_steps):
                loss = self._task.loss(self._wrapped, part) / micro_steps
                loss.backward()  # type: ignore[no-untyped-call]
            self._sums[0] += loss.detach()
        self._sums[1] += self._optimizer.step(self.state.step)
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
        """Scores the validation windows and saves the state, as the best if it is. Epoch 0 is the start."""
        epoch = self.state.step // self._steps_per_epoch
        self._progress.phase("validating", epoch=epoch)
        windows, forecasts = self._validation_windows, self._task.forecasts
        values = {
            "validationLoss": self._mean(
                lambda part: self._task.score(windows[part.start : part.stop]),
                count=len(windows),
                size=self._plan.micro * VALIDATION_FACTOR,
            )
        }
        selects = forecasts is None or self._selects(epoch)
        if forecasts is not None and selects:
            share = -(-len(forecasts) // self._ranks.world)
            values["crps"] = self._mean(forecasts.score, count=len(forecasts), size=min(share, forecasts.together))
        for name, value in values.items():
            if not math.isfinite(value):
                what = "loss" if name == "validationLoss" else "CRPS"
                raise Diverged(
                    f"the validation {what} is {value} after epoch {epoch}, step {self.state.step}; {self._remedy()}"
                )
        best = self.state.validated(epoch, values["validationLoss"], values.get("crps"), selects=selects)
        peak = peak_gpu_bytes(self._ranks.device)
        self._metrics.write(
            self.state.step, {"epoch": epoch, **values} | ({} if peak is None else {"peakGpuBytes": peak})
        )
        self._progress.update(validation_loss=values["validationLoss"])
        self._save(best=best)

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
        ballot = self._ranks.vote(stop=self._stop_requested(), save=due)
        if (ballot.stop or ballot.save) and self.state.position != self._saved:
            self._save(best=False)
            self._progress.phase(phase)
        if ballot.stop:
            raise Stopped(
                "stopped on request before the first step; there was nothing to save"
                if self.state.step == 0
                else f"stopped on request after step {self.state.step}, which is saved; the same command resumes from "
                "there"
            )

    def _save(self, *, best: bool) -> None:
        """Saves the state; no rank goes on before it is durable."""
        self._check_divergence()
        sums = self._ranks.sum(self._sums.clone()).tolist()
        began = self._clock()
        self.state.seconds = self._clock() - self._entered
        self._progress.phase("saving")
        self._ranks.on_first(lambda: self._write(sums, best))
        self._saved = self.state.position
        self._speed.pause(self._clock() - began)

    def _write(self, sums: list[float], best: bool) -> None:
        meta = self.state.meta(self._run, world=self._ranks.world, sums=sums, lines=self._metrics.sync())
        self._save_state(
            weights=self._task.model.state_dict(), optimizer=self._optimizer.state_dict(), meta=meta, best=best
        )

    def _check_divergence(self) -> None:
        bad = self._optimizer.first_bad_step()
        if bad is not None:
            raise Diverged(
                f"the gradient became NaN or infinite in step {bad + 1} (epoch {bad // self._steps_per_epoch + 1}); "
                f"the last checkpoint is of step {self._saved[0]}. {self._remedy()}"
            )

    def _remedy(self) -> str:
        stage = self._run.stage
        remedy = f"Lower {stage}.learningRate or {stage}.gradientClip"
        exact = self._ranks.device.type == "cpu" or self._run.training.precision == "fp32"
        return remedy if exact else f"{remedy}, or set training.precision to fp32"
