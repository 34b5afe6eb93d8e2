"""A rank's part in one stage, and how that ends: what it reports of it and its exit code. Called by `rank`."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from pathlib import Path

import torch

from kronos_trainer.config import ExitCode, RunConfig
from kronos_trainer.device_memory import is_lack_of_memory
from kronos_trainer.errors import Stopped, TrainerError
from kronos_trainer.launch import rank_files
from kronos_trainer.stopping import StopSignal
from kronos_trainer.storage.durable import storing_anywhere
from kronos_trainer.training.distributed import Ranks, is_loss_of_peer
from kronos_trainer.training.progress import Progress
from kronos_trainer.training.train import train_stage


class StageRank:
    """A stage of which this process is a rank. `ranks` is there once it has met the others."""

    def __init__(self, run: RunConfig, stop_requested: StopSignal) -> None:
        self.ranks: Ranks | None = None
        self._run = run
        self._stop_requested = stop_requested
        self._progress = Progress(run, silent=os.environ.get("RANK", "0") != "0")

    def train(self, met: Ranks | None) -> int:
        """Trains the stage and returns the exit code. `met`: the others, where an earlier stage has met them."""
        run, progress = self._run, self._progress
        try:
            self.ranks = met or Ranks.join(gpu_required=run.gpu_required)
            try:
                with storing_anywhere(Path(run.output)):
                    if met is not None:
                        self._go_on(met)
                    train_stage(
                        run,
                        self.ranks,
                        progress=progress,
                        stop_requested=self._stops,
                        on_training=rank_files.leave_trains,
                    )
            except Stopped:
                self.ranks.leave()  # all ranks stop together
                raise
            self.ranks.leave()
        except TrainerError as error:
            # Other errors occur on every rank, and rank 0 reports them; this one may be known to this rank alone.
            speaker = Progress(run) if is_lack_of_memory(error.__cause__) else progress
            speaker.error(error.exit_code, str(error), cause=error.cause)
            print(f"{run.model.name} {run.stage}: {error}", file=sys.stderr)
            return error.exit_code
        except Exception as error:
            if is_lack_of_memory(error):  # NCCL's is a failure of a connection, too
                message = f"out of GPU memory: {error}; do other processes use the GPU? nvidia-smi lists them"
                Progress(run).error(ExitCode.OUT_OF_MEMORY, message)
                traceback.print_exc()
                return ExitCode.OUT_OF_MEMORY
            if is_loss_of_peer(error):
                message = "this rank lost the connection to another rank"
                # Not printed as the cause: the other rank knows it.
                Progress(run, silent=True).error(ExitCode.CRASHED, message)
                print(f"{run.model.name} {run.stage}: {message}", file=sys.stderr)
                return ExitCode.CRASHED
            Progress(run).error(ExitCode.CRASHED, f"{type(error).__name__}: {error}")
            traceback.print_exc()
            return ExitCode.CRASHED
        if progress.noted_everywhere:
            # What a stage has found out about Comet, the next one need not find out again.
            os.environ["COMET_MODE"] = "disabled"
        return ExitCode.DONE

    def _stops(self) -> bool:
        # A command that was killed has left this process behind: it saves, and makes way for the next.
        return self._stop_requested() or self._progress.unheard

    def _go_on(self, ranks: Ranks) -> None:
        """Begins like a new process: with free memory, and not at all after a stop."""
        gc.collect()
        if ranks.device.type == "cuda":
            torch.cuda.empty_cache()
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        self._progress.phase("starting")
        ranks.together(self._refuse_if_stopped)

    def _refuse_if_stopped(self) -> None:
        if self._stops():
            raise Stopped("stopped on request before training began; there was nothing to save")
