"""One rank of one stage: `python -m kronos_trainer --run run.json`.

Ends with an exit code of kronos_trainer.config.ExitCode, and leaves it for the launcher.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kronos_trainer import threads
from kronos_trainer.arguments import Arguments
from kronos_trainer.config import ExitCode, load_run
from kronos_trainer.launch import rank_files
from kronos_trainer.stopping import StopSignal, end_process


def main(arguments: Sequence[str], stop_requested: StopSignal) -> int:
    """Trains the stage of a run.json as one rank and returns its exit code."""
    parser = Arguments(
        prog="python -m kronos_trainer",
        description="Train one stage of a run as one rank. `python -m kronos_trainer launch` starts all ranks.",
    )
    parser.add_argument("--run", type=Path, required=True, help="the run config of one stage")
    # Before Python 3.12, torchrun takes our --run for its own --run-path unless a "--" comes first, which it hands on.
    given = arguments[1:] if arguments[:1] == ["--"] else arguments
    try:
        run = load_run(parser.parse_args(given).run)
    except ValueError as error:
        print(error, file=sys.stderr)
        return ExitCode.CONFIG

    # Imported late, so that a mistake in run.json is reported at once.
    threads.sleep_while_waiting(os.environ)  # the launcher has done so; other programs start ranks as well
    from kronos_trainer.device_memory import is_lack_of_memory
    from kronos_trainer.errors import Stopped, TrainerError
    from kronos_trainer.storage.durable import storing_anywhere
    from kronos_trainer.training.distributed import Ranks, is_loss_of_peer
    from kronos_trainer.training.progress import Progress
    from kronos_trainer.training.train import train_stage

    progress = Progress(run, silent=os.environ.get("RANK", "0") != "0")
    try:
        ranks = Ranks.join(gpu_required=run.gpu_required)
        try:
            with storing_anywhere(Path(run.output)):
                train_stage(
                    run,
                    ranks,
                    progress=progress,
                    # A command that was killed has left this process behind: it saves, and makes way for the next.
                    stop_requested=lambda: stop_requested() or progress.unheard,
                    on_training=rank_files.leave_trains,
                )
        except Stopped:
            ranks.leave()  # all ranks stop together
            raise
        ranks.leave()
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
    return ExitCode.DONE


def end(code: int) -> NoReturn:
    """Leaves the exit code for the launcher and ends this process."""
    rank_files.leave_exit_code(code)
    end_process(code)
